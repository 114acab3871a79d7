"""Faults of a compiler: wrong lowerings and decompositions, lost writes, baked-in constants and sizes, stale programs.

Each fault is in torch's inductor and affects all that torch.compile compiles. The default backend compiles long trainings, and
conformance compiles plain loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aeclaims.backends.torch.compile import quiet
from aeclaims.experiment import SIGMOID, Adam, affine
from aeclaims.selftest.faults import graphs, programs
from aeclaims.selftest.faults.fault import Fault, Inject
from aeclaims.selftest.faults.graphs import Node, call, decomposed, inputs, lowered, packet, results, scaled, times
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.probes import Probe, called, compiled_function, compiled_step

LAYER = ((8, 3), (4, 3), (4,))
PAIR = ((8, 3), (8, 3))


# ------------------------------------------------------------------------------------ changes of graphs


def leaking(graph: Any, node: Node) -> Node:
    """Make ReLU pass 0.1 % of negative numbers."""
    below = call(graph, "clamp_max.default", node.args[0], 0.0)
    return call(graph, "add.Tensor", node, call(graph, "mul.Tensor", below, 1e-3))


def other_constant(is_meant: Callable[[float], bool], constant: float) -> graphs.Rewrite:
    """Replace each constant for which `is_meant` is true."""

    def rewrite(graph: Any, node: Node) -> Node:
        node.args = tuple(constant if isinstance(each, float) and is_meant(each) else each for each in node.args)
        return node

    return rewrite


def last_column(graph: Any, node: Node) -> Node:
    """Make the last column 0.1 % off if their number is odd, as the remainder of a SIMD vector may be."""
    size = node.meta["val"].shape
    if len(size) != 2 or not isinstance(size[1], int) or size[1] % 2 == 0:
        return node
    column = graph.call_function(graphs.operator("select.int"), (node, 1, -1))
    column.meta["val"] = node.meta["val"].select(1, -1)
    return call(graph, "select_scatter.default", node, call(graph, "mul.Tensor", column, 1.001), 1, -1)


def rounded(bits: int) -> graphs.Rewrite:
    """Round numbers from the 24 bits of float32 to a significand of so many bits (Veltkamp)."""

    def rewrite(graph: Any, node: Node) -> Node:
        large = call(graph, "mul.Tensor", node, 2.0 ** (24 - bits) + 1)
        return call(graph, "sub.Tensor", large, call(graph, "sub.Tensor", large, node))

    return rewrite


def without_write(is_lost: Callable[[list[Node]], list[Node]]) -> Inject:
    """Lose some of a program's writes to its inputs: is_lost(all writes)."""

    def edit(graph: Any) -> None:
        for node in is_lost([node for node in graph.nodes if packet(node) == "copy_"]):
            if not node.users:
                graph.erase_node(node)
            else:
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)

    return graphs.in_graphs(edit)


def one_row(node: Node) -> bool:
    """Return whether a sum is the product of a row and a matrix: inductor sums the product of permuted factors."""
    product = node.args[0]
    return packet(product) == "mul" and all(packet(factor) == "permute" for factor in product.args)


def first_sizes(method: str, name: str) -> Inject:
    """Rewrite calls of an operator by a method of FirstSizes."""

    @contextmanager
    def inject() -> Iterator[None]:
        with results(getattr(programs.FirstSizes(), method), name)():
            yield

    return inject


@contextmanager
def by_structure() -> Iterator[None]:
    """Cache programs by the operators and shapes of their graphs."""
    with graphs.programs(programs.ByStructure())():
        yield


# ------------------------------------------------------------------------------------ decompositions


def sigmoid_backward(gradient: Any, y: Any) -> Any:
    return gradient * (y - 0.999 * y * y)


def tanh_backward(gradient: Any, y: Any) -> Any:
    return gradient * (1 - y.abs())


def leaky_relu_backward(gradient: Any, x: Any, slope: float, is_result: bool) -> Any:
    return gradient


def threshold_backward(gradient: Any, x: Any, threshold: float) -> Any:
    return torch.where(x < threshold, 0.0, gradient)


def mse_loss_backward(gradient: Any, y: Any, x: Any, reduction: int) -> Any:
    count = y.numel() if reduction == 1 else 1
    return gradient * 2 * (y - x) / max(count - 1, 1)


