"""pytest's hooks: markers, selection, verdicts and their table."""

import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aeclaims.fixtures import JUDGE, RUN_STATE, RUNS, claim_of, judge, reference, run_state, stack, train
from pytest_aeclaims.options import OPTIONS, declare
from pytest_aeclaims.unexercised import nothing_judged

if TYPE_CHECKING:
    from aeclaims.judging.claim import Claim

__all__ = ["judge", "reference", "stack", "train"]  # pytest finds fixtures where it finds hooks

# The report keeps that many trainings of a claim, the longest ones: property tests train hundreds.
MOST_TRAININGS = 20
# Backends that train one seed at a time, and the most steps of a quick claim on them, over all seeds: about 5 s.
LOOPS = ("torch-loop", "torch-compile")
QUICK_STEPS_OF_LOOPS = 10_000
# `find_spec` does not import the package.
SELFTEST = Path(str(getattr(find_spec("aeclaims"), "origin", ""))).parent / "selftest"
RESULTS = pytest.StashKey[list[dict[str, Any]]]()
# Errors in the list of known failures; ids of the collected claims, in this process and in pytest-xdist's workers.
PROBLEMS = pytest.StashKey[list[str]]()
IDS: pytest.StashKey[set[str]] = pytest.StashKey()
WORKERS_IDS: pytest.StashKey[set[str]] = pytest.StashKey()
# Reports of pytest-xdist on tests in which a worker died; the tests of claims, from a worker that did not die.
CRASHES = pytest.StashKey[list[pytest.TestReport]]()
WORKERS_TESTS = pytest.StashKey[dict[str, dict[str, Any]] | None]()
NO_STAGE = "--claims-bisect: no stage is selected; give -m conformance, and no -k that excludes all stages"
# Options that --claims-selftest takes. The others are settings of a run, and each of its stacks has fixed settings.
OF_SELFTEST = ("selftest", "processes", "json", "report", "xfails")


def pytest_addoption(parser: pytest.Parser) -> None:
    declare(parser.getgroup("aeclaims", "claims about training (select them with -m claims)"))


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Name the self-test's folder as the path to collect, so that in a clone pytest loads the conftest.py above it."""
    if early_config.known_args_namespace.claims_selftest:
        early_config.known_args_namespace.file_or_dir = [str(SELFTEST)]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "claims(claim): judges a claim about training; see aeclaims.judging.claim.claim")
    config.addinivalue_line(
        "markers", "conformance(claim): checks a training stack; see aeclaims.judging.claim.conformance"
    )
    config.addinivalue_line("markers", "slow: takes hours on a CPU; runs only if -m names it")
    config.stash[RESULTS], config.stash[CRASHES] = [], []
    config.stash[WORKERS_IDS], config.stash[WORKERS_TESTS] = set(), None
    config.addinivalue_line("markers", "selftest: judges the suite itself, with --claims-selftest")
    _check_options(config)
    if config.getoption("claims_selftest"):
        from pytest_aeclaims.selftest_mode import SelfTest

        config.pluginmanager.register(SelfTest(config), "aeclaims-selftest")
    if config.getoption("claims_false_alarms"):
        from pytest_aeclaims.false_alarms import FalseAlarms

        config.pluginmanager.register(FalseAlarms(config.getoption("claims_false_alarms")), "aeclaims-alarms")
    config.pluginmanager.register(_Results(config.stash[RESULTS], config.stash[CRASHES]), "aeclaims-results")


def _check_options(config: pytest.Config) -> None:
    """Raise a usage error if options contradict each other, or if one would be ignored."""
    values = {option.name: config.getoption(f"claims_{option.name.replace('-', '_')}") for option in OPTIONS}
    given = {name for name, value in values.items() if value is not None and value is not False}
    for mode in given & {"bisect", "selftest"}:
        if "backend" in given:
            raise pytest.UsageError(f"--claims-{mode} chooses the backends itself: leave --claims-backend out")
        if "optimizer" in given:
            raise pytest.UsageError(
                f"--claims-{mode} compares with the oracle, which trains with Adam: leave --claims-optimizer out"
            )
    if {"bisect", "quick"} <= given:
        raise pytest.UsageError(
            "--claims-bisect and --claims-quick exclude each other, because no stage is a quick check: leave one of them out"
        )
    for name in sorted(given - set(OF_SELFTEST)) if "selftest" in given else ():
        raise pytest.UsageError(f"--claims-selftest judges stacks with fixed settings: leave --claims-{name} out")
    one_process = {
        "selftest": "judges several faults at once by itself: give --claims-processes, not -n",
        "false-alarms": "counts in one process: leave pytest-xdist's -n and --tx out",
    }
    for name in one_process if is_distributed(config) else ():
        if name in given:
            raise pytest.UsageError(f"--claims-{name} {one_process[name]}")
    outputs = [values[name] for name in ("json", "report") if name in given]
    if len(outputs) == 2 and outputs[0].resolve() == outputs[1].resolve():
        raise pytest.UsageError(f"--claims-json and --claims-report: both name {str(outputs[0])!r}: give two files")


