"""`insitu train`: a file in, checkpoints, metrics and curves out; exact resume; and words for what cannot be."""

import importlib.util
import itertools
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.rounding import rounding
from typer.testing import CliRunner

from insitu import InputError, Seed
from insitu.budget import OutOfTimeError, budget, limited
from insitu.cli.app import app
from insitu.models import AttentionNetwork, Causal, Decoder, Transformer, load_network
from insitu.storage import StorageError, locked
from insitu.tasks import LinearClassification, LinearRegression, RandomCovariance, UniformCube
from insitu.training import Batches
from insitu.training.config import read_training
from insitu.training.event_files import EVENTS, event_files
from insitu.training.memory import least_memory, weight_count
from insitu.training.session import read_metrics, run_training

PLAIN = """
[task]
kind = "LinearRegression"
noise = 0.1
law = { kind = "UniformCube", dim = 3 }

[network]
kind = "Transformer"
mask = "causal"
layers = 2
width = 16

[training]
steps = 30
rate = 0.01
batch = 8
points = 6
queries = 4
starts = 2
"""
CPU = torch.device("cpu")


def written(folder, text=PLAIN):
    path = folder / "own.toml"
    path.write_text(text)
    return path


def test_a_file_says_what_is_trained(tmp_path):
    training = read_training(written(tmp_path))
    assert training.task == LinearRegression(UniformCube(3), noise=0.1)
    assert training.architecture.mask == Causal()
    assert (training.architecture.dim, training.architecture.out) == (3, 1)
    assert (training.recipe.steps, training.batch, training.starts) == (30, 8, 2)