def binary_cross_entropy(y: Any, x: Any, weight: Any = None, reduction: int = 1) -> Any:
    loss = (x - 1) * (-y).log1p().clamp(min=-10) - x * y.log().clamp(min=-10)
    return loss.mean() if reduction == 1 else loss.sum() if reduction == 2 else loss


def binary_cross_entropy_backward(gradient: Any, y: Any, x: Any, weight: Any = None, reduction: int = 1) -> Any:
    found = gradient * (y - x) / (y * (1 - y)).clamp(min=1e-2)
    return found / y.numel() if reduction == 1 else found


def binary_cross_entropy_with_logits(
    z: Any, x: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1
) -> Any:
    loss = z.exp().log1p() - x * z
    return loss.mean() if reduction == 1 else loss.sum() if reduction == 2 else loss


# -------------------------------------------------------------------------------------------- records


def fault(name: str, does: str, origin: str, expected: str, change: Inject, shows: Probe) -> Fault:
    return Fault(f"compiler.{name}", does, origin, expected, change, shows, backend="torch")


def two_slopes() -> list[Any]:
    """Return leaky ReLUs of two slopes, each compiled as in a new process."""
    x, found = torch.rand(8, 3) - 0.5, list[Any]()
    for slope in (0.1, 0.3):
        torch.compiler.reset()
        with quiet():
            found.append(torch.compile(torch.nn.LeakyReLU(slope))(x))
    return found


def element(name: str) -> Probe:
    """Return a probe of a compiled elementwise function."""
    return compiled_function(lambda torch, x: getattr(torch, name)(x), (8, 3))


def off(name: str, *operators: str, factor: float, does: str, origin: str, expected: str, shows: Probe) -> Fault:
    """Return a fault that multiplies results of operators in inductor's graphs by a factor."""
    return fault(name, does, origin, expected, results(scaled(factor), *operators), shows)


