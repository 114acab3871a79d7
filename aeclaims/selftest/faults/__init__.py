"""Faults by id, each of which the suite must catch; and controls, on which it must hold."""

from aeclaims.selftest.faults import (
    backward,
    compiler,
    controls_compiled,
    controls_rounding,
    data,
    forward,
    init,
    long_run,
    loop,
    loss,
    measuring,
    numerics,
    optimizer,
    population,
    python_state,
    suite,
)
from aeclaims.selftest.faults.fault import Fault

__all__ = ["CONTROLS", "FAULTS", "Fault"]

FAMILIES = (
    data,
    init,
    forward,
    loss,
    backward,
    optimizer,
    loop,
    numerics,
    population,
    measuring,
    suite,
    long_run,
    compiler,
    python_state,
)
FAULTS: dict[str, Fault] = {fault.id: fault for family in FAMILIES for fault in family.FAULTS}
CONTROLS: dict[str, Fault] = {
    control.id: control for control in (*controls_rounding.CONTROLS, *controls_compiled.CONTROLS)
}
