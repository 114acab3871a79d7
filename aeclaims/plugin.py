"""pytest's hooks and fixtures: the markers, what is selected, the verdicts and their table."""

import json
from collections.abc import Callable, Generator
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aeclaims.options import OPTIONS, declare

# Loading this module must cost nothing where no claim runs: everything heavier than pytest is imported where needed.
if TYPE_CHECKING:
    from aeclaims.claim import Claim
    from aeclaims.experiment import Experiment
    from aeclaims.judge import Judge
    from aeclaims.run import Run
    from aeclaims.session import Session
    from aeclaims.stack import Stack

# --------------------------------------------------------------------------------------------- hooks

# Of one claim, the longest, kept for the report: property tests train hundreds.
MOST_TRAININGS = 20
SELFTEST = Path(__file__).parent / "selftest"
SESSION = pytest.StashKey["Session"]()
RESULTS = pytest.StashKey[list[dict[str, Any]]]()
JUDGE = pytest.StashKey["Judge"]()
# What is wrong with the list of known failures; the ids that were collected, here and by pytest-xdist's workers.
PROBLEMS = pytest.StashKey[list[str]]()
IDS: pytest.StashKey[set[str]] = pytest.StashKey()
WORKERS_IDS: pytest.StashKey[set[str]] = pytest.StashKey()
RUNS = pytest.StashKey[dict["Experiment", "Run"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    declare(parser.getgroup("aeclaims", "claims about training (select them with -m claims)"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """The self-test collects a folder of this package: its conftest.py, in a clone, is loaded as if that had been asked for."""
    if early_config.known_args_namespace.claims_selftest:
        early_config.known_args_namespace.file_or_dir = [str(SELFTEST)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "claims(claim): judges a claim about training; see aeclaims.claim.claim")
    config.addinivalue_line("markers", "conformance(claim): checks a training stack; see aeclaims.claim.conformance")
    config.addinivalue_line("markers", "slow: takes hours on a CPU; runs only where -m names it")
    config.stash[RESULTS], config.stash[WORKERS_IDS] = [], set()
    config.addinivalue_line("markers", "selftest: judges the suite itself, with --claims-selftest")
    for mode in ("ladder", "selftest"):
        if config.getoption(f"claims_{mode}") and config.getoption("claims_backend") is not None:
            raise pytest.UsageError(f"--claims-{mode} chooses the backends itself: leave --claims-backend out")
    if config.getoption("claims_selftest"):
        from aeclaims.selftest.mode import SelfTest

        config.pluginmanager.register(SelfTest(config), "aeclaims-selftest")
    config.pluginmanager.register(_Results(config.stash[RESULTS]), "aeclaims-results")


class _Results:
    """Collects results where reports arrive, which under pytest-xdist is not where claims run."""

    def __init__(self, results: list[dict[str, Any]]) -> None:
        self.results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "aeclaims"):
            self.results.append(report.aeclaims)


def _session(config: pytest.Config) -> "Session":
    if SESSION not in config.stash:
        from aeclaims.session import Session, Settings

        values = {}
        for option in OPTIONS:
            name = option.name.replace("-", "_")
            given = config.getoption(f"claims_{name}")
            values[name] = option.default if given is None else given
        config.stash[SESSION] = Session(Settings(**values))
    return config.stash[SESSION]


def _claim(item: pytest.Item) -> "Claim | None":
    marker = item.get_closest_marker("claims") or item.get_closest_marker("conformance")
    return marker.args[0] if marker else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The self-test's own tests cost torch's import, and are of use in its mode only."""
    return True if collection_path == SELFTEST and not config.getoption("claims_selftest") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Known failures are marked, quick checks as claims; left out is what is slow, a rung or not quick, unless asked for."""
    claims = [(item, claim) for item in items if (claim := _claim(item))]
    config.stash[IDS] = {claim.id for _, claim in claims}
    for item, claim in claims:
        known = (config.getoption("claims_xfails") or {}).get(claim.id)
        if known is not None and not known.has_expired(date.today()):
            item.add_marker(pytest.mark.xfail(strict=True, reason=f"{known.reason} ({known.place})"))
        if claim.is_quick and config.getoption("claims_quick"):
            item.add_marker(pytest.mark.claims(claim))
    is_slow_named, has_ladder = "slow" in config.option.markexpr, config.getoption("claims_ladder")
    out = {item for item, claim in claims if (item.get_closest_marker("slow") and not is_slow_named)
           or claim.is_rung != has_ladder or (config.getoption("claims_quick") and not claim.is_quick)}
    if out:
        config.hook.pytest_deselected(items=list(out))
        items[:] = [item for item in items if item not in out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """A backend, device or dtype that is not there is a usage error before anything is trained."""
    has_claims = any(_claim(item) for item in session.items)
    if session.config.getoption("claims_ladder") and not has_claims:
        raise pytest.UsageError("--claims-ladder: no rung is selected; give -m conformance, and no -k that leaves them out")
    if not has_claims or session.config.option.collectonly:
        return
    from aeclaims.backends import UnknownBackend

    try:
        _session(session.config).check_backend()
        _session(session.config).plan(claim for item in session.items if (claim := _claim(item)))
    except UnknownBackend as error:
        raise pytest.UsageError(f"--claims-backend, --claims-device, --claims-dtype: {error}") from None


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    return [_session(config).header()] if any(_claim(item) for item in items) else []


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A claim about what the backend lacks is not exercised."""
    if _claim(pyfuncitem) is None:
        return (yield)
    from aeclaims.backends import Lacking

    try:
        return (yield)
    except Lacking as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    claim = _claim(item)
    if claim is not None and (report.when == "call" or (report.when == "setup" and not report.passed)):
        from aeclaims.report.result import node, settle

        # A plain dictionary on the report travels from pytest-xdist's workers as well.
        report.aeclaims = settle(  # type: ignore[attr-defined]
            claim, _session(item.config), item.stash.get(JUDGE, None), report,
            None if call.excinfo is None else call.excinfo.value, node(item), _trainings(item))
    return report


def _trainings(item: pytest.Item) -> list[dict[str, Any]]:
    """What the JSON keeps of a claim's trainings, where a JSON is asked for."""
    if item.config.getoption("claims_json") is None or RUNS not in item.stash:
        return []
    from aeclaims.report.curves import summary

    runs = list(item.stash[RUNS].values())
    longest = sorted(runs, key=lambda run: -run.experiment.epochs)[:MOST_TRAININGS]
    return [summary(run) for run in runs if run in longest]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Under pytest-xdist it is the workers that collect."""
    known: set[str] = node.config.stash[WORKERS_IDS]
    known |= set(getattr(node, "workeroutput", {}).get("aeclaims_ids", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The JSON is written also when claims fail or the run is interrupted; a run that exercised nothing did not pass."""
    if SESSION in session.config.stash:
        session.config.stash[SESSION].close()
    results = session.config.stash[RESULTS]
    _check_known_failures(session, results)
    if results and session.exitstatus == pytest.ExitCode.OK and all(r["verdict"] == "not exercised" for r in results):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    path = session.config.getoption("claims_json")
    if path is None or hasattr(session.config, "workerinput"):
        return
    from aeclaims.session import write_whole

    mode = session.config.pluginmanager.get_plugin("aeclaims-selftest")
    document = _session(session.config).document(results) | (mode.document() if mode else {})
    write_whole(path, json.dumps(document, indent=2) + "\n")


def _check_known_failures(session: pytest.Session, results: list[dict[str, Any]]) -> None:
    """A list of known failures with lines of no claim, or expired ones, fails the run."""
    listed = session.config.getoption("claims_xfails")
    if not listed:
        return
    if hasattr(session.config, "workerinput"):
        own: set[str] = session.config.stash.get(IDS, set())
        session.config.workeroutput["aeclaims_ids"] = sorted(own)  # type: ignore[attr-defined]
        return
    from aeclaims.xfails import problems, shipped_ids

    collected: set[str] = session.config.stash.get(IDS, set())
    workers: set[str] = session.config.stash[WORKERS_IDS]
    ids = shipped_ids() | collected | workers | {result["id"] for result in results}
    found = session.config.stash[PROBLEMS] = problems(listed.values(), ids, date.today())
    if found and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[RESULTS]:
        from aeclaims.report.table import print_table

        print_table(terminalreporter, config.stash[RESULTS])
    if config.getoption("claims_ladder") and config.stash[RESULTS]:
        left = sorted(result["id"] for result in config.stash[RESULTS] if result["verdict"] == "failed")
        terminalreporter.write_line(f"the first rung that leaves the reference: {left[0] if left else 'none of those exercised'}")
    for problem in config.stash.get(PROBLEMS, []):
        terminalreporter.write_line(f"known failures: {problem}", red=True)


# ------------------------------------------------------------------------------------------ fixtures


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> "Judge":
    """Judges the claim; keeps what it measured for the report."""
    from aeclaims.judge import Judge

    granted = 1.0
    if _claim(request.node) is not None:
        session = _session(request.config)
        granted = session.backend.granted(session.settings.dtype)
    judge = request.node.stash[JUDGE] = Judge(granted)
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
    from aeclaims.stack import Stack

    session = _session(request.config)
    claim = _claim(request.node)
    if claim is None:
        raise _not_a_claim(request, "stack")
    return Stack(session.backend, session.settings.dtype, tuple(session.seeds(claim)), session.trained)


def _not_a_claim(request: pytest.FixtureRequest, fixture: str) -> pytest.UsageError:
    return pytest.UsageError(f"{request.node.nodeid} uses the fixture {fixture!r}, which is for claims: "
                             "mark the test with aeclaims.claim.claim(...)")


def _trainer(request: pytest.FixtureRequest, which: str) -> "Callable[[Experiment], Run]":
    claim, session = _claim(request.node), _session(request.config)
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
