"""The engine: estimates, rules, records, and a runner that survives what happens to it."""

import dataclasses
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.claims.measurements import (
    Longer,
    Numbers,
    Traced,
    broken,
    broken_study,
    counted_study,
    dies,
    hidden_nan,
    interrupts_seen,
    mean_of_normals,
    mean_of_study,
    stops_halfway,
    trained_slowly,
)

from insitu import records
from insitu.budget import OutOfTimeError, budget, limited
from insitu.claims import Claim, Figure, Measurement, Panel, Paper, Rule, Run, Study, Verdict, line
from insitu.claims.job import ClaimJob
from insitu.claims.record import read_record, read_records, run_key, write_record
from insitu.errors import InputError
from insitu.metrics import Estimate
from insitu.records import source_digest
from insitu.seed import Seed
from insitu.storage import StorageError, require_folder, write_atomically
from insitu.work import Finished, Started, plan, predicted_seconds, queued, run_job, run_jobs, shard
from insitu.work.planning import memory_room
from insitu.work.schedule import Schedule, WorkPace, timetable

SETTING = Numbers(count=100)


def claim(name="toy.mean-is-zero", measure=mean_of_normals, **changes):
    given = Claim(
        id=name,
        statement="The mean is zero.",
        source="Nowhere",
        rules=(Rule("mean", low=-1.0, high=1.0),),
        measure=measure,
        quick=SETTING,
        full=SETTING,
        quick_seconds=1.0,
        full_hours=1.0,
    )
    return dataclasses.replace(given, **changes)


def job(folder, one=None, seed=0):
    one = one or claim()
    return ClaimJob(one, Paper("toy", "Toy", "Nobody", "Nowhere", (one,)), "quick", seed, "cpu", Path(folder))


COUNTED = Study("toy.counted_study", counted_study)


def finished(jobs, **how):
    events = run_jobs(jobs, **({"workers": 1, "resume": False} | how))
    return [event for event in events if isinstance(event, Finished)]


def test_an_interval_covers_the_mean_as_often_as_it_says():
    samples = (Seed(0) / "coverage").normal(4000, 30)
    inside = [low <= 0 <= high for low, high in (Estimate.mean(row).interval(0.9) for row in samples)]
    assert sum(inside) / len(inside) == pytest.approx(0.9, abs=3 * math.sqrt(0.09 / 4000))


def test_the_error_of_a_ratio_is_that_of_repeated_draws():
    above, below = 3 + (Seed(0) / "a").normal(2000, 200), 2 + (Seed(0) / "b").normal(2000, 200)
    estimates = [Estimate.ratio(a, b) for a, b in zip(above, below, strict=True)]
    spread = torch.tensor([e.value for e in estimates]).std().item()
    assert torch.tensor([e.error for e in estimates]).mean().item() == pytest.approx(spread, rel=0.06)


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.5, 0.0, Verdict.HOLDS),
        (1.0, 0.0, Verdict.HOLDS),
        (1.1, 0.0, Verdict.FAILS),
        (math.inf, 0.0, Verdict.FAILS),
        (0.9, 0.1, Verdict.UNDECIDED),
        (2.0, 0.1, Verdict.FAILS),
    ],
)
def test_a_rule_decides_by_the_interval(value, error, expected):
    assert Rule("q", low=0.0, high=1.0).decide(Estimate(value, error)) is expected


def test_what_is_not_a_number_decides_nothing():
    with pytest.raises(InputError, match="NaN"):
        Estimate(math.nan)


def test_a_rule_without_its_quantity_is_refused():
    with pytest.raises(InputError, match="no estimate was measured for mean"):
        claim().judge(Measurement({"other": Estimate(0.0)}))


