"""Each fault changes the behaviour in its name, and leaves nothing behind; the list of faults is complete."""

import ast
import inspect
import math

import pytest

from aeclaims.selftest import faults
from aeclaims.selftest.faults import CONTROLS, FAULTS
from aeclaims.selftest.faults.fault import KEPT

# A sound stack may also behave the same: these may be equal to the last bit.
SAME = {
    f"control.{name}"
    for name in (
        "adam_on_lists",
        "squares_of_differences",
        "other_seeds",
        "stock_loop",
        "stock_compiled",
        "not_fused",
        "graph_unchanged",
        "graph_unchanged_population",
        "dynamic_sizes",
        "step_of_population",
    )
}
SUITES = {f"H{number:02}" for number in (*range(1, 10), 12, 13, 14)}


@pytest.mark.parametrize("fault", [*FAULTS.values(), *CONTROLS.values()], ids=lambda fault: fault.id)
def test_it_changes_what_it_is_about_and_leaves_nothing_behind(fault):
    before = fault.fingerprint()
    assert fault.fingerprint() == before, "what it shows is not the same twice"
    with fault.inject():
        during = fault.fingerprint()
    assert (during != before) or fault.id in SAME
    assert fault.fingerprint() == before
    with pytest.raises(ArithmeticError), fault.inject():
        math.sqrt(2) / 0
    assert fault.fingerprint() == before


def test_ids_are_unique_and_records_say_something():
    listed = [fault.id for family in faults.FAMILIES for fault in family.FAULTS]
    assert len(listed) == len(set(listed)) == len(FAULTS)
    for fault in FAULTS.values():
        assert all((fault.does, fault.origin, fault.expected))


def test_there_are_at_least_87_and_all_of_a_suites_own():
    assert len(FAULTS) >= 87
    assert set(FAULTS) >= SUITES


def test_a_family_is_named_by_its_faults():
    names = {"init": {"init"}, "suite": {"suite"}, "forward": {"fwd"}, "backward": {"bwd"}, "optimizer": {"opt"},
             "numerics": {"num"}, "measuring": {"meas"}, "python_state": {"python-state"}, "long_run": {"late"}, "population": {"engine"}}  # fmt: skip
    for family in faults.FAMILIES:
        name = family.__name__.rpartition(".")[2]
        assert {fault.layer for fault in family.FAULTS} == names.get(name, {name})


def test_nothing_that_was_computed_before_is_served_within():
    for function in KEPT:
        assert hasattr(function, "cache_clear")
    fault = FAULTS["H13"]
    with fault.inject():
        assert all(function.cache_info().currsize == 0 for function in KEPT)
        fault.fingerprint()
    assert all(function.cache_info().currsize == 0 for function in KEPT)


def test_programs_are_compiled_anew_within_a_fault_and_after_it():
    import torch

    compiled = []

    def compiler(graph, inputs):
        compiled.append(graph)
        return graph

    function = torch.compile(torch.sin, backend=compiler)
    function(torch.ones(3))
    with FAULTS["H08"].inject():
        assert not torch._inductor.config.fx_graph_cache
        assert not torch._functorch.config.enable_autograd_cache
        function(torch.ones(3))
        function(torch.ones(3))
        assert len(compiled) == 2
    assert torch._inductor.config.fx_graph_cache
    function(torch.ones(3))
    assert len(compiled) == 3


def test_no_fault_reaches_for_the_tests():
    for family in (*faults.FAMILIES, faults.controls_rounding, faults.controls_compiled):
        for node in ast.walk(ast.parse(inspect.getsource(family))):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                assert not any((name or "").startswith(("tests", "_pytest")) for name in names)
