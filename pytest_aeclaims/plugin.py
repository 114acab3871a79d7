"""pytest's hooks: the markers, what is selected, the verdicts and their table."""

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aeclaims.fixtures import JUDGE, RUN_STATE, RUNS, claim_of, judge, reference, run_state, stack, train
from pytest_aeclaims.options import declare

if TYPE_CHECKING:
    from aeclaims.judging.claim import Claim

__all__ = ["judge", "reference", "stack", "train"]  # pytest finds fixtures where it finds hooks

# Of one claim, the longest, kept for the report: property tests train hundreds.
MOST_TRAININGS = 20
# Backends that train one seed at a time, and the steps that the quick profile takes on them, all seeds together: some 5 s.
LOOPS = ("torch-loop", "torch-compile")
QUICK_STEPS_OF_LOOPS = 10_000
# To find the package does not import it.
SELFTEST = Path(str(getattr(find_spec("aeclaims"), "origin", ""))).parent / "selftest"
RESULTS = pytest.StashKey[list[dict[str, Any]]]()
# What is wrong with the list of known failures; the ids that were collected, here and by pytest-xdist's workers.
PROBLEMS = pytest.StashKey[list[str]]()
IDS: pytest.StashKey[set[str]] = pytest.StashKey()
WORKERS_IDS: pytest.StashKey[set[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    declare(parser.getgroup("aeclaims", "claims about training (select them with -m claims)"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """The self-test collects a folder of this package: its conftest.py, in a clone, is loaded as if that had been asked for."""
    if early_config.known_args_namespace.claims_selftest:
        early_config.known_args_namespace.file_or_dir = [str(SELFTEST)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "claims(claim): judges a claim about training; see aeclaims.judging.claim.claim")
    config.addinivalue_line(
        "markers", "conformance(claim): checks a training stack; see aeclaims.judging.claim.conformance"
    )
    config.addinivalue_line("markers", "slow: takes hours on a CPU; runs only where -m names it")
    config.stash[RESULTS], config.stash[WORKERS_IDS] = [], set()
    config.addinivalue_line("markers", "selftest: judges the suite itself, with --claims-selftest")
    for mode in ("bisect", "selftest"):
        if config.getoption(f"claims_{mode}") and config.getoption("claims_backend") is not None:
            raise pytest.UsageError(f"--claims-{mode} chooses the backends itself: leave --claims-backend out")
        if config.getoption(f"claims_{mode}") and config.getoption("claims_optimizer") is not None:
            raise pytest.UsageError(
                f"--claims-{mode} walks the oracle's path, which is Adam's: leave --claims-optimizer out"
            )
    if config.getoption("claims_selftest"):
        from pytest_aeclaims.selftest_mode import SelfTest

        config.pluginmanager.register(SelfTest(config), "aeclaims-selftest")
    if config.getoption("claims_false_alarms"):
        from pytest_aeclaims.false_alarms import FalseAlarms

        if config.getoption("numprocesses", None):
            raise pytest.UsageError("--claims-false-alarms counts in one process: leave pytest-xdist's -n out")
        config.pluginmanager.register(FalseAlarms(config.getoption("claims_false_alarms")), "aeclaims-alarms")
    config.pluginmanager.register(_Results(config.stash[RESULTS]), "aeclaims-results")


class _Results:
    """Collects results where reports arrive, which under pytest-xdist is not where claims run."""

    def __init__(self, results: list[dict[str, Any]]) -> None:
        self.results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "aeclaims"):
            self.results.append(report.aeclaims)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The self-test's own tests cost torch's import, and are of use in its mode only."""
    return True if collection_path == SELFTEST and not config.getoption("claims_selftest") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Known failures are marked, quick checks as claims; left out is what is slow, a stage or not quick, unless asked for."""
    claims = [(item, claim) for item in items if (claim := claim_of(item))]
    config.stash[IDS] = {claim.id for _, claim in claims}
    for item, claim in claims:
        known = (config.getoption("claims_xfails") or {}).get(claim.id)
        if known is not None and not known.has_expired(date.today()):
            item.add_marker(pytest.mark.xfail(strict=True, reason=f"{known.reason} ({known.place})"))
        if claim.is_quick and config.getoption("claims_quick"):
            item.add_marker(pytest.mark.claims(claim))
    is_slow_named, has_bisection = "slow" in config.option.markexpr, config.getoption("claims_bisect")
    out = {
        item
        for item, claim in claims
        if (item.get_closest_marker("slow") and not is_slow_named)
        or claim.is_stage != has_bisection
        or (config.getoption("claims_quick") and not _is_quick(claim, config))
    }
    if out:
        config.hook.pytest_deselected(items=list(out))
        items[:] = [item for item in items if item not in out]
    if config.getoption("claims_quick"):  # what takes long trains meanwhile
        last = {item for item, claim in claims if claim.trains}
        items.sort(key=lambda item: item in last)


def _is_quick(claim: "Claim", config: pytest.Config) -> bool:
    """Whether the quick profile has the claim.

    Long trainings are not quick on a backend that trains one seed at a time; a hundred set-ups are not if each is compiled.
    """
    is_loop = config.getoption("claims_backend") in LOOPS
    if not claim.is_quick or (not is_loop and config.getoption("claims_compile") is None):
        return claim.is_quick
    if not is_loop:
        return claim.configurations == 1
    steps = sum(experiment.epochs * experiment.steps_per_epoch for experiment in claim.trains)
    return steps * claim.fewest_seeds() <= QUICK_STEPS_OF_LOOPS and claim.configurations == 1


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Under pytest-xdist a usage error in a worker ends in tracebacks: what was asked for is looked at before there are any."""
    names = ("backend", "device", "dtype", "optimizer", "compile")
    given = any(session.config.getoption(f"claims_{name}") is not None for name in names)
    if given and session.config.getoption("numprocesses", None) and not hasattr(session.config, "workerinput"):
        with _usage_errors():
            run_state(session.config).check_backend()


@contextmanager
def _usage_errors() -> Generator[None]:
    from aeclaims.backends import InvalidOptimizer, UnknownBackend

    try:
        yield
    except UnknownBackend as error:
        # The message begins with the name of the value that is wrong.
        option = next((name for name in ("backend", "device", "dtype") if str(error).startswith(f"{name} ")), "compile")
        raise pytest.UsageError(f"--claims-{option}: {error}") from None
    except InvalidOptimizer as error:
        raise pytest.UsageError(f"--claims-optimizer: {error}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """A backend, device, optimizer or dtype that is not there is a usage error before anything is trained.

    First, so that the header, which pytest prints when collection has finished, can say how the backend trains.
    """
    has_claims = any(claim_of(item) for item in session.items)
    if session.config.getoption("claims_bisect") and not has_claims:
        raise pytest.UsageError(
            "--claims-bisect: no stage is selected; give -m conformance, and no -k that leaves them out"
        )
    if not has_claims or session.config.option.collectonly:
        return
    with _usage_errors():
        run_state(session.config).check_backend()
        run_state(session.config).plan(claim for item in session.items if (claim := claim_of(item)))


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    if not any(claim_of(item) for item in items):
        return []
    session = run_state(config)
    return [session.header(), *[session.note] * bool(session.note)]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A claim about what the backend lacks, another optimizer than trains, or another format, is not exercised."""
    claim = claim_of(pyfuncitem)
    if claim is None:
        return (yield)
    from aeclaims.backends import NotSupported

    if reason := run_state(pyfuncitem.config).skip_reason(claim):
        pytest.skip(reason)
    try:
        return (yield)
    except NotSupported as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    claim = claim_of(item)
    if claim is not None and (report.when == "call" or (report.when == "setup" and not report.passed)):
        from pytest_aeclaims.result import build_result, node, properties

        # A plain dictionary on the report travels from pytest-xdist's workers as well.
        report.aeclaims = build_result(  # type: ignore[attr-defined]
            claim,
            run_state(item.config),
            item.stash.get(JUDGE, None),
            report,
            None if call.excinfo is None else call.excinfo.value,
            node(item),
            _trainings(item),
        )
        # JUnit's XML takes them from the report of the teardown, which is made of the item's; an item may be judged again.
        kept = [pair for pair in item.user_properties if not pair[0].startswith("claim.")]
        item.user_properties[:] = [*kept, *properties(report.aeclaims)]
    if claim is not None and not item.config.getoption("log_level", None):
        report.sections = list(_without_debug_logs(report.sections))
    return report


def _without_debug_logs(sections: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What a failure shows beside its message: torch logs thousands of empty lines at level DEBUG while it compiles."""
    for title, text in sections:
        if " log " in title:
            text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("DEBUG"))
        if text.strip():
            yield title, text


def _trainings(item: pytest.Item) -> list[dict[str, Any]]:
    """What the JSON and the page keep of a claim's trainings, where one of them is asked for."""
    is_asked = any(item.config.getoption(f"claims_{where}") is not None for where in ("json", "report"))
    if not is_asked or item.config.getoption("claims_false_alarms") or RUNS not in item.stash:
        return []
    from aeclaims.report.curves import MOST_OF_CLAIM, MOST_ON_PAGE, MOST_SEEDS, summary

    runs = list(item.stash[RUNS].values())
    longest = sorted(runs, key=lambda run: -run.experiment.epochs)[:MOST_TRAININGS]
    most_seeds = (
        min(MOST_ON_PAGE, max(MOST_SEEDS, MOST_OF_CLAIM // len(longest)))
        if (item.config.getoption("claims_report"))
        else MOST_SEEDS
    )
    return [summary(run, most_seeds) for run in runs if run in longest]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Under pytest-xdist it is the workers that collect."""
    known: set[str] = node.config.stash[WORKERS_IDS]
    known |= set(getattr(node, "workeroutput", {}).get("aeclaims_ids", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The JSON is written also when claims fail or the run is interrupted; a run that exercised nothing did not pass."""
    if RUN_STATE in session.config.stash:
        session.config.stash[RUN_STATE].close()
    results = session.config.stash[RESULTS]
    _check_known_failures(session, results)
    if results and session.exitstatus == pytest.ExitCode.OK and all(r["verdict"] == "not exercised" for r in results):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    path, page = session.config.getoption("claims_json"), session.config.getoption("claims_report")
    if not (path or page) or hasattr(session.config, "workerinput"):
        return
    from aeclaims.report.files import write_whole

    document, plugins = run_state(session.config).document(results), session.config.pluginmanager
    for name in ("aeclaims-selftest", "aeclaims-alarms"):
        if mode := plugins.get_plugin(name):
            document |= mode.document()
    if path:
        write_whole(path, json.dumps(document, indent=2) + "\n")
    if page:
        from aeclaims.report.html import render

        write_whole(page, render(document))


def _check_known_failures(session: pytest.Session, results: list[dict[str, Any]]) -> None:
    """A list of known failures with lines of no claim, or expired ones, fails the run."""
    listed = session.config.getoption("claims_xfails")
    if not listed:
        return
    if hasattr(session.config, "workerinput"):
        own: set[str] = session.config.stash.get(IDS, set())
        session.config.workeroutput["aeclaims_ids"] = sorted(own)  # type: ignore[attr-defined]
        return
    from aeclaims.judging.registry import CHECKS, CLAIMS, entries
    from pytest_aeclaims.known_failures import problems

    collected: set[str] = session.config.stash.get(IDS, set())
    workers: set[str] = session.config.stash[WORKERS_IDS]
    ids = set(entries(CLAIMS, CHECKS)) | collected | workers | {result["id"] for result in results}
    found = session.config.stash[PROBLEMS] = problems(listed.values(), ids, date.today())
    if found and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter", config: pytest.Config) -> None:
    if config.stash[RESULTS]:
        from aeclaims.report.table import print_table

        print_table(terminalreporter, config.stash[RESULTS])
    if config.getoption("claims_bisect") and config.stash[RESULTS]:
        failed = sorted(result["id"] for result in config.stash[RESULTS] if result["verdict"] == "failed")
        terminalreporter.write_line(
            f"the first stage that deviates: {failed[0] if failed else 'none of those exercised'}"
        )
    for problem in config.stash.get(PROBLEMS, []):
        terminalreporter.write_line(f"known failures: {problem}", red=True)
