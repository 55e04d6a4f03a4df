"""The posterior mean over a pool of functions at every prefix."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.prefixes import examples
from benchmarks.timing import Row, compare
from insitu import Seed
from insitu.learners import FinitePool

NOISE = 0.5
MEMBERS = (256, 1024, 4096, 16384)


def looped(xs: Tensor, ys: Tensor, pool: Tensor) -> Tensor:
    """The common way: the likelihoods of every prefix from its first example on."""
    weights = []
    for k in range(1, xs.shape[1] + 1):
        missed = ys[:, :k] - torch.einsum("bkd,md->bkm", xs[:, :k], pool)
        weights.append((-missed.square().sum(1) / (2 * NOISE**2)).softmax(-1) @ pool)
    return torch.stack(weights, dim=1)[:, :, None]


def rows(rounds: int, members: Sequence[int] = MEMBERS, batch: int = 256) -> Iterator[Row]:
    """One row for every size of the pool."""
    xs, ys = examples(batch, points=16, dim=8)
    for size in members:
        pool = (Seed(0) / "pool").normal(size, 8)
        learner = FinitePool(weights_of=pool, noise=NOISE)
        ways = partial(learner.prefix_weights, xs, ys), partial(looped, xs, ys, pool)
        yield compare("pools", f"finite pool, {batch} prompts of 16 points", size, ways, rounds, tolerance=1e-9)
