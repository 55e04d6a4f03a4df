"""Sweeps: their plans, ensembles, tables, and intervals over trainings."""

import csv
import json
import math

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from tests.claims.test_engine import finished, sittings
from tests.rounding import rounding
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from insitu.budget import OutOfTimeError, limited
from insitu.errors import InputError
from insitu.metrics import Estimate
from insitu.models import load_network
from insitu.processes import one_thread
from insitu.prompt import Episode
from insitu.records import read_folder
from insitu.seed import Seed
from insitu.storage import write_with_digest
from insitu.sweeps import ClaimSweep, TrainingSweep, claim_jobs, over_trainings, read_sweep
from insitu.sweeps.plan_file import MOST, sweep_from
from insitu.sweeps.tables import SEEDS, SWEEP, seed_rows, store_table
from insitu.sweeps.training_job import PACES, PRODUCT_SPEED
from insitu.training.config import training_from
from insitu.training.operations import forward_numbers, forward_operations
from insitu.training.session import run_training
from insitu.work import predicted_seconds, run_job, shard

TRAINING = {
    "task": {"kind": "LinearRegression", "law": {"kind": "Gaussian", "dim": 2}},
    "network": {"kind": "Transformer", "layers": 1, "width": 8, "heads": 1},
    "training": {"steps": 6, "rate": 0.01, "batch": 4, "points": 3, "queries": 2, "std": 0.5},
}
GRID = {"seed": [0, 1, 2], "network.mask": ["prefix", "causal"], "training.rate": [0.01, 0.03]}
# Six steps on sums of at most 64 terms.
CLOSE = rounding(terms=64, steps=6, dtype=torch.float32)
CHEAP = "sander2024.augmented-layer-is-one-step"


def sweep(**changes):
    return sweep_from(TRAINING | {"test": 16, "grid": GRID} | changes, "the test")


def rows_of(folder, plan):
    jobs = plan.jobs(folder, "cpu")
    return jobs, plan.rows(jobs, [event.record for event in sorted_events(jobs)])


def sorted_events(jobs):
    events = {event.job.key: event for event in finished(jobs, resume=True)}
    return [events[job.key] for job in jobs]


