"""The fixtures that train, judge and hold the stack under test, and the stash keys of the plugin."""

import atexit
import gc
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from pytest_aeclaims.options import OPTIONS

# Loading this module must cost nothing if no claim runs: functions import all modules that are heavier than pytest.
if TYPE_CHECKING:
    from aeclaims.conformance.stack import Stack
    from aeclaims.experiment import Experiment
    from aeclaims.judging.claim import Claim
    from aeclaims.judging.judge import Judge
    from aeclaims.run import Run
    from pytest_aeclaims.run_state import RunState

RUN_STATE = pytest.StashKey["RunState"]()
JUDGE = pytest.StashKey["Judge"]()
RUNS = pytest.StashKey[dict["Experiment", "Run"]]()


def run_state(config: pytest.Config) -> "RunState":
    """Return the state of this run. The first call makes it from the options."""
    if RUN_STATE not in config.stash:
        from pytest_aeclaims.run_state import RunState, Settings

        values = {}
        for option in OPTIONS:
            name = option.name.replace("-", "_")
            given = config.getoption(f"claims_{name}")
            values[name] = option.default if given is None else given
        config.stash[RUN_STATE] = RunState(Settings(**values))
        # torch and SciPy leave a large heap. If Python searches it for cycles once more when it exits, that takes a second.
        atexit.register(gc.freeze)
    return config.stash[RUN_STATE]


def claim_of(item: pytest.Item) -> "Claim | None":
    """Return the claim that a test judges, or the check that it makes; None if the test has neither."""
    marker = item.get_closest_marker("claims") or item.get_closest_marker("conformance")
    return marker.args[0] if marker else None


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> "Judge":
    """Judge of the claim; its measurements go into the report."""
    from aeclaims.judging.judge import Judge

    session, granted = run_state(request.config), 1.0
    if claim_of(request.node) is not None:
        granted = session.backend.granted(session.settings.dtype)
    own = request.config.getoption("claims_optimizer")
    judge = request.node.stash[JUDGE] = Judge(granted, "" if own is None else str(own), session.settings.alpha)
    return judge


@pytest.fixture
def train(request: pytest.FixtureRequest) -> "Callable[[Experiment], Run]":
    """train(experiment): its run by the backend under test, on the claim's seeds. Claims with one experiment share the run."""
    return _trainer(request, "train")


@pytest.fixture
def reference(request: pytest.FixtureRequest) -> "Callable[[Experiment], Run]":
    """reference(experiment): its run by the reference, from the same start."""
    return _trainer(request, "reference")


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> "Stack":
    """The backend under test, for checks that make the starts of their trainings."""
    from aeclaims.conformance.stack import Stack

    session = run_state(request.config)
    claim = claim_of(request.node)
    if claim is None:
        raise _not_a_claim(request, "stack")
    session.begin()
    return Stack(
        session.backend, session.settings.dtype, tuple(session.seeds(claim)), session.trained, session.settings.compile
    )


def _not_a_claim(request: pytest.FixtureRequest, fixture: str) -> pytest.UsageError:
    return pytest.UsageError(
        f"{request.node.nodeid} uses the fixture {fixture!r}, which is for claims: "
        "mark the test with aeclaims.judging.claim.claim(...)"
    )


def _trainer(request: pytest.FixtureRequest, which: str) -> "Callable[[Experiment], Run]":
    claim, session = claim_of(request.node), run_state(request.config)
    if claim is None:
        raise _not_a_claim(request, which)

    def trained(experiment: "Experiment") -> "Run":
        # On a terminal a long training shows its progress, which pytest would capture.
        capture = request.config.pluginmanager.getplugin("capturemanager")
        reporter = request.config.pluginmanager.getplugin("terminalreporter")
        is_shown = capture is not None and reporter is not None and reporter.isatty
        with capture.global_and_fixture_disabled() if is_shown else nullcontext():
            run: Run = getattr(session, which)(experiment, session.seeds(claim))
        if which == "train":
            request.node.stash.setdefault(RUNS, {}).setdefault(experiment, run)
        return run

    return trained
