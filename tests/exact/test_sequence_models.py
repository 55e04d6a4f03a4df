"""Sequence networks against hand-set weights, plain loops and other implementations of attention."""

import math

import pytest
import torch
from tests.examples import close
from torch import nn

from insitu.errors import InputError
from insitu.learners import GradientDescent
from insitu.models import sequence_descent
from insitu.models.sequences import (
    AugmentedArchitecture,
    AugmentedStack,
    HeadsArchitecture,
    PositionedHeads,
    initialise_dense,
)
from insitu.papers.sander2024.trained import best_descent, constant_rates, prefix_descent, rates_by_length
from insitu.seed import Seed
from insitu.tasks import Autoregression, sequence_prompt


def haar(dim=3, points=6, batch=4):
    prompt = Autoregression(dim, "haar").sample(Seed(0), batch, points).prompt
    return torch.cat([prompt.xs, prompt.queries], dim=1)


def drawn(network):
    initialise_dense(network.double(), Seed(1))
    return network.requires_grad_(False)


def test_a_stack_whose_weights_are_set_by_hand_takes_a_gradient_step_at_every_place():
    network = AugmentedStack(AugmentedArchitecture(3, normalised=False)).double().requires_grad_(False)
    unit = torch.eye(3, dtype=torch.float64)
    layer = network.attention[0]
    layer.maps.weight[3:6, 3:6] = 0.2 * math.sqrt(9) * unit  # the query's s_T
    layer.maps.weight[9 + 3 : 9 + 6, 6:9] = unit  # a key's s_{t-1}
    layer.maps.weight[18:21, 3:6] = unit  # a value's s_t into the first block
    layer.projection.weight[:] = torch.eye(9, dtype=torch.float64)
    network.readout.weight[:, :3] = unit
    sequence = haar()
    answers = network(sequence)
    longer, rates = torch.cat([sequence, sequence[:, :1]], 1), torch.full((7,), 0.2, dtype=torch.float64)
    close(prefix_descent(longer, 1, rates), answers)
    for length in range(2, 8):
        prompt = sequence_prompt(sequence[:, :length])
        close(sequence_descent(3, 0.2).requires_grad_(False).predict(prompt)[:, 0], answers[:, length - 1])


def test_descent_on_prefixes_is_the_learner_on_every_prefix():
    sequence = haar()
    for steps in (1, 3):
        answers = prefix_descent(sequence, steps, rates_by_length(0.3, 6))
        assert answers[:, 0].abs().max() == 0
        for length in range(2, 7):
            expected = GradientDescent(steps, 0.3).predict(sequence_prompt(sequence[:, :length]))
            close(answers[:, length - 1], expected[:, 0])


def test_the_best_descent_is_best_on_the_sequences_it_was_fitted_to():
    sequence = haar(batch=200)
    best = best_descent(sequence, sequence, 2, constant_rates, 2.0).mean()
    for rate in (0.01, 0.03, 0.05, 0.08, 0.12):
        assert (prefix_descent(sequence, 2, constant_rates(rate, 6)) - sequence[:, 1:]).square().mean() > best - 1e-9


@pytest.mark.parametrize("kind", ["linear", "softmax"])
def test_attention_of_a_stack_by_torch(kind):
    network = drawn(AugmentedStack(AugmentedArchitecture(2, layers=1, attention=kind)))
    sequence = haar(2, 4)
    before = torch.cat([torch.zeros_like(sequence[:, :1]), sequence[:, :-1]], 1)
    stream = torch.cat([torch.zeros_like(sequence), sequence, before], -1)
    query, key, value = network.attention[0].maps(stream).split(6, -1)
    if kind == "softmax":
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    else:
        mixed = torch.stack(
            [sum((query[:, i] * key[:, t]).sum(-1, True) * value[:, t] for t in range(i + 1)) for i in range(5)], 1
        ) / math.sqrt(6)
    stream = stream + nn.functional.layer_norm(network.attention[0].projection(mixed), (6,))
    close(network(sequence), network.readout(stream))


def test_positioned_heads_by_a_loop():
    network = drawn(PositionedHeads(HeadsArchitecture(2, length=6, heads=3)))
    sequence = haar(2, 4)
    tokens = torch.cat([sequence, sequence], -1)
    written = torch.zeros(4, 5, 4, dtype=torch.float64)
    for head in range(3):
        rows = slice(4 * head, 4 * head + 4)
        query, key, value = (
            lambda x, m=m, rows=rows: x @ m.weight[rows].T + m.bias[rows]
            for m in (network.query, network.key, network.value)
        )
        for i in range(5):
            asked = query(network.places[i])
            place = torch.stack([asked @ key(network.places[t]) / 2 for t in range(i + 1)]).softmax(0)
            for t in range(i + 1):
                score = (query(tokens[:, i]) * key(tokens[:, t])).sum(-1, True) / 2
                written[:, i] += score * place[t] * value(tokens[:, t]) @ network.projection.weight[:, rows].T
    expected = nn.functional.layer_norm(written + network.projection.bias, (4,))
    close(network(sequence), network.readout(expected))


@pytest.mark.parametrize(
    "make", [lambda: AugmentedStack(AugmentedArchitecture(3, 2)), lambda: PositionedHeads(HeadsArchitecture(3, 9, 2))]
)
def test_no_prediction_sees_what_comes_later(make):
    network, sequence = drawn(make()), haar()
    moved = sequence.clone()
    moved[:, 4:] += 1
    close(network(sequence)[:, :4], network(moved)[:, :4])
    assert (network(sequence)[:, 4:] - network(moved)[:, 4:]).abs().max() > 0.01


def test_weights_start_as_those_of_torch_do():
    network = drawn(PositionedHeads(HeadsArchitecture(5, length=400, heads=20)))
    bound = 10**-0.5
    for maps in (network.query, network.value):
        assert 0.99 * bound < maps.weight.abs().max() <= bound
        assert 0.9 * bound < maps.bias.abs().max() <= bound
    assert abs(network.places.std().item() - 1) < 0.05
    assert (network.norm.weight == 1).all()
    assert (network.norm.bias == 0).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: AugmentedStack(AugmentedArchitecture(0)), "dim"),
        (lambda: AugmentedStack(AugmentedArchitecture(3, layers=0)), "layers"),
        (lambda: AugmentedStack(AugmentedArchitecture(3, attention="cosine")), "linear.*softmax"),
        (lambda: PositionedHeads(HeadsArchitecture(3, 9, heads=0)), "heads"),
        (lambda: PositionedHeads(HeadsArchitecture(3, 4))(torch.zeros(1, 5, 3)), "at most 4 entries; got 5"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_sequence_networks_refuse(make, match):
    with pytest.raises(InputError, match=match):
        make()
