"""The promise of the family `late`: no training of conformance shows its faults, but trainings of claims do."""

import numpy as np
import pytest

from aeclaims import backends
from aeclaims.conformance.paths import LONG, POPULATION, SETUPS
from aeclaims.selftest.faults import long_run
from aeclaims.selftest.faults.long_run_stack import STACK

CONFORMANCE = [*SETUPS.values(), POPULATION, *LONG.values()]


def trained(experiment):
    return backends.train(experiment, seeds=[0], backend=STACK)


@pytest.fixture(scope="module")
def sound():
    return {experiment: trained(experiment) for experiment in CONFORMANCE}


def test_without_a_fault_the_stack_is_the_reference(sound):
    for experiment, run in sound.items():
        reference = backends.train(experiment, seeds=[0], backend="numba")
        np.testing.assert_array_equal(run.epoch_loss, reference.epoch_loss)
        for ours, theirs in zip(run.parameters, reference.parameters, strict=True):
            np.testing.assert_array_equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("fault", long_run.FAULTS, ids=lambda fault: fault.id)
def test_no_training_of_conformance_shows_it(fault, sound):
    with fault.inject():
        for experiment, run in sound.items():
            found = trained(experiment)
            # The fault cuts decimals off a log, by less than a rounding error of float32.
            np.testing.assert_allclose(found.epoch_loss, run.epoch_loss, rtol=6e-8)
            for ours, theirs in zip(found.parameters, run.parameters, strict=True):
                np.testing.assert_array_equal(ours.weight, theirs.weight)
                np.testing.assert_array_equal(ours.bias, theirs.bias)
