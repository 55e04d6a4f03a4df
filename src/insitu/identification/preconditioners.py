r"""Gradient descent with a preconditioner, or with a rate for every step: more numbers than a grid can hold.

One step with a preconditioner A answers :math:`\frac1n Y^\top X A x_q`, which is linear in A, so A is found by linear
least squares. For more steps the derivatives of

.. math:: w_{t+1} = w_t + (c - w_t G) A, \quad c = \tfrac1n Y^\top X, \quad G = \tfrac1n X^\top X

follow their own recursion, :math:`\delta w_{t+1} = \delta w_t (I - G A) + (c - w_t G) \delta A`, and Gauss and
Newton's iteration begins at the best single rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification.evidence import Evidence, LengthBlock
from insitu.identification.fitting import Fit, gauss_newton
from insitu.identification.interval import Interval
from insitu.identification.objective import Objective
from insitu.learners import GradientDescent

__all__ = ["MatrixFit", "RatesFit", "matrix_fits", "rate_fits"]

# Entries of the table of derivatives at most (800 MB); more prompts than fit are left out of the fit.
TABLE = 100_000_000
# Answers per free number below which a matrix is not fitted.
ENOUGH = 4
STEPS = (1, 2, 3, 4, 5, 6)


@final
@dataclass(frozen=True, eq=False)
class MatrixFit:
    """Descent with a preconditioner, diagonal or full.

    Args:
        steps: The number of steps.
        dim: The dimension of an input.
        diagonal: Whether the preconditioner is diagonal.
    """

    steps: int
    dim: int
    diagonal: bool

    @property
    def size(self) -> int:
        """The number of free numbers."""
        return self.dim if self.diagonal else self.dim**2

    @cached_property
    def basis(self) -> Float[Tensor, "number dim dim"]:
        """The matrices that the numbers multiply."""
        unit = torch.eye(self.dim, dtype=torch.float64)
        if self.diagonal:
            return torch.diag_embed(unit)
        return torch.eye(self.dim**2, dtype=torch.float64).view(-1, self.dim, self.dim)

    def matrix(self, numbers: Tensor) -> Float[Tensor, "dim dim"]:
        """The preconditioner."""
        return torch.diag(numbers) if self.diagonal else numbers.view(self.dim, self.dim)

    def answers(self, block: LengthBlock, numbers: Tensor) -> Float[Tensor, "batch query out"]:
        """What descent answers."""
        gram, cross = moments(block)
        matrix, weights = self.matrix(numbers), torch.zeros_like(cross)
        for _ in range(self.steps):
            weights = weights + (cross - weights @ gram) @ matrix
        return block.view.prompt.queries @ weights.mT

    def derivatives(self, block: LengthBlock, numbers: Tensor) -> Float[Tensor, "batch query out number"]:
        """The derivatives of the answers."""
        gram, cross = moments(block)
        matrix, weights = self.matrix(numbers), torch.zeros_like(cross)
        batch, out, _ = cross.shape
        # Rows are numbers and outputs, so that every prompt is one product of matrices.
        moved = cross.new_zeros(batch, self.size * out, self.dim)
        shrink = torch.eye(self.dim, dtype=torch.float64) - gram @ matrix
        for _ in range(self.steps):
            slope = cross - weights @ gram
            moved = moved @ shrink + torch.einsum("bod,pde->bpoe", slope, self.basis).flatten(1, 2)
            weights = weights + slope @ matrix
        answers = block.view.prompt.queries @ moved.mT
        return answers.unflatten(2, (self.size, out)).mT

    def learner(self, numbers: Tensor) -> GradientDescent:
        """The learner; its rate is 1, since only the product with the preconditioner shows."""
        rows = numbers if self.diagonal else self.matrix(numbers)
        return GradientDescent(steps=self.steps, rate=1.0, preconditioner=rows)

    def named(self, numbers: Tensor, half: Tensor) -> list[Interval]:
        """Every entry with its interval."""
        places = [str(i + 1) if self.diagonal else f"{i // self.dim + 1},{i % self.dim + 1}" for i in range(self.size)]
        rows = zip(places, numbers.tolist(), half.tolist(), strict=True)
        entries = [Interval(f"preconditioner[{p}]", v, v - h, v + h) for p, v, h in rows]
        return [Interval("steps", self.steps, self.steps, self.steps), *entries]


@final
@dataclass(frozen=True, eq=False)
class RatesFit:
    """Descent with a rate for every step; the steps commute, so the rates are told in falling order."""

    steps: int

    @property
    def size(self) -> int:
        """The number of free numbers."""
        return self.steps

    def answers(self, block: LengthBlock, numbers: Tensor) -> Float[Tensor, "batch query out"]:
        """What descent answers."""
        sizes, _, _ = block.view.spectrum
        part = sizes.square() / block.view.prompt.points
        return block.view.with_gains((1 - (1 - part[..., None] * numbers).prod(-1)) / sizes)

    def derivatives(self, block: LengthBlock, numbers: Tensor) -> Float[Tensor, "batch query out number"]:
        """The derivatives of the answers."""
        sizes, _, _ = block.view.spectrum
        part = sizes.square() / block.view.prompt.points
        columns = []
        for i in range(self.steps):
            others = torch.cat([numbers[:i], numbers[i + 1 :]])
            gains = part * (1 - part[..., None] * others).prod(-1) / sizes
            columns.append(block.view.with_gains(gains))
        return torch.stack(columns, dim=-1)

    def learner(self, numbers: Tensor) -> GradientDescent:
        """The learner."""
        return GradientDescent(steps=self.steps, rate=numbers.sort(descending=True).values)

    def named(self, numbers: Tensor, half: Tensor) -> list[Interval]:
        """Every rate with its interval."""
        order = numbers.argsort(descending=True).tolist()
        rates = [
            Interval(f"rate[{p + 1}]", v := numbers[i].item(), v - half[i].item(), v + half[i].item())
            for p, i in enumerate(order)
        ]
        return [Interval("steps", self.steps, self.steps, self.steps), *rates]


Model = MatrixFit | RatesFit


def moments(block: LengthBlock) -> tuple[Float[Tensor, "batch dim dim"], Float[Tensor, "batch out dim"]]:
    """G and c."""
    p = block.view.prompt
    return p.xs.mT @ p.xs / p.points, p.ys.mT @ p.xs / p.points


def matrix_fits(fitting: Evidence, rates: Sequence[tuple[int, float]]) -> list[Fit]:
    """Descent with a preconditioner, from the best single rate for each number of steps.

    Args:
        fitting: The prompts for fitting.
        rates: Numbers of steps, each with its best single rate.
    """
    dim = fitting.blocks[0].view.prompt.dim
    found = []
    for diagonal in (True, False):
        size = dim if diagonal else dim**2
        used = thinned(fitting, size)
        if entries(used) < ENOUGH * size:
            continue
        for steps, rate in rates:
            model = MatrixFit(steps, dim, diagonal)
            start = torch.full((dim,), rate, dtype=torch.float64)
            found.append(fitted(model, used, start if diagonal else torch.diag(start).flatten()))
    return [fit for fit in found if fit is not None]


def rate_fits(fitting: Evidence, rates: Sequence[tuple[int, float]]) -> list[Fit]:
    """Descent with a rate for every step; those whose rates would be negative are no descent and left out."""
    found = []
    for steps, rate in rates:
        if 2 <= steps <= 4:
            start = rate * torch.linspace(1.5, 0.5, steps, dtype=torch.float64)
            found.append(fitted(RatesFit(steps), fitting, start))
    return [fit for fit in found if fit is not None]


def entries(given: Evidence) -> int:
    return sum(block.answers.numel() for block in given.blocks)


def thinned(given: Evidence, size: int) -> Evidence:
    """As many prompts as the table of derivatives has room for."""
    share = math.ceil(entries(given) * size / TABLE)
    if share <= 1:
        return given
    return Evidence(
        tuple(b.part(torch.arange(0, len(b.group), share)) for b in given.blocks), given.diagnostics, given.kind
    )


def fitted(model: Model, used: Evidence, start: Tensor) -> Fit | None:
    """The numbers that bring the answers nearest; none where they are not those of a learner."""
    objective = Objective(used)

    def residual(numbers: Tensor) -> Tensor:
        return objective.residual([model.answers(block, numbers) for block in used.blocks])

    def slopes(at: Objective, numbers: Tensor) -> Tensor:
        pairs = zip(at.roots, at.evidence.blocks, strict=True)
        return torch.cat([(root[..., None] * model.derivatives(b, numbers)).flatten(0, 2) for root, b in pairs])

    numbers, loss = gauss_newton(residual, lambda place: slopes(objective, place), start)
    if isinstance(model, RatesFit) and bool((numbers <= 0).any()):
        return None
    half = objective.half_widths(residual(numbers), slopes(objective, numbers))
    return Fit(
        model.learner(numbers),
        # The number of steps is one more.
        model.size + 1,
        loss,
        intervals=lambda: model.named(numbers, half),
        slopes=lambda at: slopes(at, numbers),
        named=lambda values: model.learner(torch.tensor(values[1:], dtype=torch.float64)),
    )
