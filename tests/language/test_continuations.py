"""Pretraining on continuations: what the loss counts, what either mask shows, and that nothing else differs."""

import numpy as np
import pytest
import torch
from tests.rounding import rounding
from torch.nn.functional import cross_entropy

from insitu import Seed
from insitu.language.pretraining.continuations import answer_losses, continuation, cuts

WINDOW, VOCABULARY = 12, 50
BLOCKS = (Seed(0) / "blocks").integers(VOCABULARY, 4, WINDOW).numpy().astype(np.uint16)
CUTS = [1, 5, 8, 11]
CLOSE = {"atol": rounding(terms=64, size=20, steps=20), "rtol": 0}


@pytest.fixture(scope="module")
def network():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        built = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=WINDOW, **sizes)).double()
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if weight.ndim == 2:
                weight.copy_(0.4 * (Seed(1) / name).normal(*weight.shape))
    return built.eval()


def batch(attention, blocks=BLOCKS, lengths=CUTS):
    examples = [continuation(block, cut, attention) for block, cut in zip(blocks, lengths, strict=True)]
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}


def by_cache(network, block, cut):
    """The losses of a continuation without a mask: the prefix in both directions into a cache, then token by token."""
    ids = torch.from_numpy(block.astype(np.int64))[None]
    attentions = [module for module in network.modules() if hasattr(module, "is_causal")]
    network.config.is_causal = False
    for module in attentions:
        module.is_causal = False
    output = network(input_ids=ids[:, :cut], use_cache=True)
    network.config.is_causal = True
    for module in attentions:
        module.is_causal = True
    losses = []
    for place in range(cut, WINDOW):
        losses.append(cross_entropy(output.logits[:, -1], ids[:, place]))
        output = network(input_ids=ids[:, place : place + 1], past_key_values=output.past_key_values, use_cache=True)
    return torch.stack(losses)


@torch.no_grad()
def test_prefix_losses_are_those_of_a_prefix_read_in_both_directions(network):
    expected = torch.cat([by_cache(network, block, cut) for block, cut in zip(BLOCKS, CUTS, strict=True)])
    torch.testing.assert_close(answer_losses(network, batch("prefix")), expected, **CLOSE)


@torch.no_grad()
def test_causal_losses_are_those_of_the_plain_network_behind_the_cut(network):
    ids = torch.from_numpy(BLOCKS.astype(np.int64))
    plain = cross_entropy(network(input_ids=ids).logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
    expected = torch.cat([row[cut - 1 :] for row, cut in zip(plain, CUTS, strict=True)])
    torch.testing.assert_close(answer_losses(network, batch("causal")), expected, **CLOSE)


@torch.no_grad()
def test_a_prefix_of_one_token_makes_both_losses_the_usual_one(network):
    ids = torch.from_numpy(BLOCKS.astype(np.int64))
    # transformers computes its loss in single precision, whatever the network's.
    usual = cross_entropy(network(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    for attention in ("causal", "prefix"):
        torch.testing.assert_close(answer_losses(network, batch(attention, lengths=[1] * 4)).mean(), usual, **CLOSE)


@torch.no_grad()
def test_the_masks_differ_and_count_the_same_tokens(network):
    causal, prefix = (answer_losses(network, batch(attention)) for attention in ("causal", "prefix"))
    assert len(causal) == len(prefix) == sum(WINDOW - cut for cut in CUTS)
    assert (causal - prefix).abs().max() > 0.01


@torch.no_grad()
def counts_the_prefix(network, rows):
    """A saboteur: the loss of every token, of the prefix as well."""
    ids = rows["input_ids"]
    return answer_losses(network, {**rows, "labels": ids})


@torch.no_grad()
def sees_the_continuation(network, rows):
    """A saboteur: all tokens of a block see each other."""
    return answer_losses(network, {**rows, "prefix": torch.full_like(rows["prefix"], WINDOW)})


def moved_by_what_follows(network, losses) -> list[int]:
    """The places whose losses change with the last token but one, which those of the last two may."""
    other = BLOCKS.copy()
    other[:, -2] = (other[:, -2] + 1) % VOCABULARY
    rows, changed = (batch("prefix", blocks, [5] * 4) for blocks in (BLOCKS, other))
    difference = (losses(network, rows) - losses(network, changed)).abs().view(4, -1)[:, :-2]
    return (difference > 1e-9).any(0).nonzero()[:, 0].tolist()


@torch.no_grad()
def test_no_token_is_predicted_from_what_follows(network):
    assert moved_by_what_follows(network, answer_losses) == []
    assert moved_by_what_follows(network, sees_the_continuation) != []


@torch.no_grad()
def test_a_loss_that_counts_the_prefix_is_noticed(network):
    assert len(counts_the_prefix(network, batch("prefix"))) != sum(WINDOW - cut for cut in CUTS)


def test_cuts_are_uniform_inside_the_block_and_depend_on_the_start():
    drawn = cuts(Seed(3), range(2000), 9)
    counts = torch.bincount(drawn, minlength=9)[1:]
    assert drawn.min() == 1
    assert drawn.max() == 8
    # Eight equally likely values: six standard deviations of a binomial.
    assert (counts - 250).abs().max() < 6 * (2000 * 7 / 64) ** 0.5
    assert drawn[:50].tolist() != cuts(Seed(4), range(50), 9).tolist()
