r"""Learners that know the examples only through :math:`\sum_i x_i x_i^\top` and :math:`\sum_i y_i x_i^\top`."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.learners.learner import LinearLearner

__all__ = ["MomentLearner", "Moments", "prefix_moments"]

# Numbers in one block of prefix Gram matrices (32 MB): more would leave the cache for nothing.
BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the examples of a context, for many contexts at once."""

    gram: Float[Tensor, "*context dim dim"]
    cross: Float[Tensor, "*context out dim"]
    count: Float[Tensor, "*#context 1 1"]


class MomentLearner(LinearLearner):
    """A linear learner that is a function of the moments; prefixes come from running sums."""

    @abc.abstractmethod
    def from_moments(self, moments: Moments) -> Float[Tensor, "*context out dim"]:
        """The weights for every context."""

    @final
    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        count = torch.full((1, 1, 1), xs.shape[1], dtype=xs.dtype, device=xs.device)
        return self.from_moments(Moments(xs.mT @ xs, ys.mT @ xs, count))

    @final
    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return torch.cat([self.from_moments(m) for m in prefix_moments(xs, ys)], dim=1)


def prefix_moments(xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]) -> Iterator[Moments]:
    """The moments of every prefix, in blocks of consecutive lengths ``(batch, length, ., .)``."""
    batch, points, dim = xs.shape
    length = max(1, BLOCK // (batch * dim * dim))
    gram = xs.new_zeros(batch, 1, dim, dim)
    cross = xs.new_zeros(batch, 1, ys.shape[2], dim)
    for start in range(0, points, length):
        x, y = xs[:, start : start + length], ys[:, start : start + length]
        grams = gram + torch.einsum("bki,bkj->bkij", x, x).cumsum(1)
        crosses = cross + torch.einsum("bko,bkj->bkoj", y, x).cumsum(1)
        counts = torch.arange(start + 1, start + x.shape[1] + 1, dtype=xs.dtype, device=xs.device)
        yield Moments(grams, crosses, counts[None, :, None, None])
        gram, cross = grams[:, -1:], crosses[:, -1:]
