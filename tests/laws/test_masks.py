"""Every attention layer under every mask against the quadratic sum, and who moves when a token moves."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from tests.examples import MASKS, close
from torch import Tensor, nn

import insitu.models.attention as attention
from insitu import InputError, Seed
from insitu.models import (
    Architecture,
    Causal,
    LinearAttention,
    Mask,
    MergedMaps,
    Prefix,
    SelfVisible,
    SeparateMaps,
    SoftmaxAttention,
    initialise,
)

WIDTH = 4
# The blocks of causal linear attention, made small so that short contexts have several.
BLOCK = 8


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", BLOCK)


CONTEXTS = (1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 6, 4 * BLOCK + 3)
Attend = Callable[[Tensor, Mask, int], Tensor]


def layers() -> dict[str, nn.Module]:
    """Every kind of layer over every kind of maps."""
    maps = {
        "merged": lambda: MergedMaps(WIDTH),
        "merged, 2 heads": lambda: MergedMaps(WIDTH, heads=2),
        "separate": lambda: SeparateMaps(WIDTH),
        "separate, 2 heads of 3": lambda: SeparateMaps(WIDTH, heads=2, head_width=3),
    }
    normalisers = ("context", "visible", "none")
    built = {f"linear / {n}, {m}": LinearAttention(maps[m](), n) for n, m in product(normalisers, maps)}
    built |= {f"softmax, {m}": SoftmaxAttention(maps[m]()) for m in maps}
    for name, layer in built.items():
        initialise(layer.double(), Seed(0) / name, std=0.6)
    return {name: layer.requires_grad_(False) for name, layer in built.items()}


LAYERS = layers()


def tokens_of(context: int, queries: int) -> Tensor:
    return (Seed(0) / "tokens").normal(2, context + queries, WIDTH)


def quadratic(layer: nn.Module, tokens: Tensor, visible: np.ndarray, context: int) -> np.ndarray:
    """The layer's formula head by head, over the full matrix of who sees whom."""
    z, maps = tokens.numpy(), {key: p.numpy() for key, p in layer.maps.named_parameters()}
    total = np.zeros_like(z)
    for h in range(len(maps["value"])):
        if "score" in maps:
            scores, inner, out = z @ maps["score"][h].T @ z.transpose(0, 2, 1), WIDTH, np.eye(WIDTH)
        else:
            inner, out = len(maps["query"][h]), maps["projection"][h]
            scores = (z @ maps["query"][h].T) @ (z @ maps["key"][h].T).transpose(0, 2, 1)
        if isinstance(layer, SoftmaxAttention):
            power = np.where(visible, np.exp(scores / np.sqrt(inner)), 0)
            share = power / power.sum(-1, keepdims=True)
        else:
            counts = visible.sum(1)[:, None]
            share = scores * visible / {"context": context, "visible": counts, "none": 1}[layer.normaliser]
        total += np.einsum("bji,bie,oe->bjo", share, z @ maps["value"][h].T, out)
    return total


def visible_by_hand(mask: Mask, context: int, queries: int) -> np.ndarray:
    """Who sees whom, one pair at a time, from the sentences of the docstrings."""
    inner = mask.mask if isinstance(mask, SelfVisible) else mask
    length = 0 if isinstance(inner, Causal) else inner.length
    common = context if length is None else length

    def sees(row: int, column: int) -> bool:
        if column >= context:
            return isinstance(mask, SelfVisible) and row == column
        return row >= context or column <= row or column < common

    size = context + queries
    return np.array([[sees(row, column) for column in range(size)] for row in range(size)])


def adds_up_what_the_mask_shows(attend: Attend, layer: nn.Module, mask: Mask, context: int, queries: int) -> None:
    tokens = tokens_of(context, queries)
    expected = quadratic(layer, tokens, visible_by_hand(mask, context, queries), context)
    close(attend(tokens, mask, context), torch.from_numpy(expected), tolerance=1e-11)


def moves_those_who_see_it(attend: Attend, mask: Mask, context: int, queries: int) -> None:
    """Moving one token moves the updates of the tokens that see it, its own, and no other."""
    tokens = tokens_of(context, queries)
    visible = visible_by_hand(mask, context, queries)
    before = attend(tokens, mask, context)
    for i in sorted({0, 1, 4, 5, BLOCK - 2, BLOCK - 1, BLOCK, context - 1, context, context + queries - 1}):
        if i < len(visible):
            nudged = tokens.clone()
            nudged[:, i] += 1
            moved = (attend(nudged, mask, context) - before).abs().amax((0, 2)) > 1e-12
            should = visible[:, i] | (np.arange(len(visible)) == i)
            assert np.array_equal(moved.numpy(), should), f"token {i}"


every_mask = pytest.mark.parametrize("mask", MASKS, ids=repr)
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())


