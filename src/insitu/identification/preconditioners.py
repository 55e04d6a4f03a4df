r"""Gradient descent with a preconditioner, a rate for every step or a start: more numbers than a grid can hold.

One step with a preconditioner A answers :math:`\frac1n Y^\top X A x_q`, which is linear in A, so A is found by linear
least squares. For more steps the derivatives of

.. math:: w_{t+1} = w_t + (c - w_t G) A, \quad c = \tfrac1n Y^\top X, \quad G = \tfrac1n X^\top X

follow their own recursion, :math:`\delta w_{t+1} = \delta w_t (I - G A) + (c - w_t G) \delta A`, and Gauss and
Newton's iteration begins at the best single rate. From a start :math:`w_0` descent with one rate answers
:math:`w_0 (I - \eta G)^T x_q` more than from zero, which is linear in the start.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification.evidence import Evidence, LengthBlock
from insitu.identification.fitting import ROUNDS, Fit, gauss_newton, one_by_one
from insitu.identification.interval import Interval
from insitu.identification.objective import Objective, Residual, finite
from insitu.learners import GradientDescent

__all__ = ["MOST_RATES", "MatrixFit", "RatesFit", "StartFit", "matrix_fits", "rate_fits", "start_fits"]

# Entries of the table of derivatives at most (800 MB); more prompts than fit are left out of the fit.
TABLE = 100_000_000
# Answers per free number below which a matrix is not fitted.
ENOUGH = 4
STEPS = (1, 2, 3, 4, 5, 6)
# Rates that differ at most, and the imaginary part that rounding leaves of a root, as a share: of equal ones it is the
# root of a rounding error.
MOST_RATES, REAL = 8, 1e-3
# Steps of descent from a start, and the rates, in units of the inputs, with which the search begins.
STARTED, RATES = range(1, 13), (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)
# For how many rounds they are refined on few prompts, and what they may leave of what the start alone leaves.
FEW_ROUNDS, LEARNT = 15, 0.5


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

    def rates(self, numbers: Tensor) -> Float[Tensor, " rate"]:
        """Those of its numbers that are rates, which must be positive: none."""
        return numbers[:0]

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

    def rates(self, numbers: Tensor) -> Float[Tensor, " rate"]:
        """Those of its numbers that are rates: all."""
        return numbers

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


@final
@dataclass(frozen=True, eq=False)
class StartFit:
    """Descent with one rate from a start: the rate, then the start's weights row by row.

    Args:
        steps: The number of steps.
        dim: The dimension of an input.
        out: The number of outputs.
    """

    steps: int
    dim: int
    out: int

    @property
    def size(self) -> int:
        """The number of free numbers."""
        return 1 + self.out * self.dim

    def rates(self, numbers: Tensor) -> Float[Tensor, " rate"]:
        """Those of its numbers that are rates: the first."""
        return numbers[:1]

    def answers(self, block: LengthBlock, numbers: Tensor) -> Float[Tensor, "batch query out"]:
        """What descent answers."""
        return block.view.prompt.queries @ self._descent(block, numbers)[0].mT

    def derivatives(self, block: LengthBlock, numbers: Tensor) -> Float[Tensor, "batch query out number"]:
        """The derivatives of the answers."""
        _, moved, kept = self._descent(block, numbers)
        queries = block.view.prompt.queries
        by_start = torch.einsum("bqd,bed,op->bqope", queries, kept, torch.eye(self.out, dtype=torch.float64))
        return torch.cat([(queries @ moved.mT)[..., None], by_start.flatten(3)], dim=-1)

    def _descent(self, block: LengthBlock, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last weights, their derivatives by the rate, and what the steps keep of the start."""
        gram, cross = moments(block)
        rate, start = numbers[0], numbers[1:].view(self.out, self.dim)
        weights, moved = start.expand_as(cross), torch.zeros_like(cross)
        kept = torch.eye(self.dim, dtype=torch.float64).expand_as(gram)
        for _ in range(self.steps):
            slope = cross - weights @ gram
            moved = moved + slope - rate * moved @ gram
            weights, kept = weights + rate * slope, kept - rate * kept @ gram
        return weights, moved, kept

    def learner(self, numbers: Tensor) -> GradientDescent:
        """The learner."""
        start = numbers[1:].view(self.out, self.dim)
        return GradientDescent(steps=self.steps, rate=numbers[0].item(), start=start[0] if self.out == 1 else start)

    def named(self, numbers: Tensor, half: Tensor) -> list[Interval]:
        """The rate and every weight of the start with its interval."""
        weights = range(self.out * self.dim)
        places = [str(i + 1) if self.out == 1 else f"{i // self.dim + 1},{i % self.dim + 1}" for i in weights]
        names = ["rate", *(f"start[{place}]" for place in places)]
        rows = zip(names, numbers.tolist(), half.tolist(), strict=True)
        return [
            Interval("steps", self.steps, self.steps, self.steps),
            *(Interval(name, v, v - h, v + h) for name, v, h in rows),
        ]


