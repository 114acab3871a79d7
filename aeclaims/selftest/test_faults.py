"""The tests that `pytest --claims-selftest` collects: the suite kills each fault, and holds on each sound stack."""

from typing import Any

import pytest

from aeclaims.selftest.children import Outcome
from aeclaims.selftest.faults import CONTROLS, FAULTS, Fault

pytestmark = pytest.mark.selftest


@pytest.fixture
def outcome(fault: Fault, pytestconfig: pytest.Config) -> Outcome:
    mode: Any = pytestconfig.pluginmanager.get_plugin("aeclaims-selftest")
    found: Outcome = mode.outcome(fault)
    return found


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_suite_kills_the_fault(fault: Fault, outcome: Outcome) -> None:
    if fault.equivalent and outcome.killer:
        pytest.fail(
            f"{fault.id} is recorded as equivalent ({fault.equivalent}), but {outcome.killer.id} failed", pytrace=False
        )
    if not fault.equivalent and not outcome.killer:
        which = "all of them" if outcome.is_complete else "until its time ran out"
        pytest.fail(f"{fault.id} survives {outcome.judged} checks, {which}: {fault.does}", pytrace=False)


@pytest.mark.parametrize("fault", CONTROLS.values(), ids=CONTROLS)
def test_the_suite_holds_on_the_sound_stack(fault: Fault, outcome: Outcome) -> None:
    if outcome.killer:
        pytest.fail(f"{fault.id} is sound, but {outcome.killer.id} failed: {outcome.killer.reason}", pytrace=False)
