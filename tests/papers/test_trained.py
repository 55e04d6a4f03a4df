"""Training for the studies: it lowers errors, cells differ in what they say, and a leak of the labels is seen."""

from dataclasses import replace

import shorter
import torch
from tests.papers.saboteurs import TRANSFORMERS
from tests.rounding import rounding

from insitu.claims import Run, Verdict
from insitu.metrics import Estimate
from insitu.models import Causal, Prefix, Transformer, TransformerArchitecture, initialise_transformer
from insitu.models.attention_network import stacked_tokens
from insitu.papers import claims
from insitu.papers.ding2024.trained import Cell, alone_changes, held_out_errors, train_cells, train_on_few, trained
from insitu.seed import Seed
from insitu.training import Recipe

SETTING = replace(TRANSFORMERS, dim=2, points=4, layers=2, sizes=(2, 3), recipe=Recipe(steps=60, rate=0.01, clip=1.0))
RUN = Run(SETTING, Seed(0))


def leaked(episode):
    tokens = stacked_tokens(episode.prompt)
    tokens[:, episode.prompt.points :, episode.prompt.dim :] = episode.answers
    return tokens


def mean_error(encode=None):
    cell = Cell("linear", True, "prefix", False)
    study = trained(RUN, [cell], encode)
    return held_out_errors(replace(RUN, study=study), cell, 1.0).mean().item()


def test_training_helps_and_what_it_learns_from_leaked_labels_does_not():
    untrained = replace(RUN, setting=replace(SETTING, recipe=Recipe(steps=1, rate=1e-9)))
    cell = Cell("linear", True, "prefix", False)
    before = held_out_errors(replace(RUN, study=trained(untrained, [cell])), cell, 1.0).mean().item()
    after = mean_error()
    assert after < 0.8 * before
    assert mean_error(leaked) > after


def test_every_cell_gets_its_network():
    # Adam's first step is the rate times the signs of the gradient, which two networks may share.
    run = replace(RUN, setting=replace(SETTING, recipe=Recipe(steps=3, rate=0.01)))
    study = train_cells(run)
    assert len(study) == 24
    for cell, network in study.items():
        assert network.architecture.mask == {"prefix": Prefix(), "causal": Causal()}[cell.mask]
        assert network.architecture.shared == cell.shared
        assert network.architecture.out == (3 if cell.task == "classes" else 1)
    weights = [network.readout.weight.flatten() for cell, network in study.items() if cell.task == "linear"]
    assert min((a - b).abs().max().item() for i, a in enumerate(weights) for b in weights[:i]) > 1e-4
    assert {cell.batches for cell in train_on_few(run)} == {2, 3}


class Chatting(Causal):
    """Queries see each other."""

    def visible(self, context, queries):
        seen = super().visible(context, queries)
        seen[context:, context:] = True
        return seen


def test_queries_that_see_each_other_break_the_claim():
    network = Transformer(TransformerArchitecture(2, width=8, layers=2, mask=Chatting()))
    initialise_transformer(network, Seed(1))
    sound = Transformer(TransformerArchitecture(2, width=8, layers=2, mask=Causal()))
    initialise_transformer(sound, Seed(1))
    cell = Cell("linear", True, "causal", False)
    (rule,) = (r for r in claims()["ding2024.prefix-beats-causal-after-training"].rules if "alone" in r.quantity)
    chatting, kept = (
        rule.decide(Estimate(alone_changes(replace(RUN, study={cell: one}), cell))) for one in (network, sound)
    )
    assert (chatting, kept) == (Verdict.FAILS, Verdict.HOLDS)


def test_one_layer_cannot_tell_the_masks_apart_and_two_can():
    """A query sees every example under both masks, so at depth one only the loss on context outputs differs."""
    small = replace(TRANSFORMERS, points=10, layers=1, prompts=64)
    one, two = (shorter.ratios(layers, 2, 0, small) for layers in (1, 2))
    assert {share for _, share in one} == set(shorter.SHARES)
    # Sums of at most 16 terms, twenty after another in a layer.
    bound = rounding(terms=16, steps=20, dtype=torch.float32)
    for (shared, share), ratio in one.items():
        assert shared or abs(ratio - 1) < bound
        assert abs(two[shared, share] - 1) > bound