def numbers(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


# Plans.


def test_a_grid_is_every_combination_and_a_list_is_run_with_the_grid():
    plan = sweep(grid={"seed": [0, 1], "training.rate": [0.1, 0.2]}, list=[{"task.law.dim": 2}, {"task.law.dim": 3}])
    assert len(plan.points) == 8
    assert plan.points[5] == {"task.law.dim": 3, "seed": 0, "training.rate": 0.2}
    assert plan.fields == ("task.law.dim", "seed", "training.rate")


def test_what_fits_trains_as_one_ensemble(tmp_path):
    jobs = sweep().jobs(tmp_path, "cpu")
    # Masks and seeds fit together, rates do not; at most eight trainings.
    assert [len(job.members) for job in jobs] == [6, 6]
    assert [len(job.members) for job in sweep(together=4).jobs(tmp_path, "cpu")] == [4, 2, 4, 2]
    wide = sweep(grid={"task.law.dim": [2, 3], "seed": [0, 1]}).jobs(tmp_path, "cpu")
    assert [len(job.members) for job in wide] == [2, 2]
    assert len({job.key for job in jobs}) == 2


def test_one_training_of_an_ensemble_is_what_insitu_train_trains(tmp_path):
    (job,) = sweep(grid={"seed": [0, 3], "network.mask": ["prefix", "causal"]}).jobs(tmp_path / "sweep", "cpu")
    together = job.trained()
    for (member, *_), network in zip(job.copies, together, strict=True):
        folder = tmp_path / f"{member.seed}-{member.training.architecture.mask}"
        list(run_training(member.training, Seed(member.seed), folder, torch.device("cpu")))
        alone = load_network(folder / next(iter(member.training.networks)))
        for (name, a), b in zip(alone.named_parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(determined(name, a), determined(name, b), rtol=0, atol=CLOSE)


def determined(name, weight):
    """Without the biases of keys: softmax is blind to them, and Adam makes steps of the rounding of their slopes."""
    if not name.endswith("attention.bias"):
        return weight
    queries, _, values = weight.chunk(3)
    return torch.cat([queries, values])


def test_a_field_of_a_claim_is_changed_in_its_setting_alone(tmp_path):
    plan = ClaimSweep((CHEAP,), "quick", ({"seed": 1, "batch": 7}, {"seed": 1, "batch": 8}, {"batch": 8, "seed": 1}))
    jobs = plan.jobs(tmp_path, "cpu")
    assert [job.claim.quick.batch for job in jobs] == [7, 8]
    assert [job.claim.quick.dims for job in jobs] == [
        job.claim.quick.dims for job in claim_jobs([CHEAP], folder=tmp_path, device="cpu")
    ] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"seed": 3}}, r"\[grid\] must give a list of values for each field; got"),
        ({"grid": {"seed": []}}, r"\[grid\] must give a list"),
        ({"grid": {"seed": [-1]}}, "seed must be a whole number of at least 0; got -1"),
        ({"grid": {"seed": [True]}}, "seed must be a whole number"),
        ({"list": [3]}, r"\[\[list\]\] must be tables of fields and values; got"),
        ({"grid": {"seed": list(range(1000)), "training.rate": [1.0] * 1000}}, f"1000000 combinations; at most {MOST}"),
        ({"grid": {"rate": [1.0]}}, "the field 'rate' is in no table of the plan"),
        ({"grid": {"task.kind.dim": [1]}}, "the field 'task.kind.dim' is in no table"),
        ({"grid": {"training.rite": [1.0]}}, "'rite' is not a key here; did you mean rate"),
        ({"grid": {"network.mask": ["sideways"]}}, "mask must be 'prefix' or 'causal'; got 'sideways'"),
        ({"grid": {"network.width": [10**7]}}, "this needs at least .* GB of memory"),
        ({"network": {"kind": []}}, r"network: kind \[\] is not known"),
        ({"grid": {}, "list": [{}], "network": {"kind": {}}}, "network: kind {} is not known"),
        ({"together": 0}, "together must be a whole number of at least 1; got 0"),
        ({"test": 1}, "test must be a whole number of at least 2; got 1"),
        ({"claims": ["x"]}, "'network' is not a key here|'task' is not a key here|'test' is not a key here"),
    ],
)
def test_a_plan_that_is_none_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        sweep(**changes).jobs(tmp_path, "cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "nothing to run"),
        ({"claims": "x"}, "claims must be a list of names; got 'x'"),
        ({"claims": ["ding2025"]}, "no paper or claim is called 'ding2025'; did you mean"),
        ({"claims": [CHEAP], "scale": "huge"}, "scale must be 'quick' or 'full'; got 'huge'"),
        ({"claims": [CHEAP], "grid": {"batsch": [1]}}, "no field 'batsch'; did you mean batch"),
        ({"claims": [CHEAP], "grid": {"batch": ["many"]}}, "expected a value like .* a int; got 'many'"),
        ({"claims": [CHEAP], "grid": {"batch.size": [1]}}, "no field 'size'"),
    ],
)
def test_a_plan_of_claims_that_is_none_is_refused(document, message, tmp_path):
    with pytest.raises(InputError, match=message):
        sweep_from(document, "the test").jobs(tmp_path, "cpu")


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text("grid = [")
    with pytest.raises(InputError, match="is not TOML"):
        read_sweep(tmp_path / "a.toml")
    with pytest.raises(InputError, match="cannot be read"):
        read_sweep(tmp_path / "none.toml")


# Runs.


@pytest.fixture(autouse=True)
def computed_as_by_workers():
    """What is compared with workers to the last bit."""
    with one_thread():
        yield


def test_a_training_is_expected_to_take_longer_on_a_slower_machine(tmp_path, monkeypatch):
    (job,) = sweep(grid={"seed": [0]}).jobs(tmp_path, "cpu")
    for speed in (PRODUCT_SPEED, PRODUCT_SPEED / 4):
        monkeypatch.setattr("insitu.sweeps.training_job.product_speed", lambda speed=speed: speed)
        assert job.expected_seconds == pytest.approx(PRODUCT_SPEED / speed * job.stated_seconds)
        assert predicted_seconds([job]) == {job.key: job.expected_seconds}
    # Shards of different machines divide the list alike. Six steps of one layer, and a test on 16 prompts.
    sizes = {"context": 3, "queries": 2, "alone": True}
    numbers = sum(times * forward_numbers(job.copies[0][2], batch=batch, **sizes) for times, batch in ((6, 4), (1, 16)))
    pace = PACES["cpu"]
    launched = 6 * (pace.step + pace.layer)
    assert job.stated_seconds == pytest.approx(job.operations / pace.speed + numbers * pace.number + launched)


