"""`insitu train`: a file in, checkpoints, metrics and curves out; exact resume; and words for what cannot be."""

import json

import pytest
import torch
from tests.rounding import rounding
from typer.testing import CliRunner

from insitu import InputError, Seed
from insitu.cli.app import app
from insitu.models import AttentionNetwork, Causal, Decoder, Transformer, load_network
from insitu.tasks import LinearClassification, LinearRegression, RandomCovariance, UniformCube
from insitu.training import Batches
from insitu.training.config import read_training
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
            "only transformers train under",
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
        ('law = { kind = "UniformCube", dim = 3 }', "", "law must say where inputs come from"),
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


def test_another_training_does_not_go_on_from_this_one(tmp_path):
    list(run_training(read_training(written(tmp_path)), Seed(0), tmp_path / "run", CPU))
    other = read_training(written(tmp_path, PLAIN.replace("width = 16", "width = 32")))
    with pytest.raises(InputError, match="is not the state of this training"):
        list(run_training(other, Seed(0), tmp_path / "run", CPU, resume=True))