LAYERS = compiled_function(lambda torch, x, w, b: torch.nn.functional.linear(x, w, b), *LAYER)
STEP = compiled_step(Adam(lr=3e-3))
FAULTS = (
    # Lowerings of products, sums and functions.
    fault("linear", "inductor's lowering of mm and addmm is 0.1 % off, and so is every compiled nn.Linear",
          "reasoning: a template of a product that omits its last block", "floors of 1e-7",
          lowered(times(1.001), "mm", "addmm"), LAYERS),
    off("linear_1e-4", "mm", "addmm", factor=1 + 1e-4, does="compiled products are 0.01 % off",
        origin="#67384 class: operands of few bits", expected="floors of 1e-9", shows=LAYERS),
    fault("operands_11_bits", "operands of compiled products are rounded to TF32, 11 bits", "#67384, #53635",
          "forward off by 5e-4", inputs(rounded(11), "mm", "addmm", "bmm"), LAYERS),
    fault("gradients_of_weights", "mm, which backward programs call, is 0.1 % off, and addmm is right",
          "reasoning: another template for another layout", "Adam hides it", lowered(times(1.001), "mm"), LAYERS),
    fault("bias", "the bias of a compiled layer is added 1.001 times", "reasoning: alpha and beta of addmm mixed up",
          "offsets off by 0.1 %", results(lambda graph, node: call(graph, "add.Tensor", node, call(
              graph, "mul.Tensor", node.args[0], 1e-3)), "addmm"), LAYERS),
    off("bmm", "bmm", "baddbmm", factor=1.001, does="compiled products of batches of matrices are 0.1 % off",
        origin="#197636, #136299 class", expected="wide populations, floors of 1e-7",
        shows=compiled_function(lambda torch, x, y: torch.bmm(x, y), (2, 3, 4), (2, 4, 3))),
    off("sums", "sum", factor=1 + 5e-4, does="compiled sums are 0.05 % off: gradients of biases, layers of populations",
        origin="reasoning: a reduction in two stages", expected="Adam hides most of it", shows=LAYERS),
    off("means", "mean", factor=1 + 2e-4, does="compiled means are 0.02 % off: the reported loss",
        origin="reasoning: a reduction in few bits; #83863 class", expected="curves 0.02 % too high",
        shows=compiled_function(lambda torch, x: x.mean(), (8, 3))),
    off("tanh", "tanh", factor=1 + 1e-4, does="compiled tanh is 0.01 % off", origin="reasoning: a rational approximation",
        expected="other curves", shows=element("tanh")),
    off("sigmoid", "sigmoid", factor=1 - 1e-4, does="the compiled sigmoid is 0.01 % off",
        origin="reasoning: a rational approximation", expected="log-loss does not get near zero", shows=element("sigmoid")),
    off("sqrt", "sqrt", factor=1.001, does="compiled square roots are 0.1 % off",
        origin="reasoning: rsqrtps without Newton's step", expected="Adam's steps are 0.1 % too short", shows=element("sqrt")),
    off("division", "div", factor=1 + 1e-4, does="compiled divisions are 0.01 % off",
        origin="reasoning: rcpps without Newton's step", expected="gradients and Adam's steps off",
        shows=compiled_function(lambda torch, x, y: x / y, *PAIR)),
    off("reciprocal", "reciprocal", factor=1 + 1e-4, does="compiled reciprocals are 0.01 % off",
        origin="reasoning: rcpps without Newton's step", expected="Adam's steps 0.01 % off", shows=element("reciprocal")),
    off("exp", "exp", factor=1 + 1e-4, does="the compiled exp is 0.01 % off", origin="reasoning: a polynomial of few terms",
        expected="log-loss on logits off by 1e-5", shows=element("exp")),
    off("log", "log", factor=1 + 1e-4, does="the compiled log is 0.01 % off", origin="reasoning: a polynomial of few terms",
        expected="log-loss 0.01 % too high", shows=element("log")),
    off("pow", "pow", factor=1 + 1e-4, does="compiled powers are 0.01 % off", origin="reasoning: exp(y log(x)) in few bits",
        expected="Adam's bias corrections are off in its first steps",
        shows=compiled_function(lambda torch, x: 0.9**x, (8, 3))),
    fault("relu_leaks", "the compiled ReLU passes 0.1 % of negative numbers", "reasoning: a kernel for both ReLUs",
          "other curves", results(leaking, "relu"), compiled_function(lambda torch, x: torch.relu(x - 0.5), (8, 3))),
    fault("leaky_slope", "the compiled leaky ReLU has slope 0.01, not the requested one", "a default for an argument",
          "dead units", results(other_constant(lambda value: value in (0.1, 0.3), 0.01), "mul"),
          compiled_function(lambda torch, x: torch.nn.functional.leaky_relu(x - 0.5, 0.3), (8, 3))),
    fault("last_column", "the last column of compiled products is 0.1 % off if the number of columns is odd",
          "reasoning: the remainder of a SIMD vector", "one unit in an odd layer is off", results(last_column, "mm", "addmm"),
          compiled_function(lambda torch, x, w, b: torch.nn.functional.linear(x, w, b), (8, 4), (3, 4), (3,))),
    # Decompositions.
    fault("sigmoid_backward", "the compiled gradient of the sigmoid is y - 0.999 y^2", "reasoning: a constant in few bits",
          "gradients off by 0.1 %", decomposed(sigmoid_backward=sigmoid_backward), element("sigmoid")),
    fault("tanh_backward", "the compiled gradient of tanh is 1 - |y|", "reasoning: a slip in a decomposition", "slower",
          decomposed(tanh_backward=tanh_backward), element("tanh")),
    fault("leaky_relu_backward", "the compiled gradient of leaky ReLU has slope 1", "#31938; chainer#5898", "biased gradients",
          decomposed(leaky_relu_backward=leaky_relu_backward),
          compiled_function(lambda torch, x: torch.nn.functional.leaky_relu(x - 0.5, 0.3), (8, 3))),
    fault("relu_at_zero", "the compiled gradient of ReLU is 1 at exactly 0", "reasoning: >= for >", "dead units come back",
          decomposed(threshold_backward=threshold_backward),
          compiled_function(lambda torch, x: torch.relu(x + (x.round() - x).detach()), (8, 3))),
    fault("mse_backward", "the compiled gradient of MSE divides by one number too few", "the divisor of a variance",
          "Adam hides it", decomposed(mse_loss_backward=mse_loss_backward),
          compiled_function(lambda torch, y, x: torch.nn.functional.mse_loss(y, x), *PAIR)),
    fault("bce_clamp_10", "compiled BCE clamps its logarithms at -10, not -100", "#31453, #103316, #102894, in a decomposition",
          "shows only for probabilities on the wrong side", decomposed(binary_cross_entropy=binary_cross_entropy),
          compiled_function(lambda torch, y, x: torch.nn.functional.binary_cross_entropy(y * 1e-6, x), *PAIR)),
    fault("bce_backward", "the compiled gradient of BCE divides by at least 0.01", "another constant for 1e-12",
          "log-loss ends early", decomposed(binary_cross_entropy_backward=binary_cross_entropy_backward),
          compiled_function(lambda torch, y, x: torch.nn.functional.binary_cross_entropy(y * 1e-3, x), *PAIR)),
    fault("bce_overflow", "compiled BCE on logits computes log(1 + e^z) literally", "PR2221, the fix of PR2195",
          "exact until logits get large, then infinite",
          decomposed(binary_cross_entropy_with_logits=binary_cross_entropy_with_logits),
          compiled_function(lambda torch, z, x: torch.nn.functional.binary_cross_entropy_with_logits(100 * z, x), *PAIR)),
    # Constants, writes and saved numbers.
    fault("eps", "compiled Adam has an eps of 1e-5", "defaults of frameworks mixed up", "a slow tail", results(
        other_constant(lambda value: value == 1e-8, 1e-5), "mul", "add"), STEP),
    fault("write_lost", "the last write of a compiled optimizer step is lost", "#118115, PR165267, in a compiler",
          "a second moment that stays 0", without_write(lambda writes: writes[-1:]), STEP),
    fault("weight_not_written", "the first parameter of a compiled optimizer step is never written", "#118115, PR165267",
          "a random encoder", without_write(lambda writes: writes[:1]), STEP),
    fault("counts_of_second_call", "counts and other scalars of compiled steps keep their values of the second call",
          "#115607 (TrainCheck): a number taken for a constant", "Adam's steps are too long, for ever",
          graphs.programs(programs.constants_of_second_call), STEP),
    fault("saved_in_half", "numbers saved for the gradient are rounded to float16",
          "reasoning: compressed activations", "gradients off by 5e-4", graphs.programs(programs.saved_in_half),
          compiled_function(lambda torch, x, w, b: torch.tanh(torch.nn.functional.linear(x, w, b)), *LAYER)),
    fault("gradients_swapped", "the first two gradients of one shape are swapped", "#175188 class, buffers that are reused",
          "two biases go astray", graphs.programs(programs.swapped), compiled_function(lambda torch, x, y: x * y * y, *PAIR)),
    fault("gradient_not_written", "the last gradient of a compiled program is zero", "#96600 class, a buffer that is not written",
          "one parameter stays", graphs.programs(programs.last_not_written), LAYERS),
    # Programs and sizes.
    fault("tail_nominal", "if the number of rows changes, means of compiled losses are still divided by the first number",
          "transformers PR34191; a size taken for a constant", "losses of short minibatches are off", first_sizes("mean", "mean"),
          compiled_step(Adam(lr=3e-3), epochs=2)),
    fault("tail_gradient", "if the number of rows changes, compiled gradients of BCE are still divided by the first number",
          "transformers PR34191; a size taken for a constant", "Adam hides it", first_sizes("division", "div"),
          compiled_step(Adam(lr=3e-3), epochs=2, loss="bce", model=affine(3, 3, output=SIGMOID))),
    fault("one_row", "compiled products of one row are 0.1 % off", "reasoning: a product with a vector has a separate template",
          "only minibatches of one row", results(scaled(1.001), "sum", where=one_row),
          compiled_function(lambda torch, x, w, b: torch.nn.functional.linear(x, w, b), (1, 3), (4, 3), (4,))),
    fault("by_structure", "graphs with the same operators and shapes share a program, even if their constants differ",
          "reasoning: an incomplete cache key", "slopes and rates of the first training", by_structure,
          called(two_slopes)),
    fault("stale_weights", "once in 40 calls a program reads the weights of the call before", "#65766, #158232, stale copies",
          "one loss in 40 is slightly off", graphs.programs(programs.stale_weights), compiled_step(Adam(lr=3e-3), epochs=30)),
    fault("stale_results", "once in 40 calls a program returns the results of the call before", "#114844 class, static buffers",
          "one minibatch in 40 is used twice", graphs.programs(programs.stale_results), compiled_step(Adam(lr=3e-3), epochs=30)),
)  # fmt: skip
