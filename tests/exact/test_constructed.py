"""Networks with weights set by hand against the algorithm that each is said to run, layer by layer."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.examples import NETWORKS, close, name, prompt_for

from insitu import InputError, Prompt, Seed
from insitu.learners import GradientDescent, Kaczmarz, LeastSquares
from insitu.models import (
    Architecture,
    AttentionNetwork,
    Causal,
    Prefix,
    SelfVisible,
    gradient_descent,
    initialise,
    load_network,
    save_network,
    sequence_descent,
    sequence_descents,
    telescoping,
)
from insitu.tasks import Autoregression, Gaussian, LinearRegression


def prompt_of(out: int = 1, points: int = 8, noise: float = 0.5) -> Prompt:
    return LinearRegression(Gaussian(3), noise=noise, out=out).sample(Seed(0) / "built", 3, points, 4).prompt


MATRIX = torch.tensor([[1.0, 0.3, 0.0], [0.3, 0.8, 0.1], [0.0, -0.2, 0.6]], dtype=torch.float64)
START = (Seed(0) / "start").normal(3, 3)
VARIANTS = {
    "plain": {},
    "a rate per layer": {"rate": (0.2, 0.0, 0.1, 0.3)},
    "preconditioned": {"preconditioner": MATRIX},
    "started": {"start": START},
    "all": {"rate": (0.2, 0.0, 0.1, 0.3), "preconditioner": MATRIX, "start": START},
}
every_variant = pytest.mark.parametrize("given", VARIANTS.values(), ids=VARIANTS.keys())


def built(given: dict, **more) -> AttentionNetwork:
    return gradient_descent(3, **({"steps": 4, "rate": 0.2, "out": 3} | given | more)).requires_grad_(False)


def is_gradient_descent_at_every_layer(network: AttentionNetwork, given: dict, prompt: Prompt) -> None:
    rates = np.broadcast_to(given.get("rate", 0.2), 4).tolist()
    matrices = {key: given[key] for key in ("preconditioner", "start") if key in given}
    for depth, answers in enumerate(network.predict_layers(prompt)):
        expected = GradientDescent(depth, rates[:depth], **matrices).predict(prompt)
        if depth or "start" not in given:
            close(answers, expected, tolerance=1e-12)
        else:
            close(answers, prompt.queries @ START.T, tolerance=1e-12)


@every_variant
def test_the_construction_is_gradient_descent_at_every_layer(given):
    is_gradient_descent_at_every_layer(built(given), given, prompt_of(out=3))


def test_the_construction_for_one_output():
    for depth, answers in enumerate(gradient_descent(3, 4, 0.2).predict_layers(prompt_of())):
        close(answers, GradientDescent(depth, 0.2).predict(prompt_of()), tolerance=1e-12)


def test_one_rate_is_one_set_of_weights_and_equals_a_rate_per_layer():
    shared, each = (gradient_descent(3, 4, rate) for rate in (0.2, (0.2,) * 4))
    assert len(shared.layers) == 1
    assert len(each.layers) == 4
    assert torch.equal(shared.predict(prompt_of()), each.predict(prompt_of()))


SABOTEURS = {
    "the causal mask": {"mask": Causal()},
    "a prefix one too short": {"mask": Prefix(7)},
    "a query that sees itself": {"mask": SelfVisible(Prefix())},
    "another rate": {"rate": 0.2001},
    "no division by n": {"normaliser": "none"},
}


@pytest.mark.parametrize("wrong", SABOTEURS.values(), ids=SABOTEURS.keys())
def test_a_wrong_construction_is_rejected(wrong):
    with pytest.raises(AssertionError):
        is_gradient_descent_at_every_layer(built({}, **wrong), {}, prompt_of(out=3))


# Causal networks: the coupled iterations of Ding et al. (2024), equations 10 and 18, one place at a time.


def coupled_iterations(xs, ys, rates, normalised: bool, start, matrix) -> list[np.ndarray]:
    """The weights of every place before the first layer and after each, ``(place, out, dim)``."""
    n = len(xs)
    weights = [start.copy() for _ in range(n)]
    path = [np.array(weights)]
    for rate in rates:
        updated = []
        for j in range(n):
            step = np.zeros_like(start)
            for i in range(j + 1):
                step += np.outer(ys[i] - weights[i] @ xs[i], xs[i])
            updated.append(weights[j] + rate / (j + 1 if normalised else n) * step @ matrix)
        weights = updated
        path.append(np.array(weights))
    return path


def is_coupled_at_every_layer_and_place(network, prompt: Prompt, normalised: bool, given: dict) -> None:
    """A query reads the last place's weights; an example's label slot is its own residual, the start added back."""
    rates = np.broadcast_to(given.get("rate", 0.2), 4)
    start = given.get("start", torch.zeros(3, 3, dtype=torch.float64)).numpy()
    matrix = given.get("preconditioner", torch.eye(3, dtype=torch.float64)).numpy()
    states, answers = list(network.states(prompt)), network.predict_layers(prompt)
    for b in range(prompt.batch):
        xs, ys = prompt.xs[b].numpy(), prompt.ys[b].numpy()
        for depth, weights in enumerate(coupled_iterations(xs, ys, rates, normalised, start, matrix)):
            np.testing.assert_allclose(answers[depth, b], prompt.queries[b].numpy() @ weights[-1].T, atol=1e-12)
            slots = states[depth][b, : prompt.points, 3:].numpy()
            residuals = [y - (w - start) @ x for w, x, y in zip(weights, xs, ys, strict=True)]
            np.testing.assert_allclose(slots, residuals, atol=1e-12)


@every_variant
@pytest.mark.parametrize("normalised", [False, True], ids=["eta/n", "eta/j"])
def test_the_causal_construction_is_the_coupled_iterations(given, normalised):
    network = built(given, mask=Causal(), normaliser="visible" if normalised else "context")
    is_coupled_at_every_layer_and_place(network, prompt_of(out=3), normalised, given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mask": Prefix()},
        {"mask": Prefix(2)},
        {"mask": SelfVisible(Causal())},
        {"mask": Causal(), "normaliser": "visible"},
        {"mask": Causal(), "rate": 0.2001},
    ],
    ids=str,
)
def test_a_wrong_causal_construction_is_rejected(wrong):
    with pytest.raises(AssertionError):
        is_coupled_at_every_layer_and_place(built({}, **wrong), prompt_of(out=3), normalised=False, given={})


def test_an_examples_label_slot_is_its_residual():
    prompt = prompt_of(out=3)
    network = built({"start": START})
    for depth, state in enumerate(network.states(prompt)):
        weights = GradientDescent(depth, 0.2, start=START).weights(prompt.xs, prompt.ys)
        close(state[:, : prompt.points, :3], prompt.xs, tolerance=0)
        close(state[:, : prompt.points, 3:], prompt.ys - prompt.xs @ (weights - START).mT, tolerance=1e-12)


@pytest.mark.parametrize("mask", [Prefix(), Causal()], ids=repr)
def test_a_deep_network_whose_queries_see_themselves_answers_zero(mask):
    prompt = prompt_of(points=12, noise=0.0)
    blind, seeing = (
        gradient_descent(3, 400, 1.0, mask=m).requires_grad_(False).predict_layers(prompt)
        for m in (mask, SelfVisible(mask))
    )
    assert seeing[:20].abs().max() > 0.5
    assert seeing[-1].abs().max() < 1e-4
    assert blind[-1].abs().max() > 0.5
    if mask == Prefix():
        close(blind[-1], LeastSquares().predict(prompt), tolerance=1e-6)


@pytest.mark.parametrize("context", ["rotations", "haar"])
def test_sequence_descent_is_one_gradient_step_on_the_sequence(context):
    """The sum formula, and autograd on half the sum of squares from zero weights."""
    prompt = Autoregression(4, context).sample(Seed(0), batch=3, points=6).prompt
    answers = sequence_descent(dim=4, rate=0.07).requires_grad_(False).predict(prompt)
    for b in range(3):
        sequence = torch.cat([prompt.xs[b], prompt.queries[b]])
        weights = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
        loss = sum((s - weights @ r).square().sum() for r, s in pairwise(sequence)) / 2
        (slope,) = torch.autograd.grad(loss, weights)
        close(answers[b, 0], -0.07 * slope @ sequence[-1], tolerance=1e-12)
        moments = sum(np.outer(sequence[t], sequence[t - 1]) for t in range(1, 7))
        np.testing.assert_allclose(answers[b, 0], 0.07 * moments @ sequence[-1].numpy(), atol=1e-12)
    close(answers, GradientDescent(1, 0.07 * 6).predict(prompt), tolerance=1e-12)


@pytest.mark.parametrize("context", ["rotations", "haar"])
def test_sequence_descents_are_steps_without_a_causal_mask(context):
    """Against a plain loop, layer by layer; under a causal mask residuals contract by the lower triangle."""
    prompt = Autoregression(4, context).sample(Seed(0), batch=3, points=6).prompt
    full, causal = (
        sequence_descents(4, 5, 0.05, mask=mask).requires_grad_(False).predict_layers(prompt)
        for mask in (None, Causal())
    )
    for b in range(3):
        xs, ys, query = (part[b].numpy() for part in (prompt.xs, prompt.ys, prompt.queries))
        weights, residuals = np.zeros((4, 4)), ys
        answer = np.zeros(4)
        for layer in range(6):
            np.testing.assert_allclose(full[layer, b, 0], weights @ query[0], atol=1e-12)
            np.testing.assert_allclose(causal[layer, b, 0], answer, atol=1e-12)
            weights = weights + 0.05 * (ys - xs @ weights.T).T @ xs
            answer = answer + 0.05 * residuals.T @ xs @ query[0]
            residuals = residuals - 0.05 * np.tril(xs @ xs.T) @ residuals
    assert (full - causal).abs().max() > 1e-3


def test_causal_descent_ends_at_one_pass_of_kaczmarz():
    prompt = Autoregression(4, "haar").sample(Seed(0), batch=3, points=6).prompt
    deep = sequence_descents(4, 200, 0.3, mask=Causal()).requires_grad_(False).predict(prompt)
    close(deep, Kaczmarz(passes=1).predict(prompt), tolerance=1e-10)
    assert (deep - LeastSquares().predict(prompt)).abs().max() > 1e-2


@pytest.mark.parametrize("length", [1, 2, 9])
def test_telescoping_is_exact_for_rotations(length):
    episode = Autoregression(6).sample(Seed(0), batch=4, points=length)
    close(telescoping(6).requires_grad_(False).predict(episode.prompt), episode.answers, tolerance=1e-12)
    small = Autoregression(4, start=(1.0, 0.0, 0.6, 0.8)).sample(Seed(0), batch=4, points=length)
    close(telescoping(4, square=1.0).requires_grad_(False).predict(small.prompt), small.answers, tolerance=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: telescoping(3), "even; got 3"),
        (lambda: telescoping(4, square=0.0), "square"),
        (lambda: sequence_descents(4, 0, 0.1), "layers"),
        (lambda: gradient_descent(3, 2, (0.1, 0.2, 0.3)), "2 steps need 2 rates or a single one; got 3"),
        (lambda: gradient_descent(3, 2, 0.1, preconditioner=torch.eye(2)), "preconditioner"),
        (lambda: gradient_descent(3, 2, 0.1, out=2, start=torch.zeros(1, 3)), "start"),
        (lambda: gradient_descent(0, 2, 0.1), "dim"),
        (lambda: gradient_descent(3, 0, 0.1), "layers"),
    ],
)
def test_constructions_refuse(make, match):
    with pytest.raises(InputError, match=match):
        make()


# Weights and files.


def test_initial_weights_have_the_stated_size_and_depend_on_the_seed_alone():
    def weights(seed: Seed, std: float) -> torch.Tensor:
        network = AttentionNetwork(Architecture(9, layers=20)).double()
        initialise(network, seed, std)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    drawn = weights(Seed(0), 0.5)
    assert abs(drawn.var().item() - 0.25) < 4 * 0.25 * (2 / len(drawn)) ** 0.5
    assert len(drawn.unique()) == len(drawn)
    assert torch.equal(drawn, weights(Seed(0), 0.5))
    assert not torch.equal(drawn, weights(Seed(1), 0.5))


STORED = [
    *NETWORKS,
    *(gradient_descent(3, 2, 0.1, out=2, mask=m) for m in (Prefix(5), SelfVisible(Prefix(5)), SelfVisible(Causal()))),
    gradient_descent(3, 2, (0.1, 0.2), out=2).float(),
]


@pytest.mark.parametrize("network", STORED, ids=name)
def test_a_stored_network_comes_back_exactly(network, tmp_path):
    save_network(network, tmp_path / "deep" / "er")
    again = load_network(tmp_path / "deep" / "er")
    assert again.architecture == network.architecture
    assert {p.dtype for p in again.parameters()} == {p.dtype for p in network.parameters()}
    assert torch.equal(again.predict(prompt_for(network)), network.predict(prompt_for(network)))


def test_every_field_of_an_architecture_is_stored(tmp_path):
    save_network(NETWORKS[0], tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    others = {"dtype", "kind", "sha256", "digest"}
    assert stored.keys() == {field.name for field in dataclasses.fields(Architecture)} | others


def undigested(folder):
    """The configuration without its own digest, as someone leaves it who changed it on purpose."""
    given = json.loads((folder / "config.json").read_text())
    del given["digest"]
    return given


def without(key: str):
    def damage(folder):
        given = undigested(folder)
        del given[key]
        (folder / "config.json").write_text(json.dumps(given))

    return damage


def with_value(key: str, value: object):
    def damage(folder):
        given = undigested(folder)
        (folder / "config.json").write_text(json.dumps(given | {key: value}))

    return damage


def lose_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("readout")
    save_file(weights, folder / "model.safetensors")


DAMAGE = {
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no configuration": lambda folder: (folder / "config.json").unlink(),
    "cut weights": lambda folder: (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}"),
    "cut configuration": lambda folder: (folder / "config.json").write_text('{"dim": 3'),
    "configuration is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "configuration is binary": lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"),
    "a weight lost": lose_a_weight,
    "no mask": without("mask"),
    "no dtype": without("dtype"),
    "no kind": without("kind"),
    "unknown kind": with_value("kind", "Perceptron"),
    "unknown field": with_value("depth", 3),
    "another size": with_value("dim", 4),
    "unknown dtype": with_value("dtype", "float47"),
    "a dtype that is none": with_value("dtype", "nn"),
    "unknown mask": with_value("mask", {"kind": "Diagonal"}),
    "mask is a word": with_value("mask", "Causal"),
    "wrong word": with_value("attention", "local"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.usefixtures("as_users_run")
def test_a_damaged_checkpoint_is_refused(damage, tmp_path):
    save_network(NETWORKS[0], tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_network(tmp_path)


def test_a_configuration_that_says_something_else_is_noticed(tmp_path):
    save_network(NETWORKS[0], tmp_path)
    text = (tmp_path / "config.json").read_text()
    changed = (
        text.replace('"kind": "Causal"', '"kind": "Prefix"') if "Causal" in text else text.replace("Prefix", "Causal")
    )
    assert changed != text
    (tmp_path / "config.json").write_text(changed)
    with pytest.raises(
        InputError, match=r"config\.json does not match its own digest; if you changed it, remove 'digest'"
    ):
        load_network(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_network(tmp_path / "nowhere")