@pytest.mark.parametrize(
    ("task", "network", "kinds"),
    [
        (
            'kind = "LinearClassification"\nout = 3',
            'kind = "AttentionNetwork"',
            (LinearClassification, AttentionNetwork),
        ),
        ('kind = "RandomCovariance"', 'kind = "Decoder"\nwidth = 16\nheads = 2', (RandomCovariance, Decoder)),
        ('kind = "LinearRegression"', 'kind = "Transformer"', (LinearRegression, Transformer)),
    ],
)
def test_every_kind_of_network_trains_and_is_stored(task, network, kinds, tmp_path):
    law = 'law = { kind = "Gaussian", dim = 3 }'
    schedule = "[training]\nsteps = 40\nrate = 0.01\nbatch = 16\npoints = 6\n"
    training = read_training(written(tmp_path, f"[task]\n{task}\n{law}\n[network]\n{network}\n{schedule}"))
    assert isinstance(training.task, kinds[0])
    losses = [step.losses[0] for step in run_training(training, Seed(0), tmp_path / "run", CPU)]
    assert sum(losses[-5:]) < sum(losses[:5])
    stored = load_network(tmp_path / "run" / "network-0")
    assert isinstance(stored, kinds[1])
    prompt = training.task.sample(Seed(1), 4, 6, 2).prompt
    assert stored.predict(prompt).shape == (4, 2, training.task.out)


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path):
    training = read_training(written(tmp_path))
    whole = list(run_training(training, Seed(0), tmp_path / "whole", CPU))
    for step in run_training(training, Seed(0), tmp_path / "halves", CPU, seconds=0.0):
        if step.index == 11:
            break
    with (tmp_path / "halves" / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 12, "sta')
    second = list(run_training(training, Seed(0), tmp_path / "halves", CPU, resume=True))
    assert [step.index for step in second] == list(range(12, 30))
    assert second == whole[12:]
    assert read_metrics(tmp_path / "halves") == read_metrics(tmp_path / "whole")
    for start in range(2):
        one, other = (load_network(tmp_path / run / f"network-{start}") for run in ("whole", "halves"))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_command_writes_networks_metrics_and_curves(tmp_path):
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", str(written(tmp_path)), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows[-2:]] == told["losses"]
    assert [(row["step"], row["network"]) for row in rows] == [
        (step, f"network-{start}") for step in range(30) for start in range(2)
    ]
    assert (out / "curves.svg").read_bytes().startswith(b"<?xml")
    assert (out / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert load_network(told["networks"][1]).architecture.mask == Causal()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("rate = 0.01", "rat = 0.01", r"training: 'rat' is not a key here; did you mean rate"),
        ("layers = 2", "layer = 2", r"network: 'layer' is not a key here; did you mean layers"),
        ("noise = 0.1", "nose = 0.1", r"task: 'nose' is not a key here; did you mean noise"),
        ("[network]", "[networks]", r"'networks' is not a key here; did you mean network"),
        (
            '"LinearRegression"',
            '"LinearRegresion"',
            "task: kind 'LinearRegresion' is not known; did you mean LinearRegr",
        ),
        ('"causal"', '"casual"', "mask must be 'prefix' or 'causal'"),
        ('"causal"', '["causal", "casual"]', "mask must be 'prefix' or 'causal'"),
        ('"causal"', '["causal", "causal"]', "mask must be one name or different ones"),
        ('"causal"', "[]", "mask must be one name or different ones"),
        (
            '"Transformer"\nmask = "causal"',
            '"AttentionNetwork"\nmask = ["causal", "prefix"]',
            "mask of a AttentionNetwork is built in",
        ),
        ("layers = 2", "dim = 4", "network: dim is 4, but the task's is 3; leave it out"),
        ("steps = 30\n", "", "training: steps is missing"),
        ("batch = 8", "batch = 0", "batch must be a whole number of at least 1"),
        ("rate = 0.01", 'rate = "fast"', "rate must be a finite number"),
        ("batch = 8", "batch = 8\nbatches = -1", "batches must be a whole number of at least 0"),
        ("batch = 8", 'batch = 8\npermuted = "no"', "permuted must be true or false"),
        ("layers = 2", 'layers = 2\nshared = "no"', "shared must be true or false"),
        ('kind = "Transformer"\nmask = "causal"', 'kind = "Decoder"', "leave context_loss out"),
        ("noise = 0.1", "noise = ", "is not TOML"),
        ('law = { kind = "UniformCube", dim = 3 }', "", "law is missing"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_cannot_be_is_told(old, new, match, tmp_path):
    assert old in PLAIN
    text = PLAIN.replace(old, new)
    if "Decoder" in new:
        text = text.replace("width = 16", "width = 16\nheads = 2") + "context_loss = true\n"
    if "AttentionNetwork" in new:
        text = text.replace("width = 16\n", "")
    with pytest.raises(InputError, match=match):
        read_training(written(tmp_path, text))


def test_a_file_says_what_the_prompts_and_the_loss_are(tmp_path):
    text = PLAIN.replace("batch = 8", "batch = 8\nbatches = 2\npermuted = true\ncontext_loss = true")
    training = read_training(written(tmp_path, text))
    assert training.prompts == Batches(8, 6, 4, different=2, permuted=True)
    plain = [step.losses for step in run_training(read_training(written(tmp_path)), Seed(0), tmp_path / "plain", CPU)]
    asked = [step.losses for step in run_training(training, Seed(0), tmp_path / "asked", CPU)]
    assert plain[0] != asked[0]


def test_several_masks_train_together_as_each_does_alone(tmp_path):
    both = read_training(written(tmp_path, PLAIN.replace('"causal"', '["causal", "prefix"]')))
    assert list(both.networks) == ["causal-0", "causal-1", "prefix-0", "prefix-1"]
    together = [step.losses for step in run_training(both, Seed(0), tmp_path / "both", CPU)]
    found = []
    for mask in ("causal", "prefix"):
        alone = read_training(written(tmp_path, PLAIN.replace('"causal"', f'"{mask}"')))
        found.append([step.losses for step in run_training(alone, Seed(0), tmp_path / mask, CPU)])
        assert load_network(tmp_path / "both" / f"{mask}-1").architecture == alone.architecture
    expected = [causal + prefix for causal, prefix in zip(*found, strict=True)]
    # Thirty steps of six sums over 48 tokens each.
    bound = rounding(terms=48, steps=30 * 6, dtype=torch.float32)
    torch.testing.assert_close(torch.tensor(together), torch.tensor(expected), rtol=bound, atol=0)
    assert abs(expected[-1][0] - expected[-1][2]) > 1e-3


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_training(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new", "seed", "name"),
    [
        ("", "", 1, "seed was 0 and not 1"),
        ("width = 16", "width = 32", 0, "architecture was"),
        ("rate = 0.01", "rate = 0.02", 0, "recipe was"),
        ("noise = 0.1", "noise = 0.2", 0, "task was"),
        ("points = 6", "points = 7", 0, "points was 6 and not 7"),
        ('"causal"', '"prefix"', 0, "architecture was"),
        ("starts = 2", "starts = 2\npermuted = true", 0, "permuted was False and not True"),
    ],
)
def test_another_training_does_not_go_on_from_this_one(old, new, seed, name, finished_run):
    assert old in PLAIN
    folder, copy = finished_run
    other = read_training(written(copy.parent, PLAIN.replace(old, new)))
    with pytest.raises(InputError, match=f"is the state of another training, whose {name}"):
        list(run_training(other, Seed(seed), copy, CPU, resume=True))
    assert not (folder / ".lock").exists()


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    list(run_training(read_training(written(folder)), Seed(0), folder / "run", CPU))
    return folder / "run"


@pytest.fixture
def finished_run(run_once, tmp_path):
    return run_once, Path(shutil.copytree(run_once, tmp_path / "copy"))


def test_two_trainings_in_one_folder_are_one_too_many(tmp_path):
    training = read_training(written(tmp_path))
    first = run_training(training, Seed(0), tmp_path / "run", CPU)
    next(first)
    with pytest.raises(StorageError, match=f"in use by another process \\(id {os.getpid()}\\). Wait for its end"):
        next(run_training(training, Seed(0), tmp_path / "run", CPU))
    assert len(list(first)) == 29
    assert len(read_metrics(tmp_path / "run")) == 60
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_lock_on_a_full_disk_is_held_and_removed(tmp_path, monkeypatch):
    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with locked(tmp_path), pytest.raises(StorageError, match="in use by another process \\(id unknown\\)"):
        locked(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def in_a_child(work):
    """The id of a child process that does the work and leaves at once."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("lines", [1, 9, 24])
def test_a_training_that_is_killed_goes_on_to_the_same_bits(lines, run_once, tmp_path):
    training = read_training(written(tmp_path))
    folder = tmp_path / "killed"
    child = in_a_child(lambda: list(run_training(training, Seed(0), folder, CPU, seconds=0.0)))
    while not (folder / "metrics.jsonl").exists() or (folder / "metrics.jsonl").read_bytes().count(b"\n") < lines:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    list(run_training(training, Seed(0), folder, CPU, resume=True))
    assert (folder / "metrics.jsonl").read_bytes() == (run_once / "metrics.jsonl").read_bytes()
    for start in range(2):
        one, other = (load_network(run / f"network-{start}") for run in (run_once, folder))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def stopped(training, folder, last, stop):
    """Train, stop after a step, and return what was said of it."""
    with limited():
        try:
            for step in run_training(training, Seed(0), folder, CPU):
                if step.index == last:
                    stop()
        except OutOfTimeError as error:
            return str(error)
    raise AssertionError


@pytest.mark.parametrize("number", [getattr(signal, n) for n in ("SIGTERM", "SIGUSR1") if hasattr(signal, n)])
def test_a_signal_ends_the_sitting_and_nothing_is_lost(number, run_once, tmp_path):
    training = read_training(written(tmp_path))
    message = stopped(training, tmp_path / "run", 11, lambda: os.kill(os.getpid(), number))
    assert message.startswith("the time is over after 13 of 30 steps, which are stored in")
    list(run_training(training, Seed(0), tmp_path / "run", CPU, resume=True))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (run_once / "metrics.jsonl").read_bytes()


def test_every_damage_to_metrics_is_noticed(finished_run):
    _, folder = finished_run
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    for place in range(0, len(whole) - 1, len(whole) // 150):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(InputError, match=r"line \d+ of .*metrics\.jsonl is damaged"):
            read_metrics(folder)


def test_lines_that_are_missing_are_noticed(tmp_path):
    training = read_training(written(tmp_path))
    stopped(training, tmp_path / "run", 11, lambda: budget().end())
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:7] + lines[8:]))
    with pytest.raises(InputError, match="does not hold the losses of all 13 steps that were trained"):
        list(run_training(training, Seed(0), tmp_path / "run", CPU, resume=True))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_a_training_in_one_paragraph(tmp_path, monkeypatch):
    training = read_training(written(tmp_path))
    steps = run_training(training, Seed(0), tmp_path / "run", CPU)
    next(steps)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"could not write .*metrics\.jsonl: No space left on device\. Make room"):
        list(steps)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("rate = 0.01", "rate = 0.01\nwarmup = 5", "warmup is a share and at most 1"),
        ("rate = 0.01", "rate = 0.01\nbetas = 0.9", "betas must be two numbers"),
        ("rate = 0.01", "rate = 0.01\nbetas = [0.9, 2]", "betas is a share"),
        ("rate = 0.01", 'rate = 0.01\nstd = "x"', "std must be a finite number"),
        ("layers = 2", "layers = 1e9", "layers must be a whole number"),
        ("layers = 2", "layers = 1000000000", "needs at least .* GB of memory, and there are"),
        ("width = 16", "width = 16000000", "needs at least .* GB of memory"),
        ("batch = 8", "batch = 8000000000000", "needs at least .* GB of memory"),
        ("points = 6", "points = 6000000000000", "needs at least .* GB of memory"),
        ("starts = 2", "starts = 2000000000", "needs at least .* GB of memory"),
        ("width = 16", f"width = {10**20}", "network: width is too large; got 1000"),
        ("width = 16", "width = 16\nhead_width = 0", "head_width must be a whole number of at least 1; got 0"),
        ("steps = 30", f"steps = {'1' * 5000}", "is not TOML: Exceeds the limit"),
        ("noise = 0.1", f"noise = {'[' * 3000}{']' * 3000}", "is not TOML|task: a value does not fit"),
        (
            '"UniformCube", dim = 3',
            '"Gaussian", dim = 2, covariance_of = [[1.0, 0.0], [0.0]]',
            "task.law: a value does not fit",
        ),
        (
            '"UniformCube", dim = 3',
            '"Gaussian", dim = 10000000',
            "dim is 10000000; a covariance of that size does not fit",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_a_configuration_is_checked_in_full_before_anything_is_allocated(old, new, match, tmp_path):
    assert old in PLAIN
    with pytest.raises(InputError, match=match):
        next(run_training(read_training(written(tmp_path, PLAIN.replace(old, new))), Seed(0), tmp_path / "run", CPU))


def test_the_least_memory_is_less_than_what_a_training_takes(tmp_path):
    """The weights by counting those of a network that is built; the streams by the tensors that autograd keeps."""
    training = read_training(written(tmp_path))
    network = Transformer(training.architecture)
    assert weight_count(training.architecture) == sum(p.numel() for p in network.parameters())
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        network.predict(training.task.sample(Seed(0), 8, 6, 4).prompt.to(torch.float32))
    assert 0 < least_memory(training) - 4 * 2 * 4 * weight_count(training.architecture) < 4 * 2 * sum(kept)


def test_a_warm_up_in_steps_is_refused():
    path = Path(__file__).parents[3] / "shared" / "cases" / "warmup-steps" / "warm.toml"
    if not path.exists():
        pytest.skip("the shared cases are not here")
    with pytest.raises(InputError, match="warmup is a share and at most 1"):
        read_training(path)


def events_of(folder):
    """What TensorBoard reads of a run: its scalars by step."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder)).Reload()
    return {name: {event.step: event.value for event in read.Scalars(name)} for name in read.Tags()["scalars"]}


def test_tensorboard_reads_the_metrics_also_of_an_interrupted_training(tmp_path):
    pytest.importorskip("tensorboard", reason="event files are written with the extra tensorboard")
    training = read_training(written(tmp_path))
    folder = tmp_path / "out"
    for resume, steps in ((False, 12), (True, 30)):
        with event_files(training, folder) as add:
            for step in itertools.islice(run_training(training, Seed(0), folder, CPU, resume=resume, seconds=0), steps):
                add(step)
    rows = [row for row in read_metrics(folder) if row["network"] == "network-1"]
    shown = events_of(folder / EVENTS / "network-1")
    assert len(rows) == 30
    assert shown["loss"] == pytest.approx({row["step"]: row["loss"] for row in rows}, rel=1e-6)
    assert shown["rate"] == pytest.approx({row["step"]: row["rate"] for row in rows}, rel=1e-6)


def test_event_files_are_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["train", str(written(tmp_path)), "--out", str(tmp_path / "o"), "--tensorboard"])
    assert isinstance(result.exception, InputError)
    assert "pip install 'insitu[tensorboard]'" in str(result.exception)
    assert not (tmp_path / "o").exists()
