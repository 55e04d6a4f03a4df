"""The benchmarks at sizes that take no time: their ways agree, and a way that does not is refused."""

import dataclasses
import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import attention, iterates, plan, pools, prefixes, start, training
from benchmarks.figure import draw
from benchmarks.timing import Row, compare, row_of

from insitu.sweeps.plan_file import sweep_from

SMALL = {
    "prefixes": lambda: prefixes.rows(1, sizes=((3, 5, 2),), few=2),
    "pools": lambda: pools.rows(1, members=(3,), batch=2),
    "iterates": lambda: iterates.rows(1, batches=(2,), points=3, dim=2),
    "attention": lambda: attention.rows(1, contexts=(5, 150)),
}


@pytest.fixture(autouse=True)
def no_repeats(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.LEAST", 0.0)


@pytest.mark.parametrize("family", SMALL)
def test_every_family_measures_rows_whose_ways_agree(family):
    rows = list(SMALL[family]())
    assert {row.family for row in rows} == {family}
    assert all(row.size > 0 and row.ours >= 0 and row.common >= 0 for row in rows)


def test_ways_that_differ_are_refused():
    ways = (lambda: torch.ones(3)), (lambda: torch.ones(3) + 1e-3)
    with pytest.raises(RuntimeError, match=r"sums: the two ways differ by 1\.0e-03 of the largest"):
        compare("arithmetic", "sums", 3, ways, rounds=1, tolerance=1e-6)
    with pytest.raises(RuntimeError, match="differ by nan"):
        compare("arithmetic", "sums", 3, (ways[0], lambda: torch.full((3,), math.nan)), rounds=1, tolerance=1e-6)


def test_a_row_holds_medians_and_the_range_of_the_ratios():
    row = row_of("family", "work", 7, [[1.0, 2.0], [2.0, 10.0], [4.0, 4.0]])
    assert row == Row("family", "work", 7, ours=2.0, common=4.0, ratio=2.0, low=1.0, high=5.0)


def test_the_command_writes_rows_the_machine_and_a_figure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "FAMILIES", {"prefixes": lambda rounds: SMALL["prefixes"]()})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--rounds", "1", "--out", str(tmp_path)])
    threads = torch.get_num_threads()
    command.main()
    torch.set_num_threads(threads)
    record = json.loads((tmp_path / "rows.json").read_text())
    assert record["machine"]["torch"] == torch.__version__
    assert {row["work"] for row in record["rows"]} == {row.work for row in SMALL["prefixes"]()}
    assert "<svg" in (tmp_path / "cost.svg").read_text()
    assert "ridge, by scikit-learn" in capsys.readouterr().out


def test_a_family_that_does_not_exist_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "prefix"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no family is called prefix; there are prefixes, pools" in capsys.readouterr().err


def test_start_up_is_measured_in_child_processes():
    busy, idle = ([sys.executable, "-c", code] for code in ("sum(range(3_000_000))", "pass"))
    assert start.child_seconds(busy) > start.child_seconds(idle) >= 0


def test_one_update_of_training_is_many_operations(monkeypatch):
    monkeypatch.setattr(training, "together", lambda steps: [torch.ones(8, 8) @ torch.ones(8, 8) for _ in range(steps)])
    assert training.operations() == 2 * 8**3


@pytest.fixture
def clock(monkeypatch):
    """CPU time that passes only where a test says so."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("benchmarks.timing.time.process_time", lambda: clock.now)
    return clock


def test_an_update_is_what_a_longer_training_takes_more_and_noise_only_adds(clock):
    noise = iter([0.7, 0.0, 5.0, 0.1, 0.0, 3.0])

    def way(steps):
        clock.now += 2.0 + 0.25 * steps + next(noise)

    assert training.seconds_of_step(way, steps=8) == 0.25


def test_an_update_that_is_lost_in_noise_is_refused(clock):
    noise = iter([1.0] * 3 + [0.0] * 3)

    def way(steps):
        clock.now += 2.0 + 0.01 * steps + next(noise)

    with pytest.raises(RuntimeError, match=r"training: 11 updates took 2\.11 s and one took 3\.01 s"):
        training.seconds_of_step(way, steps=10)


def test_a_study_is_predicted_and_run_at_every_size():
    sizes = {str(steps): {"dim": 2, "points": 3, "layers": 1, "width": 4, "steps": steps} for steps in (1, 3)}
    rows = list(plan.compared(sizes))
    assert [name for name, *_ in rows] == ["1", "3"]
    # Beside its steps there is a test.
    assert 3 * rows[0][1] > rows[1][1] > rows[0][1] > 0
    assert all(predicted > 0 < measured for *_, predicted, measured in rows)


def test_every_study_is_one_ensemble_of_four_networks(tmp_path):
    for name, size in (plan.SIZES | plan.OTHERS | plan.HELD_OUT).items():
        (job,) = sweep_from(plan.study(**size), name).jobs(tmp_path, "cpu")
        assert len(job.copies) == 4, name
        assert job.operations > 0


def test_a_prediction_that_is_off_is_marked(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["plan"])
    ratios = {"low": 0.66, "right": 1.49, "high": 1.51}
    monkeypatch.setattr(plan, "compared", lambda _: ((name, 1.0, 10.0, 10 * ratio) for name, ratio in ratios.items()))
    plan.main()
    marked = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "off by more than 1.5" in line]
    assert marked == ["low", "high"]


def test_rows_without_a_size_are_not_drawn(tmp_path):
    draw([dataclasses.replace(row_of("start", "work", 1, [[1.0, 1.0]]))], tmp_path / "cost.svg")
    assert not (tmp_path / "cost.svg").exists()