Model = MatrixFit | RatesFit | StartFit


def moments(block: LengthBlock) -> tuple[Float[Tensor, "batch dim dim"], Float[Tensor, "batch out dim"]]:
    """G and c."""
    p = block.view.prompt
    return p.xs.mT @ p.xs / p.points, p.ys.mT @ p.xs / p.points


@final
class ModelProblem:
    """A model on the prompts of an objective: what it misses at its numbers.

    Args:
        model: The model.
        objective: The weighted prompts.
    """

    def __init__(self, model: Model, objective: Objective) -> None:
        self.model, self.objective = model, objective

    def residual(self, numbers: Tensor) -> Residual:
        """The weighted differences from the answers."""
        return self.objective.residual([self.model.answers(b, numbers) for b in self.objective.evidence.blocks])

    def slopes(self, numbers: Tensor) -> Float[Tensor, "entry number"]:
        """Their derivatives."""
        pairs = zip(self.objective.roots, self.objective.evidence.blocks, strict=True)
        return torch.cat([(root[..., None] * self.model.derivatives(b, numbers)).flatten(0, 2) for root, b in pairs])

    def loss(self, numbers: Tensor) -> float:
        """Their sum of squares."""
        return finite(self.residual(numbers))

    def refined(self, start: Tensor, rounds: int = ROUNDS) -> tuple[Tensor, float]:
        """The best numbers near these ones, and what they leave."""
        return gauss_newton(*one_by_one(self.residual, self.slopes), start, rounds)


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
        objective = Objective(used)
        for steps, rate in rates:
            start = torch.full((dim,), rate, dtype=torch.float64)
            problem = ModelProblem(MatrixFit(steps, dim, diagonal), objective)
            found.append(fitted(problem, start if diagonal else torch.diag(start).flatten()))
    return [fit for fit in found if fit is not None]


def rate_fits(fitting: Objective, rates: Sequence[tuple[int, float]]) -> list[Fit]:
    """Descent with a rate for every step; those whose rates would be negative are no descent and left out."""
    found = []
    for steps, rate in rates:
        if 2 <= steps <= MOST_RATES:
            problem = ModelProblem(RatesFit(steps), fitting)
            even = rate * torch.linspace(1.5, 0.5, steps, dtype=torch.float64)
            starts = [even, *polynomial_rates(fitting, steps)]
            found.append(fitted(problem, min(starts, key=problem.loss)))
    return [fit for fit in found if fit is not None]