def test_a_record_holds_what_the_contract_names_and_survives_the_disk(tmp_path):
    record = run_job(job(tmp_path))
    (path,) = (tmp_path / "records").iterdir()
    assert read_record(path) == record
    fields = json.loads(path.read_text())
    wanted = [
        "claim",
        "paper",
        "scale",
        "verdict",
        "value",
        "low",
        "high",
        "rule",
        "seed",
        "device",
        "seconds",
        "versions",
        "commit",
        "figure",
    ]
    assert set(wanted) <= set(fields)
    assert fields["verdict"] == "holds"
    assert fields["low"] < fields["value"] < fields["high"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"verdict": "holds"', '"verdict": "fails"'),
        lambda text: "{}",
        lambda text: "",
        lambda text: "[1]",
        lambda text: re.sub(r'"seconds": [^,\n]+', '"seconds": NaN', text),
    ],
)
def test_damage_is_noticed_named_and_run_again(tmp_path, harm):
    first = run_job(job(tmp_path))
    (path,) = (tmp_path / "records").iterdir()
    path.write_text(harm(path.read_text()))
    assert [d.path for d in read_records(tmp_path)[1]] == [path]
    (again,) = finished([job(tmp_path)], resume=True)
    assert again.damage is not None
    assert again.damage.path == path
    assert not again.resumed
    assert (again.record.value, again.record.key) == (first.value, first.key)
    assert read_records(tmp_path)[1] == []


def test_resume_skips_only_the_same_configuration(tmp_path):
    run_job(job(tmp_path))
    assert finished([job(tmp_path)], resume=True)[0].resumed
    assert not finished([job(tmp_path, seed=1)], resume=True)[0].resumed
    assert not finished([job(tmp_path, claim(version=2))], resume=True)[0].resumed
    assert not finished([job(tmp_path, claim(quick=Numbers(101)))], resume=True)[0].resumed
    assert not finished([job(tmp_path)], resume=False)[0].resumed


def test_the_key_knows_the_code(monkeypatch):
    run = Run(SETTING, Seed(0))
    before = run_key(claim(), "quick", run)
    monkeypatch.setattr("insitu.claims.record.versions", lambda: {"source": "other"})
    assert run_key(claim(), "quick", run) != before


def test_one_claim_that_raises_or_dies_does_not_take_the_others_along(tmp_path):
    jobs = [
        job(tmp_path, claim("toy.raises", broken)),
        job(tmp_path, claim("toy.dies", dies)),
        job(tmp_path, claim("toy.nan", hidden_nan)),
        job(tmp_path),
    ]
    verdicts = {event.record.claim: event.record for event in finished(jobs, workers=2)}
    assert {name: record.verdict for name, record in verdicts.items()} == {
        "toy.raises": "error",
        "toy.dies": "error",
        "toy.nan": "error",
        "toy.mean-is-zero": "holds",
    }
    assert "ZeroDivisionError" in verdicts["toy.raises"].error
    assert "process died" in verdicts["toy.dies"].error
    assert len(read_records(tmp_path)[0]) == 4
    # An error is not a result: it is tried again.
    assert not finished(jobs[:1], resume=True)[0].resumed


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    jobs = [[job(tmp_path / str(n), claim(f"toy.number-{i}")) for i in range(4)] for n in (1, 3)]
    alone, together = (
        {e.record.claim: e.record for e in finished(j, workers=n)} for j, n in zip(jobs, (1, 3), strict=True)
    )
    assert alone.keys() == together.keys()
    for name in alone:
        assert (alone[name].value, alone[name].figure) == (together[name].value, together[name].figure)
    assert len({record.value for record in alone.values()}) == 4, "claims must not share their random streams"


