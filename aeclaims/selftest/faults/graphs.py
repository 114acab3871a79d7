"""Patches of torch's compiler: lowerings, decompositions, graphs of ATen operators, and compiled programs.

This module uses private names of torch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from aeclaims.selftest.faults.fault import Inject
from aeclaims.selftest.faults.lazy_imports import torch
from aeclaims.selftest.faults.patches import replaced

Node = Any  # torch.fx.Node
# From a graph and one of its nodes to the node that replaces it: (graph, node) -> node.
Rewrite = Callable[[Any, Node], Node]
# A compiled program: a function from a list of tensors to a sequence of tensors.
Program = Callable[[list[Any]], Any]


def scaled(factor: float) -> Rewrite:
    """Return a rewrite that multiplies a result by a factor."""
    return lambda graph, node: call(graph, "mul.Tensor", node, factor)


def call(graph: Any, name: str, *arguments: Any) -> Node:
    """Add a node that calls an ATen overload, with the shape and dtype of its first argument."""
    node = graph.call_function(operator(name), arguments)
    node.meta.update({key: value for key, value in arguments[0].meta.items() if key == "val"})
    return node


def operator(name: str) -> Any:
    """Return the ATen overload of a name such as "mul.Tensor"."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def packet(node: Node) -> str:
    """Return the name of the ATen operator that a node calls, such as "mul"; empty if it calls none."""
    return str(node.target).split(".")[1] if node.op == "call_function" and str(node.target).startswith("aten.") else ""


def in_graphs(edit: Callable[[Any], None]) -> Inject:
    """Apply `edit` to each graph after the passes of inductor."""

    @contextmanager
    def inject() -> Iterator[None]:
        from torch._inductor import config

        with config.patch(post_grad_custom_post_pass=edit):
            yield

    return inject


def results(rewrite: Rewrite, *names: str, where: Callable[[Node], bool] = lambda node: True) -> Inject:
    """Rewrite calls of ATen operators in inductor's graphs, if `where` accepts them."""

    def edit(graph: Any) -> None:
        for node in list(graph.nodes):
            if packet(node) in names and where(node):
                known = set(graph.nodes)
                with graph.inserting_after(node):
                    new = rewrite(graph, node)
                if new is not node:
                    node.replace_all_uses_with(new, delete_user_cb=lambda user, known=known: user in known)

    return in_graphs(edit)


def inputs(rewrite: Rewrite, *names: str) -> Inject:
    """Rewrite the inputs of ATen operators in inductor's graphs."""

    def edit(graph: Any) -> None:
        for node in list(graph.nodes):
            if packet(node) in names:
                with graph.inserting_before(node):
                    node.args = tuple(rewrite(graph, each) if hasattr(each, "meta") else each for each in node.args)

    return in_graphs(edit)


def lowered(change: Callable[[Any], Any], *names: str) -> Inject:
    """Apply `change`, from one buffer to another, after inductor's lowerings of ATen overloads."""

    @contextmanager
    def inject() -> Iterator[None]:
        from torch._inductor.lowering import lowerings

        def changed(stock: Any) -> Any:
            return lambda *args, **kwargs: change(stock(*args, **kwargs))

        with mock.patch.dict(lowerings, {operator(name): changed(lowerings[operator(name)]) for name in names}):
            yield

    return inject


def times(factor: float) -> Callable[[Any], Any]:
    """Return the lowering of a multiplication by a constant."""

    def multiply(buffer: Any) -> Any:
        from torch._inductor import lowering

        return lowering.mul(buffer, factor)

    return multiply


def decomposed(**decompositions: Callable[..., Any]) -> Inject:
    """Replace inductor's decompositions of ATen operators, given by name."""

    @contextmanager
    def inject() -> Iterator[None]:
        from torch._inductor import decomposition

        changed = {operator(name): function for name, function in decompositions.items()}
        with (
            mock.patch.dict(decomposition.decompositions, changed),
            mock.patch.dict(decomposition.fast_random_decomps(), changed),
        ):
            yield

    return inject


def programs(change: Callable[[Program, Any, dict[str, Any]], Program]) -> Inject:
    """Replace each program of inductor by change(program, graph, settings), with settings such as is_backward."""

    def compiling(stock: Any) -> Any:
        def compile_graph(module: Any, examples: Any, *rest: Any, **settings: Any) -> Any:
            made = stock(module, examples, *rest, **settings)
            if hasattr(made, "current_callable"):
                made.current_callable = change(made.current_callable, module.graph, settings)
            return made

        return compile_graph

    return replaced(compiling, "torch._inductor.compile_fx._compile_fx_inner")