@pytest.mark.parametrize("kind", ["Transformer", "Decoder", "AttentionNetwork"])
def test_operations_of_a_training_are_those_of_its_steps_and_its_test(kind, tmp_path):
    """Against PyTorch's counter. A decoder learns from one query of a prompt, and answers each in a pass of its own."""
    sizes = {"Transformer": {"width": 8, "heads": 1}, "Decoder": {"width": 8, "heads": 1}, "AttentionNetwork": {}}
    (job,) = sweep(network={"kind": kind, "layers": 2, **sizes[kind]}, grid={"seed": [0]}).jobs(tmp_path, "cpu")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as training:
        networks = job.trained()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as test:
        job.tested(networks)
    (member,) = job.members
    forward, tested = (job.counted(forward_operations, member, count) for count in (None, 16))
    assert job.operations == 6 * 3 * forward + tested
    # A test reads answers out of queries alone, and merges maps.
    assert 0.9 * tested < test.get_total_flops() < 1.1 * tested
    # The first layer has no gradient for its inputs to compute.
    assert 6 * 2 * forward < training.get_total_flops() <= 6 * 3 * forward


def test_every_way_to_run_a_list_gives_the_same_bits(tmp_path):
    plan = sweep(together=3)
    _, whole = rows_of(tmp_path / "whole", plan)
    two = plan.jobs(tmp_path / "two", "cpu")
    assert len(whole) == 12
    finished(two, workers=2)
    assert numbers(rows_of(tmp_path / "two", plan)[1]) == numbers(whole)
    for number in (2, 1, 3):
        finished(shard(plan.jobs(tmp_path / "shards", "cpu"), number, 3), resume=True)
    assert numbers(rows_of(tmp_path / "shards", plan)[1]) == numbers(whole)


def test_a_training_goes_on_in_the_next_sitting(tmp_path):
    plan = sweep(grid={"seed": [0, 1]})
    _, whole = rows_of(tmp_path / "whole", plan)
    (job,) = plan.jobs(tmp_path / "parts", "cpu")
    with limited() as time_left:
        time_left.end()
        with pytest.raises(OutOfTimeError, match="the time is over after 1 of 6 steps"):
            job.run()
    assert (job.state / "training.pt").exists()
    events, count = sittings([job])
    assert count == 1
    assert numbers(plan.rows([job], [events[0].record])) == numbers(whole)
    assert not (tmp_path / "parts" / "unfinished").exists()
    # As a kill between the record and the removal of the state leaves it.
    write_with_digest(job.state / "training.pt", b"state")
    sittings([job])
    assert not (tmp_path / "parts" / "unfinished").exists()


def test_a_training_that_fails_is_an_error_with_its_reason(tmp_path):
    (job,) = sweep(grid={"training.rate": [1e30]}).jobs(tmp_path, "cpu")
    record = run_job(job)
    assert "diverged" in record.error
    assert job.earlier() is None


def test_networks_are_tested_on_prompts_of_their_own(tmp_path, monkeypatch):
    """The second road to a row: the network's answers to episodes drawn by hand; a saboteur tests on the training's."""
    (job,) = sweep(grid={"seed": [5]}).jobs(tmp_path, "cpu")
    (network,) = job.trained()
    training = training_from(TRAINING, "the test")
    episode = training.task.sample(Seed(5) / "test", 16, 3, 2)
    by_hand = float(np.mean((network.predict(episode.prompt) - episode.answers).detach().numpy() ** 2))
    assert job.tested([network])[0]["error"] == pytest.approx(by_hand, rel=1e-5)
    assert isinstance(episode, Episode)
    other = training.task.sample(Seed(5) / "batch" / 0, 16, 3, 2)
    wrong = float(np.mean((network.predict(other.prompt) - other.answers).detach().numpy() ** 2))
    assert wrong != pytest.approx(by_hand, rel=1e-2)