def test_killing_the_run_loses_at_most_the_claim_under_way(tmp_path):
    script = (
        "from tests.claims.test_engine import claim, job, run_jobs\n"
        "from tests.claims.measurements import slow\n"
        f"jobs = [job({str(tmp_path)!r}), job({str(tmp_path)!r}, claim('toy.slow', slow, quick_seconds=9.0))]\n"
        "if __name__ == '__main__':\n"
        "    list(run_jobs(jobs, workers=1, resume=False))\n"
    )
    main = tmp_path / "main.py"
    main.write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    process = subprocess.Popen([sys.executable, str(main)], env=environment, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("records/toy.mean*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    records, damaged = read_records(tmp_path)
    assert [record.claim for record in records] == ["toy.mean-is-zero"]
    assert damaged == []
    assert finished([job(tmp_path)], resume=True)[0].resumed


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    record = run_job(job(tmp_path))
    (path,) = (tmp_path / "records").iterdir()
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_record(record, tmp_path)
    assert [p.name for p in (tmp_path / "records").iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_is_written_to_and_never_replaced():
    with pytest.raises(StorageError, match="No space left"):
        write_atomically(Path("/dev/full"), b"text")
    assert not Path("/dev/full").is_file()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        require_folder(tmp_path / "taken")
    with pytest.raises(StorageError, match="nothing can be written"):
        require_folder(tmp_path / "taken" / "below")


def test_a_figure_is_plain_data():
    panel = Panel("x", "y", (line("a", torch.tensor([1.0, 2.0]), [3, 4], low=[2, 3], high=[4, 5]),))
    figure = Figure((panel,), "caption", "alt")
    assert figure.panels[0].lines[0].x == (1.0, 2.0)
    assert hash(figure)


@pytest.mark.parametrize("workers", [1, 3])
def test_claims_of_one_study_share_it(workers, tmp_path):
    trace = tmp_path / "trace"
    setting = Traced(100, str(trace))
    sharing = [claim(f"toy.{name}", mean_of_study, study=COUNTED, quick=setting) for name in "abc"]
    alone = [claim(f"toy.alone-{name}", quick_seconds=5.0) for name in "de"]
    events = finished([job(tmp_path, one) for one in (*sharing, *alone)], workers=workers)
    assert {event.record.verdict for event in events} == {"holds"}
    assert len(trace.read_text().split()) == 1
    values = {event.record.claim: event.record.value for event in events}
    assert len({values[one.id] for one in sharing}) == 1
    assert len(set(values.values())) == 3
    again = finished([job(tmp_path / "again", sharing[1])])
    assert again[0].record.value == values["toy.b"], "a study's numbers do not depend on which claims look at it"


def test_another_setting_or_seed_is_another_study(tmp_path):
    trace = tmp_path / "trace"
    one, larger = (
        claim(
            f"toy.{name}",
            mean_of_study,
            study=COUNTED,
            quick=Traced(count, str(trace)),
        )
        for name, count in (("a", 100), ("b", 101))
    )
    events = finished([job(tmp_path, one), job(tmp_path, larger), job(tmp_path, one, seed=1)])
    assert len({event.record.value for event in events}) == 3
    assert len(trace.read_text().split()) == 3


def test_a_study_that_raises_is_an_error_of_each_of_its_claims_and_of_no_other(tmp_path):
    ill = [claim(f"toy.{name}", mean_of_study, study=Study("toy.broken_study", broken_study)) for name in "ab"]
    events = finished([job(tmp_path, one) for one in (*ill, claim())])
    verdicts = {event.record.claim: event.record.verdict for event in events}
    assert verdicts == {"toy.a": "error", "toy.b": "error", "toy.mean-is-zero": "holds"}
    assert "the study broke" in next(event.record.error for event in events if event.record.claim == "toy.a")


def test_unfinished_work_is_kept_for_resume_and_removed_at_its_end(tmp_path):
    long = claim(measure=mean_of_study, study=Study("toy.stops_halfway", stops_halfway))
    assert finished([job(tmp_path, long)])[0].record.verdict == "error"
    assert [path.read_text() for path in tmp_path.rglob("state")] == ["half"]
    assert finished([job(tmp_path, long)])[0].record.verdict == "error", "without --resume work starts afresh"
    assert finished([job(tmp_path, long)], resume=True)[0].record.verdict == "holds"
    assert not (tmp_path / "unfinished").exists()


# The order of work.

COSTS = [0.1] * 30 + [2.0] * 15 + [5.0] * 12 + [17.0, 20.0, 37.0, 41.0, 59.0, 75.0, 191.0, 214.0]
"""What the claims take at quick scale, roughly: most of them moments, a few trainings minutes."""


def longest_first(costs, workers):
    """When all is done if each worker takes the longest piece that is left (Graham, 1969)."""
    free = [0.0] * workers
    for cost in sorted(costs, reverse=True):
        free[free.index(min(free))] += cost
    return max(free)


def end(entries):
    return max(entry.end for entry in entries)


@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_the_first_results_come_soon_and_the_last_no_later(workers):
    entries = timetable(Schedule(COSTS, workers), [0.0] * workers)
    assert sorted(entry.piece for entry in entries) == list(range(len(COSTS)))
    done = sorted(entry.end for entry in entries)
    assert done[0] <= 0.1
    assert len([time for time in done if time <= 90]) >= 50
    assert done[-1] <= 1.03 * max(longest_first(COSTS, workers), max(COSTS))


def test_one_worker_goes_from_cheap_to_long():
    entries = timetable(Schedule(COSTS[::-1], 1), [0.0])
    assert [entry.end - entry.start for entry in entries] == pytest.approx(COSTS)


def test_an_order_that_is_only_cheap_first_would_end_later():
    """The saboteur: both workers in ascending order, so that one is alone with the longest at the end."""
    free = [0.0, 0.0]
    for cost in sorted(COSTS):
        free[free.index(min(free))] += cost
    assert max(free) > 1.03 * longest_first(COSTS, 2)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_no_worker_does_two_things_at_once_or_waits_while_there_is_work(workers):
    entries = timetable(Schedule(COSTS, workers), [0.0] * workers)
    for worker in range(workers):
        own = sorted((entry.start, entry.end) for entry in entries if entry.worker == worker)
        assert all(start == pytest.approx(end) for (_, end), (start, _) in itertools.pairwise(own))
        assert own[0][0] == 0.0
        assert own[-1][1] >= max(entry.start for entry in entries)


# Memory.


def used(entries, needs, now):
    """The memory of what is under way."""
    return sum(needs[entry.piece] for entry in entries if entry.start <= now < entry.end)


NEEDS = [3.0 if cost in (17.0, 20.0, 37.0, 41.0, 59.0) else 1.5 if cost == 214.0 else 0.0 for cost in COSTS]


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_pieces_never_need_more_memory_together_than_there_is(workers):
    entries = timetable(Schedule(COSTS, workers, NEEDS, room=4.6), [0.0] * workers)
    assert sorted(entry.piece for entry in entries) == list(range(len(COSTS)))
    assert all(used(entries, NEEDS, entry.start) <= 4.6 for entry in entries)
    alone = sum(cost for cost, need in zip(COSTS, NEEDS, strict=True) if need == 3.0)
    # What runs alone is as coarse as one long piece.
    assert end(entries) <= 1.1 * max(longest_first(COSTS, workers), max(COSTS), alone)


def test_memory_that_is_not_looked_at_is_exceeded():
    """The saboteur: the same pieces with room for all."""
    entries = timetable(Schedule(COSTS, 2, NEEDS), [0.0] * 2)
    assert any(used(entries, NEEDS, entry.start) > 4.6 for entry in entries)


def test_large_pieces_that_begin_last_end_later():
    """The saboteur: the longest pieces first, so that the large ones are left, one after the other, at the end."""
    costs, needs = [50.0, 50.0, 30.0, 30.0, 30.0], [0.0, 0.0, 3.0, 3.0, 3.0]
    assert end(timetable(Schedule(costs, 2, needs, room=4.0), [0.0] * 2)) == pytest.approx(100.0)
    assert longest_first(costs[:2], 2) + sum(costs[2:]) > 100.0


def test_a_piece_that_needs_more_than_there_is_runs_beside_none_that_needs_any():
    entries = timetable(Schedule([100.0, 95.0, 99.0], 3, [9.0, 1.0, 0.0], room=4.0), [0.0] * 3)
    assert {entry.piece: entry.start for entry in entries} == {0: 0.0, 2: 0.0, 1: 100.0}


@pytest.mark.parametrize("room", [0.0, 4e9])
def test_jobs_wait_for_the_memory_of_others(room, tmp_path, monkeypatch):
    monkeypatch.setattr("insitu.work.dispatcher.memory_room", lambda workers: room)
    large = [claim(f"toy.large-{name}", quick_gigabytes=3.0, quick_seconds=100.0) for name in "abc"]
    under_way, most = set(), 0
    for event in run_jobs([job(tmp_path, one) for one in (*large, claim())], workers=3, resume=False):
        change = under_way.add if isinstance(event, Started) else under_way.discard
        change(event.job.name)
        most = max(most, len([name for name in under_way if "large" in name]))
    assert most == 1
    assert len(list((tmp_path / "records").glob("*.json"))) == 4


def test_the_room_grows_with_the_workers_up_to_what_is_free(monkeypatch):
    free = SimpleNamespace(available=7e9)
    monkeypatch.setattr("insitu.work.planning.psutil.virtual_memory", lambda: free)
    assert [memory_room(workers) for workers in (1, 2, 3, 64)] == [1.6e9, 3.2e9, 4.8e9, 7e9]


def test_a_claim_states_its_memory_at_quick_scale(tmp_path):
    large = job(tmp_path, claim(quick_gigabytes=1.5))
    assert large.bytes_needed == 1_500_000_000
    assert dataclasses.replace(large, scale="full").bytes_needed is None
    assert job(tmp_path).bytes_needed is None


@pytest.mark.parametrize("slower", [0.5, 1.0, 2.0])
def test_the_prediction_is_right_within_a_quarter_after_a_minute(slower):
    """A machine that is faster or slower than the one that the costs were measured on, by a clock of its own."""
    schedule, pace = Schedule(COSTS, 2), WorkPace()
    entries = timetable(Schedule(COSTS, 2), [0.0, 0.0])
    now = 60.0
    begun = sorted((entry for entry in entries if slower * entry.start <= now), key=lambda entry: entry.start)
    under_way = [(0.0, 0.0), (0.0, 0.0)]
    for entry in begun:
        assert schedule.take(entry.worker) == entry.piece
        cost = COSTS[entry.piece]
        if slower * entry.end <= now:
            pace.add(cost, slower * cost)
        else:
            under_way[entry.worker] = (cost, now - slower * entry.start)
    assert pace.left(schedule, under_way) == pytest.approx(slower * end(entries) - now, rel=0.25)


def test_claims_run_from_cheap_to_long_and_the_verdicts_do_not_depend_on_it(tmp_path):
    costs = {"a": 3.0, "b": 1.0, "c": 2.0}
    jobs = [job(tmp_path, claim(f"toy.{name}", quick_seconds=seconds)) for name, seconds in costs.items()]
    events = list(run_jobs(jobs, workers=1, resume=False))
    assert [event.job.claim.id for event in events if isinstance(event, Started)] == ["toy.b", "toy.c", "toy.a"]
    assert events[0].left == pytest.approx(6.0, abs=0.5)
    assert events[-1].left == 0.0
    values = {event.record.claim: event.record.value for event in events if isinstance(event, Finished)}
    # Another order, by what records say that the claims took.
    for name, seconds in {"a": 1.0, "b": 3.0, "c": 2.0}.items():
        record = run_job(job(tmp_path / "other", claim(f"toy.{name}")))
        write_record(dataclasses.replace(record, seconds=seconds), tmp_path / "other")
    again = [dataclasses.replace(one, folder=tmp_path / "other") for one in jobs]
    events = list(run_jobs(again, workers=1, resume=False))
    assert [event.job.claim.id for event in events if isinstance(event, Started)] == ["toy.a", "toy.c", "toy.b"]
    assert {event.record.claim: event.record.value for event in events if isinstance(event, Finished)} == values


def test_costs_are_those_of_earlier_records_or_else_what_claims_state(tmp_path):
    known, unknown = job(tmp_path), job(tmp_path, claim("toy.unknown", quick_seconds=7.0))
    write_record(dataclasses.replace(run_job(known), seconds=3.5), tmp_path)
    assert predicted_seconds([known, unknown]) == {known.key: 3.5, unknown.key: 7.0}
    full = dataclasses.replace(unknown, scale="full")
    assert predicted_seconds([full]) == {full.key: 3600.0}


def test_jobs_that_share_a_study_stand_in_one_queue(tmp_path):
    sharing = [claim(f"toy.{name}", mean_of_study, study=COUNTED, quick=Traced(9, "")) for name in "ab"]
    jobs = [job(tmp_path, one) for one in (sharing[0], claim(), sharing[1])]
    assert queued(jobs) == [[jobs[0], jobs[2]], [jobs[1]]]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 200])
def test_shards_are_the_whole_list_each_claim_once(count, tmp_path):
    jobs = [job(tmp_path, claim(f"toy.n{number}", quick_seconds=cost)) for number, cost in enumerate(COSTS)]
    parts = [shard(jobs, number, count) for number in range(1, count + 1)]
    assert sorted(one.claim.id for part in parts for one in part) == sorted(one.claim.id for one in jobs)
    loads = [sum(one.claim.quick_seconds for one in part) for part in parts]
    # Graham (1969): the longest-first rule is within 4/3 of the best, which is at least the mean and the longest piece.
    assert max(loads) <= 4 / 3 * max(sum(COSTS) / count, max(COSTS))


def test_shards_keep_studies_together_and_do_not_look_at_records(tmp_path):
    sharing = [claim(f"toy.{name}", mean_of_study, study=COUNTED, quick=Traced(9, "")) for name in "abc"]
    jobs = [job(tmp_path, one) for one in (sharing[0], claim(), *sharing[1:])]
    before = [shard(jobs, number, 2) for number in (1, 2)]
    assert {tuple(part) for part in map(tuple, before)} == {(jobs[0], jobs[2], jobs[3]), (jobs[1],)}
    write_record(dataclasses.replace(run_job(jobs[1]), seconds=1e6), tmp_path)
    assert [shard(jobs, number, 2) for number in (1, 2)] == before
    with pytest.raises(InputError, match=r"shard 3/2: the number must be from 1 to 2"):
        shard(jobs, 3, 2)


def test_shards_write_what_one_run_writes(tmp_path):
    jobs = {part: [job(tmp_path / part, claim(f"toy.n{number}")) for number in range(3)] for part in ("one", "shards")}
    whole = {event.record.claim: event.record.value for event in finished(jobs["one"])}
    for number in (1, 2):
        finished(shard(jobs["shards"], number, 2))
    assert {record.claim: record.value for record in read_records(tmp_path / "shards")[0]} == whole


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system cannot hold signals back")
def test_workers_do_not_see_an_interrupt_meant_for_the_program(tmp_path):
    assert finished([job(tmp_path, claim(measure=interrupts_seen))])[0].record.value == 0.0


def test_a_plan_is_what_a_run_does(tmp_path):
    costs = {"a": 3.0, "b": 1.0, "c": 2.0}
    jobs = [job(tmp_path, claim(f"toy.{name}", quick_seconds=seconds)) for name, seconds in costs.items()]
    planned = plan(jobs, workers=1, resume=True)
    assert [(p.job.claim.id, p.start, p.end) for p in planned] == [
        ("toy.b", 0.0, 1.0),
        ("toy.c", 1.0, 3.0),
        ("toy.a", 3.0, 6.0),
    ]
    assert list(tmp_path.iterdir()) == []
    started = [event.job for event in run_jobs(jobs, workers=1, resume=True) if isinstance(event, Started)]
    assert started == [p.job for p in planned]
    assert {p.record.verdict for p in plan(jobs, workers=1, resume=True)} == {"holds"}
    assert {p.record for p in plan(jobs, workers=1, resume=False)} == {None}


# Budgets of time.


def sittings(jobs, workers=1):
    """Run jobs, each sitting ended in the middle of a training, until all are done; records, and how many sittings."""
    for count in range(1, 20):
        with limited():
            try:
                return finished(jobs, workers=workers, resume=True), count
            except OutOfTimeError:
                continue
    raise AssertionError


def test_sittings_add_up_to_one_run(tmp_path):
    whole = finished([job(tmp_path / "whole", claim(measure=trained_slowly, quick=Longer(0)))])
    parts, count = sittings([job(tmp_path / "parts", claim(measure=trained_slowly, quick=Longer(4)))])
    assert count > 2
    assert parts[0].record.verdict == "holds"
    assert parts[0].record.value == whole[0].record.value


def test_time_that_is_over_starts_nothing(tmp_path):
    with limited() as time_left:
        time_left.end()
        with pytest.raises(OutOfTimeError, match=r"0 of 1 have their records.*same command with --resume"):
            finished([job(tmp_path)])
    assert not (tmp_path / "records").exists()
    assert budget().left == math.inf


def test_a_signal_to_the_whole_run_ends_it_with_everything_stored(tmp_path):
    jobs = [job(tmp_path, claim(measure=trained_slowly, quick=Longer(-1)))]
    with limited():
        events = run_jobs(jobs, workers=1, resume=False)
        assert isinstance(next(events), Started)
        while not list(tmp_path.rglob("training.pt")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(OutOfTimeError, match="0 of 1 have"):
            next(events)
    assert read_records(tmp_path) == ([], [])


def test_code_that_is_being_compiled_is_no_part_of_the_source():
    before = source_digest()
    half = Path(records.__file__).parent / "__pycache__" / "records.cpython-311.pyc.140234"
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half")
    try:
        assert source_digest() == before
    finally:
        half.unlink()