def is_distributed(config: pytest.Config) -> bool:
    """Return whether this process sends its tests to pytest-xdist's workers, by -n or --tx; False in a worker."""
    return config.getoption("dist", "no") != "no" and bool(config.getoption("tx", None))


class _Results:
    """Collects results from reports. Under pytest-xdist they arrive in the controller, and claims run in workers."""

    def __init__(self, results: list[dict[str, Any]], crashes: list[pytest.TestReport]) -> None:
        self.results, self.crashes = results, crashes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "aeclaims"):
            self.results.append(report.aeclaims)
        elif report.failed and report.when not in ("setup", "call", "teardown"):  # a worker died in this test
            self.crashes.append(report)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the self-test's tests without `--claims-selftest`: collecting them imports torch."""
    return True if collection_path == SELFTEST and not config.getoption("claims_selftest") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark known failures as xfail, and quick checks as claims. Deselect claims that the options do not ask for.

    Slow claims run if -m names `slow`. Stages run with `--claims-bisect`, and then no others do. With
    `--claims-quick`, only quick claims and checks run.
    """
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
    if config.getoption("claims_quick"):  # background workers train for the last ones meanwhile
        last = {item for item, claim in claims if claim.trains}
        items.sort(key=lambda item: item in last)


def _is_quick(claim: "Claim", config: pytest.Config) -> bool:
    """Return whether the quick profile has the claim.

    It leaves out long trainings if the backend trains one seed at a time, and sweeps of set-ups if each is compiled.
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
    """Check the backend before pytest-xdist starts workers: a usage error in a worker ends in tracebacks."""
    names = ("backend", "device", "dtype", "optimizer", "compile")
    given = any(session.config.getoption(f"claims_{name}") is not None for name in names)
    if given and is_distributed(session.config):
        with _usage_errors():
            run_state(session.config).check_backend()


