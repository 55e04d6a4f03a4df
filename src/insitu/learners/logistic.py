"""Multinomial logistic regression, refined example by example."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_not_negative
from insitu.learners.learner import Learner
from insitu.prompt import Prompt

__all__ = ["LogisticRegression"]

ROUNDS = 100
TOLERANCE = 1e-12


@final
@dataclass(frozen=True, repr=False)
class LogisticRegression(Learner):
    r"""Class probabilities by ridge-penalised multinomial logistic regression without intercept.

    .. math:: \min_w - \sum_i \sum_c y_{ic} \log \mathrm{softmax}(w x_i)_c + \frac{\lambda}{2} \|w\|_F^2

    Labels are one-hot rows (or class probabilities). The objective is strictly convex, so its minimiser does
    not depend on how it is found: Newton steps with halving until the Newton decrement is below 1e-12. At
    every prefix the search starts from the solution of the one before.

    Args:
        penalty: The penalty :math:`\lambda > 0`; without one, separable examples have no minimiser.

    Raises:
        InputError: If the penalty is not positive.

    References:
        Bishop (2006), section 4.3.4.

    Example:
        >>> LogisticRegression(penalty=0.1)
        LogisticRegression(penalty=0.1)
    """

    penalty: float = 0.1

    def __post_init__(self) -> None:
        require_not_negative("LogisticRegression", "penalty", self.penalty, zero=False)

    def predict(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        start = exact.xs.new_zeros(prompt.batch, prompt.out, prompt.dim)
        weights = self._minimise(start, exact.xs, exact.ys)
        return (exact.queries @ weights.mT).softmax(-1).to(prompt.ys)

    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        weights = exact.xs.new_zeros(prompt.batch, prompt.out, prompt.dim)
        answers = []
        for k in range(1, prompt.points + 1):
            weights = self._minimise(weights, exact.xs[:, :k], exact.ys[:, :k])
            answers.append((exact.queries @ weights.mT).softmax(-1))
        return torch.stack(answers, dim=1).to(prompt.ys)

    def _minimise(
        self,
        weights: Float[Tensor, "batch out dim"],
        xs: Float[Tensor, "batch point dim"],
        ys: Float[Tensor, "batch point out"],
    ) -> Float[Tensor, "batch out dim"]:
        for _ in range(ROUNDS):
            step, decrement = self._newton_step(weights, xs, ys)
            if decrement.max() < TOLERANCE:
                return weights + step  # The step is at hand, and squares the error that is left.
            weights = weights + self._length(weights, step, decrement, xs, ys) * step
        return weights

    def _newton_step(self, weights: Tensor, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        batch, out, dim = weights.shape
        odds = (xs @ weights.mT).softmax(-1)
        mass = ys.sum(-1, keepdim=True)
        slope = (mass * odds - ys).mT @ xs + self.penalty * weights
        spread = mass[..., None] * (torch.diag_embed(odds) - odds[..., None] * odds[..., None, :])
        curve = torch.einsum("bkoc,bki,bkj->boicj", spread, xs, xs).reshape(batch, out * dim, out * dim)
        curve = curve + self.penalty * torch.eye(out * dim, dtype=xs.dtype, device=xs.device)
        step = -torch.linalg.solve(curve, slope.reshape(batch, out * dim)).view_as(weights)
        return step, -(step * slope).sum((1, 2))

    def _length(
        self, weights: Tensor, step: Tensor, decrement: Tensor, xs: Tensor, ys: Tensor
    ) -> Float[Tensor, "batch 1 1"]:
        """Halve each prompt's step until the objective falls by a quarter of what its slope promises."""
        length = torch.ones_like(decrement)
        before = self._objective(weights, xs, ys)
        for _ in range(30):
            after = self._objective(weights + length[:, None, None] * step, xs, ys)
            short = after > before - 0.25 * length * decrement + 1e-13 * before.abs()
            if not short.any():
                break
            length = torch.where(short, length / 2, length)
        return length[:, None, None]

    def _objective(self, weights: Tensor, xs: Tensor, ys: Tensor) -> Float[Tensor, " batch"]:
        loss = -(ys * (xs @ weights.mT).log_softmax(-1)).sum((1, 2))
        return loss + self.penalty / 2 * weights.square().sum((1, 2))
