"""Conjugate gradients."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count
from insitu.learners.learner import LinearLearner

__all__ = ["ConjugateGradient"]


@final
@dataclass(frozen=True, repr=False)
class ConjugateGradient(LinearLearner):
    r"""Conjugate gradients on the normal equations, from zero, for each output by itself.

    After t steps it is the w with the smallest :math:`\|y - X w^\top\|^2` in the Krylov space spanned by
    :math:`c, G c, \dots, G^{t-1} c` with :math:`c = X^\top y`, :math:`G = X^\top X`; after as many as G has distinct
    eigenvalues, least squares of least norm. It is computed by the residuals of the labels (CGLS), which keeps the
    weights in the span of the inputs.

    Args:
        steps: The number of steps.

    References:
        Hestenes and Stiefel (1952).

    Example:
        >>> ConjugateGradient(steps=3)
        ConjugateGradient(steps=3)
    """

    steps: int

    def __post_init__(self) -> None:
        require_count("ConjugateGradient", "steps", self.steps)

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        (last,) = deque(self._iterates(xs, ys, xs.new_ones(1, xs.shape[1])), maxlen=1)
        return last[:, 0]

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        (last,) = deque(self._iterates(xs, ys, every_prefix(xs)), maxlen=1)
        return last

    def prefix_iterates(
        self, xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
    ) -> Float[Tensor, "batch point step out dim"]:
        """The weights learned from the first k examples before the first step and after each; in float64."""
        return torch.stack(list(self._iterates(xs, ys, every_prefix(xs))), dim=2)

    def _iterates(
        self, xs: Tensor, ys: Tensor, visible: Float[Tensor, "length point"]
    ) -> Iterator[Float[Tensor, "batch length out dim"]]:
        """The weights before the first step and after each, of contexts that see some of the examples."""
        inputs, mask = xs[:, None], visible[:, None]
        residual = ys.mT[:, None] * mask
        direction = slope = residual @ inputs
        weights = torch.zeros_like(slope)
        yield weights
        for _ in range(self.steps):
            image = direction @ inputs.mT * mask
            length = ratio(slope, image)
            weights, residual = weights + length * direction, residual - length * image
            before, slope = slope, residual @ inputs
            direction = slope + ratio(slope, before) * direction
            yield weights


def every_prefix(xs: Float[Tensor, "batch point dim"]) -> Float[Tensor, "point point"]:
    """Which examples belong to each prefix."""
    return xs.new_ones(xs.shape[1], xs.shape[1]).tril()


def ratio(
    above: Float[Tensor, "*context above"], below: Float[Tensor, "*context below"]
) -> Float[Tensor, "*context 1"]:
    """Of two sums of squares; zero where there is nothing to divide by."""
    bottom = below.square().sum(-1, keepdim=True)
    return torch.where(bottom > 0, above.square().sum(-1, keepdim=True) / torch.where(bottom > 0, bottom, 1.0), 0.0)
