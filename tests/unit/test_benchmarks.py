"""The parts of the benchmarks: turns, figures, the machine, and the page of a run."""

import json
import math
import time
from pathlib import Path

import pytest

from aeclaims.runtime import parallel
from tests.bench import machine, performance, turns
from tests.bench.contestants import MSE, NETWORKS, Drawn, contestant, operations
from tests.bench.figures import Timing, comparisons, load

ROOT = Path(__file__).parents[2]
RUN = ROOT / "docs" / "performance.json"


def test_contestants_take_turns_and_short_ones_are_warm_before_they_are_timed(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0)
    calls = []
    taken = turns.by_turns(
        {
            "short": lambda times: calls.append(("short", times)) or time.sleep(0.001 * times),
            "long": lambda times: calls.append(("long", times)) or time.sleep(0.04),
        },
        rounds=2,
    )
    assert {name: len(rounds) for name, rounds in taken.items()} == {"short": 2, "long": 2}
    assert all(0.0009 < seconds < 0.04 for seconds in taken["short"])
    assert all(seconds >= 0.04 for seconds in taken["long"])
    (_, warm), (_, timed), _ = calls[4:7]
    assert [name for name, _ in calls[4:]] == ["short", "short", "long"] * 2
    assert warm == 1 < timed


def test_a_clock_passes_as_it_is_told():
    clock = turns.Clock()
    before = clock()
    clock.advance(1.5)
    assert clock() - before == 1.5


@pytest.mark.parametrize("backend", ["numba", "torch-eager", "plain loop"])
def test_a_contestant_trains_so_many_epochs(backend, monkeypatch):
    orders = []
    order = Drawn.order
    monkeypatch.setattr(Drawn, "order", lambda self, epoch: orders.append(epoch) or order(self, epoch))
    train = contestant(backend, MSE, 1)
    del orders[:]
    train(3)
    # The reference gets all orders at once, before the training.
    assert len(orders) == {"numba": 0, "torch-eager": 3, "plain loop": 3}[backend]


def test_a_drawn_start_is_the_start():
    import dataclasses

    from aeclaims import Start

    experiment = dataclasses.replace(MSE, n_rows=50)
    drawn, start = Drawn(experiment, (0, 1)), Start(experiment, (0, 1))
    assert (drawn.rows() == start.rows()).all()
    assert drawn.rows() is drawn.rows()
    assert (drawn.order(2) == start.order(2)).all()


def test_operations_are_those_of_the_products():
    # Forward and the gradient by the weights for both layers of 2 x 2, and the gradient by the inputs for the second.
    assert operations(NETWORKS["D=2"]) == 2 * 128 * (4 + 4 + 4 + 4 + 4)


def timing(name, *rounds, **said):
    return {name: Timing(name, rounds, said)}


def test_ratios_are_medians_of_pairs_of_one_round():
    (found,) = comparisons(
        timing("plain loop, D=2, S=1", 300.0, 100.0, 900.0) | timing("torch, D=2, S=64", 1.0, 1.0, 3.0)
    )
    assert (found.value, found.aim, found.is_met) == (300.0, "at least 200", True)


def test_a_missed_aim_is_said():
    (found,) = comparisons(timing("start-up: import aeclaims", 1.5))
    assert (found.value, found.aim, found.is_met) == (1.5, "at most 1", False)
    assert str(found).endswith("at most 1 missed")


def test_slopes_are_of_the_largest_sizes():
    sweep = {}
    for size, seconds in ((1, 5.0), (4, 6.0), (16, 48.0)):
        sweep |= timing(f"sweep: torch, S={size}", seconds, axis="S", size=size, backend="torch")
    (found,) = comparisons(sweep)
    assert found.what == "slope: torch, S from 4 to 16"
    assert found.value == pytest.approx(math.log(8) / math.log(4))
    assert found.is_met is False


def test_a_comparison_across_machines_is_refused_and_names_what_differs(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["tests.bench.machine"]')
    pytester.makepyfile("def test_nothing(benchmark): benchmark(int)")
    first = pytester.runpytest_subprocess("--benchmark-json=first.json", "-p", "no:cacheprovider")
    first.assert_outcomes(passed=1)
    saved = json.loads((pytester.path / "first.json").read_text())
    assert set(machine.MACHINE) | {"torch", "numba", "numpy", "cuda", "python"} == set(
        saved["machine_info"]["aeclaims"]
    )
    assert "node" not in saved["machine_info"]
    same = pytester.runpytest_subprocess("--benchmark-compare=first.json", "-p", "no:cacheprovider")
    same.assert_outcomes(passed=1)
    saved["machine_info"]["aeclaims"] |= {"processors": 99, "gpu": "a card"}
    (pytester.path / "other.json").write_text(json.dumps(saved))
    other = pytester.runpytest_subprocess("--benchmark-compare=other.json", "-p", "no:cacheprovider")
    assert other.ret == pytest.ExitCode.USAGE_ERROR
    refused = other.stderr.str()
    assert f"another machine (processors 99, now {parallel.cpu_count()}; gpu 'a card', now None)" in refused
    assert "Traceback" not in refused


def test_a_run_without_these_facts_is_another_machine():
    now = {"aeclaims": dict.fromkeys(machine.MACHINE, 1)}
    with pytest.raises(pytest.UsageError, match="cpu None, now 1"):
        machine.pytest_benchmark_compare_machine_info(now, {"machine_info": {}})


def test_the_page_is_as_generated():
    timings, ran_on = load(RUN)
    assert (ROOT / "docs" / "performance.md").read_text() == performance.page(timings, ran_on)


def test_pictures_are_written(tmp_path):
    assert performance.main([str(RUN), str(tmp_path)]) == 0
    pictures = {path.name for path in (tmp_path / "pictures").glob("*.png")}
    assert pictures == {path.name for path in (ROOT / "docs" / "pictures").glob("performance-*.png")}
    assert len(pictures) == 3


def test_what_cannot_be_read_is_an_error_and_no_traceback(tmp_path, capsys):
    (tmp_path / "broken.json").write_text("{")
    assert performance.main([str(tmp_path / "broken.json"), str(tmp_path)]) == 2
    assert "JSONDecodeError" in capsys.readouterr().err
    assert performance.main([]) == 2
