"""Gradient descent in which every example hears only of the examples before it."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count, require_not_negative
from insitu.learners.learner import LinearLearner

__all__ = ["CausalDescent"]


@final
@dataclass(frozen=True, repr=False)
class CausalDescent(LinearLearner):
    r"""What the layers of causal linear attention run: one descent per place, each on the residuals of its past.

    .. math:: w_j \leftarrow w_j + \frac{\eta}{n} \sum_{i \le j} (y_i - w_i x_i) x_i^\top, \quad j = 1, \dots, n,

    all places at once, from zero; the answer is :math:`w_n x_q`. The residuals obey :math:`r \leftarrow r -
    \frac{\eta}{n} \mathrm{tril}(X X^\top) r`, so that is what is computed. One step is gradient descent; in the limit
    of many, where :math:`\eta < 2 n / \max_j \|x_j\|^2`, the answer is that of one Kaczmarz pass.

    Args:
        steps: The number of steps (layers).
        rate: The rate :math:`\eta`.

    Raises:
        InputError: If the rate is negative.

    References:
        Ding et al. (2024), proposition 2, equation 10.

    Example:
        >>> CausalDescent(steps=5, rate=0.5)
        CausalDescent(steps=5, rate=0.5)
    """

    steps: int
    rate: float

    def __post_init__(self) -> None:
        require_count("CausalDescent", "steps", self.steps)
        require_not_negative("CausalDescent", "rate", self.rate)

    @property
    def ordered(self) -> str:
        return "it reads the examples one after the other"

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        pull = self.rate / xs.shape[1]
        return pull * (self._summed(xs, ys, pull).mT @ xs)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        # Only the factor 1/n tells the prefixes apart: what place j hears does not depend on what follows it.
        pulls = [self.rate / k for k in range(1, xs.shape[1] + 1)]
        each = [
            pull * (self._summed(xs[:, :k], ys[:, :k], pull).mT @ xs[:, :k]) for k, pull in enumerate(pulls, start=1)
        ]
        return torch.stack(each, dim=1)

    def _summed(self, xs: Tensor, ys: Tensor, pull: float) -> Float[Tensor, "batch point out"]:
        """The residuals of every example, added up over the steps."""
        past = pull * (xs @ xs.mT).tril()
        residual, total = ys, torch.zeros_like(ys)
        for _ in range(self.steps):
            total = total + residual
            residual = residual - past @ residual
        return total