# Tables.


def test_a_table_says_the_same_as_a_record_a_csv_and_a_parquet_file(tmp_path):
    plan = sweep(grid={"seed": [0, 1], "training.betas": [[0.9, 0.99], [0.9, 0.9]]})
    jobs, rows = rows_of(tmp_path, plan)
    store_table(SWEEP, jobs, plan.fields, rows, tmp_path)
    stored = next(r for r in read_folder(tmp_path)[0].values() if r["kind"] == SWEEP)
    text = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    table = parquet.read_table(tmp_path / "sweep.parquet").to_pylist()
    assert len(stored["rows"]) == len(text) == len(table) == 4
    for row, line, entry in zip(stored["rows"], text, table, strict=True):
        assert row["error"] == float(line["error"]) == entry["error"]
        assert json.loads(line["training.betas"]) == row["training.betas"]


def test_claims_over_seeds_have_a_row_for_each_quantity(tmp_path):
    jobs = claim_jobs([CHEAP], seeds=(0, 1, 2), folder=tmp_path, device="cpu")
    records = [event.record for event in sorted_events(jobs)]
    rows = seed_rows(jobs, records)
    assert [row["quantity"] for row in rows] == [rule.quantity for rule in jobs[0].claim.rules]
    for row in rows:
        own = [check["value"] for r in records for check in r.checks if check["quantity"] == row["quantity"]]
        assert row["value"] == pytest.approx(np.mean(own))
        assert (row["seeds"], row["verdict"]) == (3, "holds")
    assert seed_rows(jobs[:1], records[:1]) == []
    store_table(SEEDS, jobs, ("seed",), rows, tmp_path)
    assert (tmp_path / "seeds.csv").exists()


# Intervals over trainings.


def coverage(between, within, trainings, interval):
    """How often an interval contains the mean of all trainings, by NumPy's own draws."""
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        truths = between * random.standard_normal(trainings)
        values = truths + within * random.standard_normal(trainings)
        low, high = interval([Estimate(float(v), within) for v in values])
        inside += low <= 0 <= high
    return inside / 2000


@pytest.mark.parametrize(("between", "within"), [(1.0, 0.1), (0.1, 1.0), (1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("trainings", [3, 6])
def test_the_interval_over_trainings_covers_as_often_as_it_says(between, within, trainings):
    share = coverage(between, within, trainings, lambda own: over_trainings(own).mean.interval())
    # Four standard errors of a share of 2000.
    assert share == pytest.approx(0.99, abs=4 * math.sqrt(0.99 * 0.01 / 2000))


def test_an_interval_of_the_prompts_alone_covers_too_seldom():
    """The saboteur: trainings pooled as if they were one network, with the error of their prompts."""

    def pooled(own):
        error = math.sqrt(sum(e.error**2 for e in own)) / len(own)
        return Estimate(sum(e.value for e in own) / len(own), error).interval()

    assert coverage(1.0, 0.1, 6, pooled) < 0.5


def test_the_spread_between_trainings_is_what_prompts_do_not_explain():
    random = np.random.default_rng(1)
    values = 2.0 * random.standard_normal(4000) + 1.5 * random.standard_normal(4000)
    found = over_trainings([Estimate(float(value), 1.5) for value in values])
    assert found.between == pytest.approx(2.0, rel=0.05)
    assert found.within == pytest.approx(1.5)
    noise = over_trainings([Estimate(float(value), 100.0) for value in values])
    assert noise.between == 0.0


def test_exact_numbers_stay_exact_and_a_divergence_leaves_nothing_known():
    assert over_trainings([Estimate(2.0)] * 3).mean.interval() == (2.0, 2.0)
    low, high = over_trainings([Estimate(1.0), Estimate(math.inf)]).mean.interval()
    assert (low, high) == (-math.inf, math.inf)
    with pytest.raises(InputError, match="at least two of them; got 1"):
        over_trainings([Estimate(1.0)])


def test_the_document_of_a_plan_is_not_changed_by_its_points(tmp_path):
    plan = sweep()
    before = json.dumps(TRAINING)
    assert isinstance(plan, TrainingSweep)
    plan.jobs(tmp_path, "cpu")
    assert json.dumps(TRAINING) == before
