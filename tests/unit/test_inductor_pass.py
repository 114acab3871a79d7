"""The pass that lowers small products, on graphs of its own."""

import pytest


@pytest.fixture
def torch():
    """torch, which is not imported where no test needs it."""
    import torch

    return torch


def lowered(function, *tensors):
    """The function's graph on such tensors, after the pass."""
    from torch.fx.experimental.proxy_tensor import make_fx

    from aeclaims.backends.inductor_pass import MinibatchLast

    module = make_fx(function, tracing_mode="fake")(*tensors)
    MinibatchLast()(module.graph)
    module.graph.lint()
    module.recompile()
    return module


def layer_and_gradients(rows, weight):
    """An affine layer's outputs through a ReLU, then products as the backward pass has them."""
    import torch

    outputs = torch.relu(torch.bmm(rows, weight))
    return outputs, torch.bmm(outputs, weight.mT), torch.bmm(rows.mT, outputs)


@pytest.mark.parametrize(("inputs", "outputs", "left"), [(5, 3, 0), (2, 2, 0), (32, 32, 0), (33, 40, 3)],
                         ids=["small", "smallest", "still small", "wide"])
def test_small_products_are_lowered_to_the_same_values_and_wide_ones_are_left_to_blas(torch, inputs, outputs, left):
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(4, 64, inputs, dtype=torch.float64, generator=generator)
    weight = torch.rand(4, inputs, outputs, dtype=torch.float64, generator=generator) - 0.5
    module = lowered(layer_and_gradients, rows, weight)
    assert len(module.graph.find_nodes(op="call_function", target=torch.ops.aten.bmm.default)) == left
    for found, expected in zip(module(rows, weight), layer_and_gradients(rows, weight), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_what_products_read_lies_in_memory_once_with_the_minibatch_last(torch):
    rows, weight = torch.rand(4, 64, 5), torch.rand(4, 5, 3)
    module = lowered(layer_and_gradients, rows, weight)
    stored = module.graph.find_nodes(op="call_function", target=torch.ops.aten.as_strided.default)
    # The rows, the two products that are no weight's gradient, and the ReLU's outputs, which two products read.
    assert [tuple(node.meta["val"].shape) for node in stored] == [(4, 5, 64), (4, 3, 64), (4, 3, 64), (4, 5, 64)]
    assert all(node.meta["val"].is_contiguous() for node in stored)


def test_what_a_step_writes_to_is_written_to(torch):
    def descend(rows, weight):
        weight.copy_(weight - torch.bmm(rows.mT, torch.bmm(rows, weight)))

    # As tall as the minibatch is long.
    rows, weight = torch.rand(4, 5, 5, dtype=torch.float64), torch.rand(4, 5, 3, dtype=torch.float64)
    module = lowered(descend, rows, weight)
    found, expected = weight.clone(), weight.clone()
    module(rows, found)
    descend(rows, expected)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
