"""Every kind of network, and every kind of task, can be trained from a file."""

import pytest
import torch

from insitu import InputError, Seed, Task
from insitu.kinds import kinds_below
from insitu.models import load_network, network_kinds
from insitu.training.config import read_training
from insitu.training.session import run_training

PLAIN = 'kind = "LinearRegression"\nlaw = { kind = "Gaussian", dim = 2 }'
SEQUENCE = 'kind = "Autoregression"\ndim = 2'
INNER = 'task = { kind = "LinearRegression", law = { kind = "UniformCube", dim = 2 } }'
# What a kind needs beyond its defaults, and the task that fits it.
NETWORKS = {
    "AttentionNetwork": (PLAIN, "layers = 2"),
    "Transformer": (PLAIN, "layers = 1\nwidth = 8"),
    "Decoder": (PLAIN, "layers = 1\nwidth = 8"),
    "AugmentedStack": (SEQUENCE, "layers = 2"),
    "PositionedHeads": (SEQUENCE, "heads = 2"),
}
TASKS = {
    "LinearRegression": PLAIN,
    "SigmoidRegression": 'kind = "SigmoidRegression"\nlaw = { kind = "UniformCube", dim = 2 }',
    "LinearClassification": 'kind = "LinearClassification"\nlaw = { kind = "UniformCube", dim = 2 }\nout = 2',
    "RandomCovariance": 'kind = "RandomCovariance"\nlaw = { kind = "Gaussian", dim = 2 }',
    "Pool": f'kind = "Pool"\nsize = 3\nseed = 1\n{INNER}',
    "Shifted": f'kind = "Shifted"\nscale = 2.0\norder = "by norm"\n{INNER}',
    "Autoregression": SEQUENCE,
}


def written(folder, task, kind, more, training="steps = 3\nrate = 0.01\nbatch = 4\npoints = 5"):
    path = folder / "own.toml"
    path.write_text(f'[task]\n{task}\n\n[network]\nkind = "{kind}"\n{more}\n\n[training]\n{training}\n')
    return path


def trained(path, folder):
    training = read_training(path)
    steps = list(run_training(training, Seed(0), folder, torch.device("cpu")))
    return training, steps


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kind_of_network_trains_and_is_stored(kind, tmp_path):
    task, more = NETWORKS[kind]
    training, steps = trained(written(tmp_path, task, kind, more), tmp_path)
    network = load_network(tmp_path / "network-0")
    assert type(network).__name__ == kind
    assert len(steps) == 3
    prompt = training.task.sample(Seed(1), 2, 5).prompt
    assert network.predict(prompt).isfinite().all()


def test_no_kind_of_network_or_task_is_forgotten():
    assert set(NETWORKS) == set(network_kinds())
    assert set(TASKS) == set(kinds_below(Task))


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_of_task_can_be_trained_on(kind, tmp_path):
    network = "AugmentedStack" if kind == "Autoregression" else "AttentionNetwork"
    training, _ = trained(written(tmp_path, TASKS[kind], network, ""), tmp_path)
    assert type(training.task).__name__ == kind


@pytest.mark.parametrize(
    ("task", "kind", "more", "training", "match"),
    [
        (PLAIN, "Decoder", "", "context_loss = true", "Decoder answers at every example"),
        (PLAIN, "AttentionNetwork", 'mask = ["prefix", "causal"]', "", "mask of a AttentionNetwork is built in"),
        (SEQUENCE, "AugmentedStack", "", "permuted = true", "a sequence has one order and one query"),
        (SEQUENCE, "AugmentedStack", "", "queries = 2", "a sequence has one order and one query"),
        (INNER, "AttentionNetwork", "", "", "task: kind None is not known"),
        ('kind = "Pool"\nsize = 3\nseed = 1\ntask = { kind = "Pol" }', "AttentionNetwork", "", "", "did you mean Pool"),
        ('kind = "Pool"\nsize = 3\nseed = -1\n' + INNER, "AttentionNetwork", "", "", "root must be a whole number"),
        (PLAIN, "Transformr", "", "", "did you mean Transformer"),
    ],
)
def test_what_does_not_fit_is_refused(task, kind, more, training, match, tmp_path):
    path = written(tmp_path, task, kind, more, f"steps = 3\nrate = 0.01\npoints = 5\n{training}")
    with pytest.raises(InputError, match=match):
        read_training(path)
