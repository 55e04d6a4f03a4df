r"""Learners that know the examples only through :math:`\sum_i x_i x_i^\top` and :math:`\sum_i y_i x_i^\top`."""

import abc
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.learners.learner import LinearLearner

__all__ = ["IterativeLearner", "MomentLearner", "Moments", "prefix_moments"]

# Numbers in the Gram matrices of a block of prefixes (2 MB), which stay in the cache while steps are taken.
BLOCK = 2**18


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
        xs = self.inputs(xs)
        count = torch.full((1, 1, 1), xs.shape[1], dtype=xs.dtype, device=xs.device)
        return self.from_moments(Moments(xs.mT @ xs, ys.mT @ xs, count))

    @final
    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        xs = self.inputs(xs)
        path = xs.new_empty(*ys.shape, xs.shape[2])
        for place, moments in prefix_moments(xs, ys):
            path[place] = self.from_moments(moments)
        return path


class IterativeLearner(MomentLearner):
    """A learner that takes steps from moments alone."""

    steps: int

    @abc.abstractmethod
    def iterates(self, moments: Moments) -> Iterator[Float[Tensor, "*context out dim"]]:
        """The weights before the first step and after each."""

    @final
    def from_moments(self, moments: Moments) -> Tensor:
        (last,) = deque(self.iterates(moments), maxlen=1)
        return last

    @final
    def prefix_iterates(
        self, xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
    ) -> Float[Tensor, "batch point step out weight"]:
        """The weights learned from the first k examples before the first step and after each; in float64."""
        xs = self.inputs(xs)
        path = xs.new_empty(self.steps + 1, *ys.shape, xs.shape[2])
        for place, moments in prefix_moments(xs, ys):
            for step, weights in enumerate(self.iterates(moments)):
                path[step][place] = weights
        return path.movedim(0, 2)


def prefix_moments(
    xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
) -> Iterator[tuple[tuple[slice, slice], Moments]]:
    """The moments of every prefix ``(batch, length, ., .)``, in blocks of prompts and consecutive lengths.

    Each comes with the prompts and the points at which its prefixes end.
    """
    dim = xs.shape[2]
    prompts = min(len(xs), max(1, BLOCK // (4 * dim * dim)))
    length = max(1, BLOCK // (prompts * dim * dim))
    for first in range(0, len(xs), prompts):
        rows = slice(first, first + prompts)
        gram, cross = xs.new_zeros(()), xs.new_zeros(())
        for start in range(0, xs.shape[1], length):
            points = slice(start, start + length)
            x, y = xs[rows, points], ys[rows, points]
            grams = gram + (x[..., None] * x[..., None, :]).cumsum(1)
            crosses = cross + (y[..., None] * x[..., None, :]).cumsum(1)
            counts = torch.arange(start + 1, start + x.shape[1] + 1, dtype=xs.dtype, device=xs.device)
            yield (rows, points), Moments(grams, crosses, counts[None, :, None, None])
            gram, cross = grams[:, -1:], crosses[:, -1:]