def polynomial_rates(fitting: Objective, steps: int) -> list[Float[Tensor, " rate"]]:
    r"""The rates whose steps fit the answers best, if there are such: a start for the others.

    After T steps the share :math:`1 - \prod_t (1 - \eta_t \lambda)` of a direction with eigenvalue :math:`\lambda` is
    fitted. Its coefficients as a polynomial of :math:`\lambda` are found by linear least squares; the rates are the
    inverse roots of :math:`\prod_t (1 - \eta_t \lambda)`, none of which may be complex or negative.
    """
    blocks = fitting.evidence.blocks
    size = blocks[0].view.size
    columns = []
    for power in range(1, steps + 1):
        sizes = [b.view.spectrum[0] for b in blocks]
        gains = [(s.square() / b.view.prompt.points / size) ** power / s for s, b in zip(sizes, blocks, strict=True)]
        answers = [b.view.with_gains(g) for g, b in zip(gains, blocks, strict=True)]
        pairs = zip(fitting.roots, answers, strict=True)
        columns.append(torch.cat([(root * answer).flatten() for root, answer in pairs]))
    table, goal = torch.stack(columns, dim=-1), -fitting.residual([torch.zeros_like(b.answers) for b in blocks])
    if not bool(table.isfinite().all()):
        return []
    coefficients = torch.linalg.lstsq(table, goal[:, None], driver="gelsd").solution[:, 0]
    roots = torch.as_tensor(np.roots([*(-coefficients.flip(0)).tolist(), 1.0]).astype(complex))
    real = len(roots) == steps and bool((roots.imag.abs() <= REAL * roots.abs()).all()) and bool((roots.real > 0).all())
    return [(1 / roots.real / size).sort(descending=True).values] if real else []


def start_fits(fitting: Objective, few: Objective) -> list[Fit]:
    """Descent from a start, with as many steps as few prompts say; none where these do little or answers are few."""
    view = fitting.evidence.blocks[0].view
    dim, out = view.prompt.dim, view.prompt.out
    if entries(few.evidence) < ENOUGH * dim * out:
        return []
    rates = [rate / view.size for rate in RATES]
    problems = [ModelProblem(StartFit(steps, dim, out), few) for steps in STARTED]
    refined = [(problem, *problem.refined(with_start(problem, rates), FEW_ROUNDS)) for problem in problems]
    best, place, loss = min(refined, key=lambda entry: entry[2])
    fit = fitted(ModelProblem(best.model, fitting), place)
    # Weights that no example moves are no learner: the steps must explain what the start alone does not.
    if fit is None or loss > LEARNT * best.loss(with_start(best, [0.0])):
        return []
    return [replace(fit, limits=("steps",)) if best.model.steps == STARTED[-1] else fit]


def with_start(problem: ModelProblem, rates: Sequence[float]) -> Float[Tensor, " number"]:
    """The rate that leaves least together with its best start, which answers depend on linearly."""
    best, place = math.inf, torch.zeros(problem.model.size, dtype=torch.float64)
    for rate in rates:
        at = torch.zeros_like(place)
        at[0] = rate
        now, columns = problem.residual(at), problem.slopes(at)[:, 1:]
        if bool(now.isfinite().all()) and bool(columns.isfinite().all()):
            at[1:] = -torch.linalg.lstsq(columns, now[:, None], driver="gelsd").solution[:, 0]
            best, place = min((best, place), (problem.loss(at), at), key=lambda entry: entry[0])
    return place


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


def fitted(problem: ModelProblem, start: Tensor) -> Fit | None:
    """The numbers that bring the answers nearest; none where they are not those of a learner."""
    model = problem.model
    numbers, loss = problem.refined(start)
    if bool((model.rates(numbers) <= 0).any()):
        return None
    half = problem.objective.half_widths(problem.residual(numbers), problem.slopes(numbers))
    return Fit(
        model.learner(numbers),
        # The number of steps is one more.
        model.size + 1,
        loss,
        intervals=lambda: model.named(numbers, half),
        slopes=lambda at: ModelProblem(model, at).slopes(numbers),
        named=lambda values: model.learner(torch.tensor(values[1:], dtype=torch.float64)),
    )
