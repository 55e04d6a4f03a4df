"""Gradient descent in which every example hears only of the examples before it."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count, require_flag, require_not_negative
from insitu.learners.learner import LinearLearner

__all__ = ["CausalDescent"]


@final
@dataclass(frozen=True, repr=False)
class CausalDescent(LinearLearner):
    r"""The iteration of causal linear attention: gradient descent at each position, on the residuals of its past.

    .. math:: w_j \leftarrow w_j + \frac{\eta}{n} \sum_{i \le j} (y_i - w_i x_i) x_i^\top, \quad j = 1, \dots, n,

    all positions at once, from zero; the answer is :math:`w_n x_q`. The residuals obey :math:`r \leftarrow r -
    \frac{\eta}{n} \mathrm{tril}(X X^\top) r`, so that is what is computed. One step is gradient descent; in the limit
    of many, where :math:`\eta < 2 n / \max_j \|x_j\|^2`, the answer is that of one Kaczmarz pass.

    Args:
        steps: The number of steps (layers).
        rate: The rate :math:`\eta`.
        per_place: Whether position j divides by the number j of examples that it sees, as averaging attention does,
            and not by n.

    Raises:
        InputError: If the rate is negative.

    References:
        Ding et al. (2024), proposition 2, equation 10; per place, proposition 7.

    Example:
        >>> CausalDescent(steps=5, rate=0.5)
        CausalDescent(steps=5, rate=0.5)
    """

    steps: int
    rate: float
    per_place: bool = False

    def __post_init__(self) -> None:
        require_count("CausalDescent", "steps", self.steps)
        require_not_negative("CausalDescent", "rate", self.rate)
        require_flag("CausalDescent", "per_place", self.per_place)

    @property
    def ordered(self) -> str:
        return "it reads the examples one after the other"

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return self.rate / xs.shape[1] * (self._summed(xs, ys).mT @ xs)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        # Position j does not depend on later ones: prefixes differ by the factor 1/n alone.
        if self.per_place:
            sums = (self._summed(xs, ys)[..., None] * xs[:, :, None]).cumsum(1)
            return self.rate * sums / places(xs)[:, None, None]
        return torch.stack([self.weights(xs[:, :k], ys[:, :k]) for k in range(1, xs.shape[1] + 1)], dim=1)

    def _summed(self, xs: Tensor, ys: Tensor) -> Float[Tensor, "batch point out"]:
        """The residuals of every example, added up over the steps."""
        divisor = places(xs)[:, None] if self.per_place else xs.shape[1]
        past = self.rate * (xs @ xs.mT).tril() / divisor
        residual, total = ys, torch.zeros_like(ys)
        for _ in range(self.steps):
            total = total + residual
            residual = residual - past @ residual
        return total


def places(xs: Float[Tensor, "batch point dim"]) -> Float[Tensor, " point"]:
    """The numbers 1, ..., n."""
    return torch.arange(1, xs.shape[1] + 1, dtype=xs.dtype, device=xs.device)
