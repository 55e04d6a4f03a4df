"""What networks are trained on: the loss against a loop over tokens, and batches that return in new orders."""

import pytest
import torch
from torch import nn

from insitu import InputError, Seed
from insitu.models import (
    Architecture,
    AttentionNetwork,
    Causal,
    Prefix,
    Transformer,
    TransformerArchitecture,
    initialise,
    initialise_transformer,
)
from insitu.tasks import Gaussian, LinearClassification, UniformCube
from insitu.training import Batches, Ensemble, token_losses

TASK = LinearClassification(UniformCube(3), out=2)
EPISODES = [TASK.sample(Seed(5) / copy, batch=4, points=5, queries=2) for copy in range(2)]
CPU = torch.device("cpu")


def transformers(*masks):
    made = [Transformer(TransformerArchitecture(3, 2, width=8, layers=2, mask=mask)) for mask in masks]
    for copy, network in enumerate(made):
        initialise_transformer(network, Seed(copy))
    return made


def attention(*masks):
    made = [AttentionNetwork(Architecture(3, 2, layers=2, mask=mask)) for mask in masks]
    for copy, network in enumerate(made):
        initialise(network, Seed(copy), std=0.3)
    return made


def by_hand(network: nn.Module, episode, quiet: bool) -> float:
    """Prompt by prompt and token by token, from the states that the network itself gives."""
    prompt = episode.prompt.to(torch.float32)
    *_, last = network.states(prompt)
    read = network.readout(network.norm(last)) if isinstance(network, Transformer) else last @ network.readout.T
    read = read.detach()
    total, count = 0.0, 0
    for b in range(prompt.batch):
        for token in range(7):
            if token >= 5:
                wanted = episode.answers[b, token - 5]
            elif quiet:
                wanted = torch.zeros(2)
            else:
                continue
            total += sum((float(read[b, token, o]) - float(wanted[o])) ** 2 for o in range(2))
            count += 1
    return total / count


@pytest.mark.parametrize("quiet", [(True, False), (False, False)])
@pytest.mark.parametrize(
    "made", [transformers(Prefix(), Causal()), attention(Causal(), Causal())], ids=lambda m: type(m[0]).__name__
)
def test_the_loss_is_that_of_a_loop_over_tokens(made, quiet):
    expected = [by_hand(*one) for one in zip(made, EPISODES, quiet, strict=True)]
    found = token_losses(Ensemble(made), quiet, CPU)(EPISODES).tolist()
    assert found == pytest.approx(expected, rel=1e-5)
    assert token_losses(Ensemble(made), [False, True], CPU)(EPISODES).tolist() != pytest.approx(expected, rel=1e-2)


def test_attention_networks_with_two_masks_are_refused_as_one_ensemble():
    with pytest.raises(InputError, match="different masks cannot be one ensemble"):
        token_losses(Ensemble(attention(Prefix(), Causal())), [False, False], CPU)


def test_batches_come_back_and_in_new_orders():
    plain, mixed = (Batches(size=4, points=6, different=3, permuted=permuted) for permuted in (False, True))
    task, seed = LinearClassification(Gaussian(2)), Seed(1)
    first = plain.at(1, task, seed).prompt
    assert torch.equal(plain.at(4, task, seed).prompt.xs, first.xs)
    assert not torch.equal(plain.at(2, task, seed).prompt.xs, first.xs)
    shown = [mixed.at(step, task, seed).prompt for step in (1, 4)]
    assert not torch.equal(shown[0].xs, shown[1].xs)
    for prompt in shown:
        assert torch.equal(prompt.queries, first.queries)
        order = (prompt.xs[0, :, None] == first.xs[0]).all(-1).nonzero()[:, 1]
        assert sorted(order.tolist()) == list(range(6))
        assert torch.equal(prompt.xs, first.xs[:, order])
        assert torch.equal(prompt.ys, first.ys[:, order])
    fresh = Batches(size=4, points=6)
    assert not torch.equal(fresh.at(1, task, seed).prompt.xs, fresh.at(4, task, seed).prompt.xs)