@every_mask
def test_the_matrix_is_the_one_that_the_mask_describes(mask):
    for context, queries in product(CONTEXTS, (1, 3)):
        assert np.array_equal(mask.visible(context, queries).numpy(), visible_by_hand(mask, context, queries))


@every_mask
def test_counts_are_how_many_context_tokens_a_token_sees(mask):
    for context, queries in product(CONTEXTS, (1, 3)):
        seen = visible_by_hand(mask, context, queries)[:, :context].sum(1)
        assert mask.counts(context, queries).tolist() == seen.tolist()


@every_mask
@every_layer
def test_every_layer_adds_up_what_the_mask_shows(layer, mask):
    for context, queries in product(CONTEXTS, (1, 3)):
        adds_up_what_the_mask_shows(layer, layer, mask, context, queries)


@every_mask
@every_layer
def test_a_token_moves_those_who_see_it_and_no_other(layer, mask):
    for context in (5, BLOCK, BLOCK + 1, 2 * BLOCK + 6, 4 * BLOCK + 3):
        moves_those_who_see_it(layer, mask, context, queries=2)


@pytest.mark.parametrize("place", [2, BLOCK + 3, 4 * BLOCK])
def test_what_follows_a_token_does_not_reach_it_by_rounding_either(place):
    """A difference of running sums would leak: here what follows is 1e8 times as large."""
    layer, tokens = LAYERS["linear / none, merged"], tokens_of(4 * BLOCK + 3, 2)
    before = layer(tokens, Causal(), 4 * BLOCK + 3)
    later = torch.cat([tokens[:, : place + 1], 1e8 * tokens[:, place + 1 :]], dim=1)
    after = layer(later, Causal(), 4 * BLOCK + 3)
    assert torch.equal(after[:, : place + 1], before[:, : place + 1])
    assert not torch.equal(after[:, place + 1 :], before[:, place + 1 :])


def off_by_one(layer: nn.Module) -> Attend:
    """The layer under a mask that shows one token of the context too many, or at full length one too few."""

    def attend(tokens: Tensor, mask: Mask, context: int) -> Tensor:
        inner = mask.mask if isinstance(mask, SelfVisible) else mask
        span = inner.span(context)
        wrong = Prefix(context - 1) if span == context else Prefix(max(2, span + 1))
        return layer(tokens, SelfVisible(wrong) if mask.query_sees_itself() else wrong, context)

    return attend


@every_mask
@every_layer
def test_a_mask_off_by_one_is_rejected(layer, mask):
    with pytest.raises(AssertionError):
        adds_up_what_the_mask_shows(off_by_one(layer), layer, mask, context=BLOCK + 1, queries=2)
    with pytest.raises(AssertionError):
        moves_those_who_see_it(off_by_one(layer), mask, context=BLOCK + 1, queries=2)


def blind_at_the_block(tokens: Tensor, mask: Mask, context: int) -> Tensor:
    """Forgets, from the second block of a causal mask on, the first token: a wrong running moment."""
    layer = LAYERS["linear / none, merged"]
    update = layer(tokens, mask, context)
    late = layer(torch.cat([torch.zeros_like(tokens[:, :1]), tokens[:, 1:]], dim=1), mask, context)
    return torch.cat([update[:, :BLOCK], late[:, BLOCK:]], dim=1)


def test_a_mistake_from_the_second_block_on_is_rejected():
    layer = LAYERS["linear / none, merged"]
    adds_up_what_the_mask_shows(blind_at_the_block, layer, Causal(), context=BLOCK - 1, queries=1)
    for context in (BLOCK + 1, 2 * BLOCK + 6):
        with pytest.raises(AssertionError):
            adds_up_what_the_mask_shows(blind_at_the_block, layer, Causal(), context, queries=1)
        with pytest.raises(AssertionError):
            moves_those_who_see_it(blind_at_the_block, Causal(), context, queries=1)


def test_prefixes_of_length_zero_and_one_are_causal_and_long_ones_full():
    for length in (0, 1):
        assert torch.equal(Prefix(length).visible(6, 2), Causal().visible(6, 2))
    for length in (6, 9):
        assert torch.equal(Prefix(length).visible(6, 2), Prefix().visible(6, 2))


@pytest.mark.parametrize("length", [-1, 2.0, True], ids=repr)
@pytest.mark.usefixtures("as_users_run")
def test_a_prefix_length_is_a_whole_number(length):
    with pytest.raises(InputError, match="length"):
        Prefix(length)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"attention": "local"}, "'linear' or 'softmax'"),
        ({"normaliser": "max"}, "'context', 'visible' or 'none'"),
        ({"encoding": "interleaved"}, "'stacked', 'augmented' or 'carried'"),
        ({"encoding": "augmented"}, "out must be dim"),
        ({"layers": 0}, "layers"),
        ({"heads": True}, "heads"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("as_users_run")
def test_architectures_refuse(wrong, match):
    with pytest.raises(InputError, match=match):
        Architecture(3, **wrong)
