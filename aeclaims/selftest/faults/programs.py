"""Changes of compiled programs: stale inputs, lost writes, results of other calls, sizes and constants that were baked in."""

from __future__ import annotations

from typing import Any

from aeclaims.selftest.faults.graphs import Node, Program, call, operator, packet
from aeclaims.selftest.faults.lazy_imports import torch


def copies(tensors: Any) -> list[Any]:
    """Copies of the tensors in a list; other values as they are."""
    return [each.detach().clone() if isinstance(each, torch.Tensor) else each for each in tensors]


def stale_weights(program: Program, graph: Any, settings: dict[str, Any]) -> Program:
    """One call in 40 reads the parameters of the call before."""
    calls, before = 0, dict[int, Any]()

    def run(inputs: list[Any]) -> Any:
        nonlocal calls, before
        calls += 1
        own = {
            place: inputs[place].detach().clone()
            for place in settings["static_input_idxs"]
            if isinstance(inputs[place], torch.Tensor)
        }
        for place, old in before.items() if calls % 40 == 0 and not writes(graph) else ():
            inputs[place] = old if old.shape == inputs[place].shape else inputs[place]
        before = own
        return program(inputs)

    return run


def writes(graph: Any) -> bool:
    """Whether a program writes to its inputs."""
    return any(packet(node) == "copy_" or "auto_functionalized" in str(node.target) for node in graph.nodes)


def stale_results(program: Program, graph: Any, settings: dict[str, Any]) -> Program:
    """One call in 40 of a forward program returns the results of the call before with those shapes."""
    calls, before = 0, dict[Any, Any]()

    def run(inputs: list[Any]) -> Any:
        nonlocal calls
        calls += 1
        shapes = tuple(tuple(each.shape) if isinstance(each, torch.Tensor) else each for each in inputs)
        if calls % 40 or shapes not in before or writes(graph) or settings.get("is_backward"):
            before[shapes] = program(inputs)
        else:
            inputs.clear()
        return tuple(copies(before[shapes]))

    return run


def constants_of_second_call(program: Program, graph: Any, settings: dict[str, Any]) -> Program:
    """From the second call on, inputs without axes are those of the second call, and writes to them are lost."""
    calls, kept = 0, dict[int, Any]()

    def run(inputs: list[Any]) -> Any:
        nonlocal calls
        calls += 1
        for place, each in enumerate(inputs):
            if calls >= 2 and isinstance(each, torch.Tensor) and each.dim() == 0 and not each.requires_grad:
                inputs[place] = kept.setdefault(place, each.detach().clone()).clone()
        return program(inputs)

    return run


def swapped(program: Program, graph: Any, settings: dict[str, Any]) -> Program:
    """The first two gradients of one shape are returned in each other's place."""

    def run(inputs: list[Any]) -> Any:
        found = list(program(inputs))
        if settings.get("is_backward"):
            shapes = [getattr(each, "shape", None) for each in found]
            pairs = [
                (one, other)
                for one, shape in enumerate(shapes)
                for other in range(one + 1, len(shapes))
                if shape is not None and shape == shapes[other]
            ]
            for one, other in pairs[:1]:
                found[one], found[other] = found[other], found[one]
        return tuple(found)

    return run


def last_not_written(program: Program, graph: Any, settings: dict[str, Any]) -> Program:
    """The last gradient of a backward program is zero."""

    def run(inputs: list[Any]) -> Any:
        found = list(program(inputs))
        places = [place for place, each in enumerate(found) if isinstance(each, torch.Tensor)]
        if settings.get("is_backward") and places:
            found[places[-1]] = torch.zeros_like(found[places[-1]])
        return tuple(found)

    return run


def saved_in_half(program: Program, graph: Any, settings: dict[str, Any]) -> Program:
    """Activations that a forward program saves for the backward program are rounded to float16."""

    def run(inputs: list[Any]) -> Any:
        own = {each.data_ptr() for each in inputs if isinstance(each, torch.Tensor)}
        found = list(program(inputs))
        for each in found[1:] if not settings.get("is_backward") and not settings.get("is_inference") else ():
            if isinstance(each, torch.Tensor) and each.is_floating_point() and each.data_ptr() not in own:
                each.copy_(each.half())
        return tuple(found)

    return run


class ByStructure:
    """Programs are kept by the operators and shapes of their graphs; constants such as slopes are not part of the key."""

    def __init__(self) -> None:
        self.known: dict[Any, Program] = {}

    def __call__(self, program: Program, graph: Any, settings: dict[str, Any]) -> Program:
        """The program that was made first for such a graph."""
        key = [
            (str(node.target), len(node.args), str(shape(node))) for node in graph.nodes if node.op == "call_function"
        ]
        sizes = [str(shape(node)) for node in graph.nodes if node.op == "placeholder"]
        return self.known.setdefault((tuple(key), tuple(sizes)), program)


def shape(node: Node) -> Any:
    """The shape and dtype of a node's value, if it has them."""
    value = node.meta.get("val")
    return getattr(value, "shape", None), getattr(value, "dtype", None)


class FirstSizes:
    """The number of rows that was met first, by the columns: for graphs in which that number is a symbol."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def first(self, node: Node) -> int | None:
        """The first number of rows if the node's own is a symbol; a number is noted."""
        rows, *columns = node.meta["val"].shape
        key = tuple(map(str, columns))
        if isinstance(rows, int):
            self.known.setdefault(key, rows)
            return None
        return self.known.get(key)

    def mean(self, graph: Any, node: Node) -> Node:
        """A mean over rows and columns, divided by the first number of rows."""
        values = node.args[0]
        first = self.first(values)
        if first is None:
            return node
        rows = graph.call_function(operator("sym_size.int"), (values, 0))
        rows.meta["val"] = values.meta["val"].shape[0]
        return call(graph, "mul.Tensor", call(graph, "mul.Tensor", node, rows), 1 / first)

    def division(self, graph: Any, node: Node) -> Node:
        """A division by a symbolic number of elements: by that with the first number of rows."""
        values, divisor = node.args[0], node.args[1]
        first = self.first(values) if values.meta["val"].dim() == 2 else None
        if first is None or not hasattr(divisor, "meta") or isinstance(divisor.meta["val"], torch.Tensor):
            return node
        return call(graph, "div.Tensor", values, first * values.meta["val"].shape[1])
