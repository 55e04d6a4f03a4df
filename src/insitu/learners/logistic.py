"""Multinomial logistic regression, refined example by example."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_not_negative
from insitu.learners.learner import Learner
from insitu.prompt import Prompt

__all__ = ["LogisticRegression"]

ROUNDS = 100
TOLERANCE = 1e-13
# Below this, rounding outweighs the penalty.
NEGLIGIBLE = 1e-15


@final
@dataclass(frozen=True, repr=False)
class LogisticRegression(Learner):
    r"""Class probabilities by ridge-penalised multinomial logistic regression without intercept.

    .. math:: \min_w - \sum_i \sum_c y_{ic} \log \mathrm{softmax}(w x_i)_c + \frac{\lambda}{2} \|w\|_F^2

    Labels are one-hot rows (or class probabilities). The objective is strictly convex, so its minimiser does
    not depend on how it is found: Newton steps with halving, on inputs scaled to size one, until the Newton
    decrement is negligible. At every prefix the search starts from the solution of the one before.

    Args:
        penalty: The penalty :math:`\lambda > 0`; without one, separable examples have no minimiser.

    Raises:
        InputError: If the penalty is not positive, labels are not rows of class probabilities, or the penalty is
            so small against the inputs that float64 cannot tell the minimiser.

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
        problem = LogisticProblem(prompt, self.penalty)
        return problem.answers(problem.minimise(problem.start(), prompt.points)).to(prompt.ys)

    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        problem = LogisticProblem(prompt, self.penalty)
        weights, answers = problem.start(), []
        for k in range(1, prompt.points + 1):
            weights = problem.minimise(weights, k)
            answers.append(problem.answers(weights))
        return torch.stack(answers, dim=1).to(prompt.ys)


class LogisticProblem:
    """The objective on inputs scaled to size one, prompt by prompt: weights grow and the penalty shrinks."""

    def __init__(self, prompt: Prompt, penalty: float) -> None:
        exact = prompt.to(torch.float64)
        if prompt.out < 2 or (exact.ys < 0).any() or ((exact.ys.sum(-1) - 1).abs() > 1e-6).any():
            raise InputError(
                "LogisticRegression: labels must be rows of class probabilities, one-hot for known classes: at least "
                f"two classes, none negative, each row adding to 1; got out={prompt.out}."
            )
        size = exact.xs.abs().amax((1, 2), keepdim=True)
        size = torch.where(size > 0, size, 1.0)
        self.xs, self.ys, self.queries = exact.xs / size, exact.ys, exact.queries / size
        self.penalty = (penalty / size.square())[:, 0, 0]
        if self.penalty.min() < NEGLIGIBLE:
            raise InputError(
                f"LogisticRegression: penalty {penalty:g} is negligible against inputs of size {size.max():.3g}, so "
                "float64 cannot tell the minimiser. Scale the inputs down, or raise the penalty with their square."
            )

    def start(self) -> Float[Tensor, "batch out dim"]:
        """The weights to start from."""
        return self.xs.new_zeros(self.xs.shape[0], self.ys.shape[2], self.xs.shape[2])

    def answers(self, weights: Float[Tensor, "batch out dim"]) -> Float[Tensor, "batch query out"]:
        """Class probabilities at the queries."""
        return (self.queries @ weights.mT).softmax(-1)

    def minimise(self, weights: Float[Tensor, "batch out dim"], count: int) -> Float[Tensor, "batch out dim"]:
        """Minimise over the first ``count`` examples, in coordinates of their span.

        The minimiser lies in it; outside, a small penalty would blow rounding errors up.
        """
        _, _, axes = torch.linalg.svd(self.xs[:, :count], full_matrices=False)
        xs, ys = self.xs[:, :count] @ axes.mT, self.ys[:, :count]
        return self.descend(weights @ axes.mT, xs, ys) @ axes

    def descend(self, weights: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
        """Newton steps with halving."""
        for _ in range(ROUNDS):
            step, decrement = self.newton_step(weights, xs, ys)
            objective = self.objective(weights, xs, ys)
            if (decrement <= TOLERANCE * objective).all():
                return weights + step  # This step is computed already, and squares the remaining error.
            weights = weights + self.length(weights, step, decrement, xs, ys) * step
        return weights

    def newton_step(self, weights: Tensor, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step, and the decrease that it promises, twice over."""
        batch, out, dim = weights.shape
        odds = (xs @ weights.mT).softmax(-1)
        slope = (odds - ys).mT @ xs + self.penalty[:, None, None] * weights
        spread = torch.diag_embed(odds) - odds[..., None] * odds[..., None, :]
        curve = torch.einsum("bkoc,bki,bkj->boicj", spread, xs, xs).reshape(batch, out * dim, out * dim)
        eye = torch.eye(out * dim, dtype=xs.dtype, device=xs.device)
        curve = curve + self.penalty[:, None, None] * eye
        step = -torch.linalg.solve(curve, slope.reshape(batch, out * dim)).view_as(weights)
        return step, -(step * slope).sum((1, 2))

    def length(
        self, weights: Tensor, step: Tensor, decrement: Tensor, xs: Tensor, ys: Tensor
    ) -> Float[Tensor, "batch 1 1"]:
        """Halve each prompt's step until the objective falls by a quarter of what its slope promises."""
        length = torch.ones_like(decrement)
        before = self.objective(weights, xs, ys)
        for _ in range(30):
            after = self.objective(weights + length[:, None, None] * step, xs, ys)
            short = after > before - 0.25 * length * decrement + 1e-13 * before.abs()
            if not short.any():
                break
            length = torch.where(short, length / 2, length)
        return length[:, None, None]

    def objective(self, weights: Tensor, xs: Tensor, ys: Tensor) -> Float[Tensor, " batch"]:
        """The objective."""
        loss = -(ys * (xs @ weights.mT).log_softmax(-1)).sum((1, 2))
        return loss + self.penalty / 2 * weights.square().sum((1, 2))
