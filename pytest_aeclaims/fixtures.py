"""pytest's fixtures: what trains, what judges, and the stack under test; and what a run and its tests hold of ours."""

import atexit
import gc
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from pytest_aeclaims.options import OPTIONS

# Loading this module must cost nothing where no claim runs: everything heavier than pytest is imported where needed.
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
    """The state of this run, made from its options when it is first asked for."""
    if RUN_STATE not in config.stash:
        from pytest_aeclaims.run_state import RunState, Settings

        values = {}
        for option in OPTIONS:
            name = option.name.replace("-", "_")
            given = config.getoption(f"claims_{name}")
            values[name] = option.default if given is None else given
        config.stash[RUN_STATE] = RunState(Settings(**values))
        # What torch and SciPy leave is a large heap: to look through it once more as Python ends takes a second.
        atexit.register(gc.freeze)
    return config.stash[RUN_STATE]


def claim_of(item: pytest.Item) -> "Claim | None":
    """What a test says of itself that judges a claim or checks a stack."""
    marker = item.get_closest_marker("claims") or item.get_closest_marker("conformance")
    return marker.args[0] if marker else None


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> "Judge":
    """Judges the claim; keeps what it measured for the report."""
    from aeclaims.judging.judge import Judge

    session, granted = run_state(request.config), 1.0
    if claim_of(request.node) is not None:
        granted = session.backend.granted(session.settings.dtype)
    own = request.config.getoption("claims_optimizer")
    judge = request.node.stash[JUDGE] = Judge(granted, "" if own is None else str(own), session.settings.alpha)
    return judge


@pytest.fixture
def train(request: pytest.FixtureRequest) -> "Callable[[Experiment], Run]":
    """train(experiment): the backend under test trains it, on the claim's seeds; once for all claims that look at it."""
    return _trainer(request, "train")


@pytest.fixture
def reference(request: pytest.FixtureRequest) -> "Callable[[Experiment], Run]":
    """reference(experiment): the reference's run from the same start."""
    return _trainer(request, "reference")


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> "Stack":
    """The backend under test, for checks that train it from starts of their own."""
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
        # On a terminal a long training shows its progress, which pytest would otherwise swallow.
        capture = request.config.pluginmanager.getplugin("capturemanager")
        reporter = request.config.pluginmanager.getplugin("terminalreporter")
        is_shown = capture is not None and reporter is not None and reporter.isatty
        with capture.global_and_fixture_disabled() if is_shown else nullcontext():
            run: Run = getattr(session, which)(experiment, session.seeds(claim))
        if which == "train":
            request.node.stash.setdefault(RUNS, {}).setdefault(experiment, run)
        return run

    return trained