@contextmanager
def _usage_errors() -> Generator[None]:
    from aeclaims.errors import InvalidOptimizer, UnknownBackend

    try:
        yield
    except UnknownBackend as error:
        # The message begins with the name of the wrong value.
        option = next((name for name in ("backend", "device", "dtype") if str(error).startswith(f"{name} ")), "compile")
        raise pytest.UsageError(f"--claims-{option}: {error}") from None
    except InvalidOptimizer as error:
        raise pytest.UsageError(f"--claims-optimizer: {error}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Raise a usage error before the first training if the backend, device, optimizer or dtype does not exist.

    This hook runs first, so that the header, which pytest prints after collection, can say how the backend trains.
    """
    has_claims = any(claim_of(item) for item in session.items)
    # A worker does not raise it: pytest-xdist reports usage errors of workers as internal ones. The controller does, below.
    if session.config.getoption("claims_bisect") and not has_claims and not hasattr(session.config, "workerinput"):
        raise pytest.UsageError(NO_STAGE)
    if not has_claims or session.config.option.collectonly:
        return
    with _usage_errors():
        run_state(session.config).check_backend()
        run_state(session.config).plan(claim for item in session.items if (claim := claim_of(item)))


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    if not any(claim_of(item) for item in items):
        return []
    from pytest_aeclaims.status_line import first_run_note

    session = run_state(config)
    return [line for line in (session.header(), session.note, first_run_note(session.settings.backend)) if line]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """On a terminal, name a claim or check that shows nothing for five seconds."""
    claim = claim_of(item)
    reporter = item.config.pluginmanager.get_plugin("terminalreporter")
    if claim is None or reporter is None or not reporter.isatty:
        return (yield)
    from pytest_aeclaims.status_line import status_line

    # Here pytest does not capture yet; the copy of the descriptor leads to the terminal also while it does.
    with open(os.dup(reporter._tw._file.fileno()), "w", encoding="utf-8") as terminal, status_line(terminal, claim.id):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skip a claim if the backend lacks a feature, or if the claim is about another optimizer or format."""
    claim = claim_of(pyfuncitem)
    if claim is None:
        return (yield)
    from aeclaims.errors import NotSupported

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

        # A plain dictionary on the report also gets from pytest-xdist's workers to the controller.
        report.aeclaims = build_result(  # type: ignore[attr-defined]
            claim,
            run_state(item.config),
            item.stash.get(JUDGE, None),
            report,
            None if call.excinfo is None else call.excinfo.value,
            node(item),
            _trainings(item),
        )
        # JUnit's XML takes properties from the report of the teardown, which copies the item's. An item may be judged again.
        kept = [pair for pair in item.user_properties if not pair[0].startswith("claim.")]
        item.user_properties[:] = [*kept, *properties(report.aeclaims)]
    if claim is not None and not item.config.getoption("log_level", None):
        report.sections = list(_without_debug_logs(report.sections))
    return report


def _without_debug_logs(sections: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the captured sections without logs at level DEBUG: torch logs thousands of empty lines while it compiles."""
    for title, text in sections:
        if " log " in title:
            text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("DEBUG"))
        if text.strip():
            yield title, text


def _trainings(item: pytest.Item) -> list[dict[str, Any]]:
    """Return the claim's trainings for the JSON and the page; none if neither is asked for."""
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
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Raise a usage error if a worker of pytest-xdist selected no stage: the controller does not collect."""
    if node.config.getoption("claims_bisect") and not ids:
        raise pytest.UsageError(NO_STAGE)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the ids and tests of claims from a worker that ends."""
    output = getattr(node, "workeroutput", {})
    if "aeclaims_tests" in output:  # a worker that died has none
        node.config.stash[WORKERS_IDS].update(output["aeclaims_ids"])
        node.config.stash[WORKERS_TESTS] = output["aeclaims_tests"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Set the exit code, and write the JSON and the page, also if claims failed or the run was interrupted."""
    if RUN_STATE in session.config.stash:
        session.config.stash[RUN_STATE].close()
    if hasattr(session.config, "workerinput"):
        _hand_over(session)
        return
    results = session.config.stash[RESULTS]
    results += _crashed(session.config)
    _check_known_failures(session, results)
    if session.exitstatus == pytest.ExitCode.OK and nothing_judged(results):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    path, page = session.config.getoption("claims_json"), session.config.getoption("claims_report")
    if not (path or page):
        return
    from aeclaims.report.files import write_whole

    document, plugins = run_state(session.config).document(results), session.config.pluginmanager
    for name in ("aeclaims-selftest", "aeclaims-alarms"):
        if mode := plugins.get_plugin(name):
            document |= mode.document()
    if path:
        write_whole(path, json.dumps(document) + "\n")
    if page:
        from aeclaims.report.html import render

        write_whole(page, render(document))


def _hand_over(session: pytest.Session) -> None:
    """Send the controller the ids that this worker collected, and its tests of claims.

    If another worker dies in one of these tests, the controller makes the result.
    """
    ids: set[str] = session.config.stash.get(IDS, set())
    output: dict[str, Any] = session.config.workeroutput  # type: ignore[attr-defined]
    output["aeclaims_ids"], output["aeclaims_tests"] = sorted(ids), {}
    for item in session.items:
        if claim := claim_of(item):
            from pytest_aeclaims.result import node, unjudged

            output["aeclaims_tests"][item.nodeid] = unjudged(claim, run_state(session.config), node(item))


def _crashed(config: pytest.Config) -> Iterator[dict[str, Any]]:
    """Yield a result for each test of a claim in which one of pytest-xdist's workers died."""
    tests = config.stash[WORKERS_TESTS]
    if tests is None:  # all workers died, so nobody knows the tests of claims
        is_asked = any(kind in config.option.markexpr for kind in ("claims", "conformance"))
        tests = {report.nodeid: {"id": report.nodeid} for report in config.stash[CRASHES] if is_asked}
    for report in config.stash[CRASHES]:
        if report.nodeid in tests:
            from pytest_aeclaims.result import UNKNOWN

            yield UNKNOWN | tests[report.nodeid] | {"verdict": "failed", "reason": report.longreprtext}


def _check_known_failures(session: pytest.Session, results: list[dict[str, Any]]) -> None:
    """Fail the run if the list of known failures has expired lines, or ids that no claim has."""
    listed = session.config.getoption("claims_xfails")
    if not listed:
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
    if said := nothing_judged(config.stash[RESULTS]):
        terminalreporter.write_line(said, red=True)
    for problem in config.stash.get(PROBLEMS, []):
        terminalreporter.write_line(f"known failures: {problem}", red=True)
