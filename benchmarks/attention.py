"""One layer of linear attention in single precision: moments of leading parts, and the masked matrix of scores."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import Row, compare
from insitu import Seed
from insitu.models import Causal, LinearAttention, Mask, MergedMaps, Prefix

WIDTH, BATCH, QUERIES = 21, 2, 20
CONTEXTS = (64, 128, 256, 512, 1024, 2048, 4096)


def by_matrix(layer: LinearAttention, tokens: Tensor, mask: Mask, context: int) -> Tensor:
    """The common way: all scores, zeroed where the mask hides, times the values."""
    query, key, value = layer.maps(tokens)
    scores = (query @ key.mT) * mask.visible(context, tokens.shape[1] - context)
    return layer.maps.join(scores @ value) / context


@torch.no_grad()
def rows(rounds: int, contexts: Sequence[int] = CONTEXTS) -> Iterator[Row]:
    """One row for every mask and length of the context."""
    layer = LinearAttention(MergedMaps(WIDTH))
    for name, parameter in layer.named_parameters():
        parameter.copy_(0.3 * (Seed(0) / name).normal(*parameter.shape))
    for mask, name in ((Prefix(), "prefix"), (Causal(), "causal")):
        for context in contexts:
            tokens = (Seed(0) / "tokens" / context).normal(BATCH, context + QUERIES, WIDTH).float()
            ways = partial(layer, tokens, mask, context), partial(by_matrix, layer, tokens, mask, context)
            yield compare("attention", f"linear attention, {name} mask", context, ways, rounds, tolerance=1e-3)
