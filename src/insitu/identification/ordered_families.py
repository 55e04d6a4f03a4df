"""Families whose answers depend on the order of the examples: online descent, causal descent, forgetting."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification.family import Family, Free, Many, Numbers, in_parts
from insitu.identification.spectra import PromptView
from insitu.learners import CausalDescent, Kaczmarz, Learner, OnlineDescent, RecentMean, RecursiveLeastSquares

__all__ = ["CausalFamily", "ForgettingFamily", "KaczmarzFamily", "OnlineFamily", "RecentMeanFamily"]

LAYERS = (*range(2, 17), 20, 25, 32, 42, 56, 75, 100)
PASSES = (2, 3, 4, 5, 6, 8, 10, 13, 16, 20)
# The largest number of passes that is tried: what reaches it may be more.
MOST_PASSES = PASSES[-1]
# Passes beyond which their affine map is taken to a power.
REPEATED = 4


def passes(view: PromptView, rates: Float[Tensor, "place #batch point"], counts: Sequence[int]) -> Iterator[Many]:
    """Online passes with a rate for every example, answered after each of the counts."""
    p = view.prompt
    if len(counts) == 1 and counts[0] > REPEATED:
        yield p.queries @ repeated(view, rates, counts[0]).mT
        return
    weights = p.xs.new_zeros(len(rates), p.batch, p.out, p.dim)
    for count in range(1, counts[-1] + 1):
        weights = one_pass(view, rates, weights, p.ys)
        if count in counts:
            yield p.queries @ weights.mT


def one_pass(
    view: PromptView,
    rates: Float[Tensor, "place #batch point"],
    weights: Float[Tensor, "place batch row dim"],
    ys: Float[Tensor, "batch point row"],
) -> Float[Tensor, "place batch row dim"]:
    """The weights after one pass."""
    xs = view.prompt.xs
    parts = (part.unbind(1) for part in (xs[..., None], xs[:, :, None], ys[..., None]))
    for column, row, y, rate in zip(*parts, rates[..., None, None].unbind(2), strict=True):
        weights = torch.addcmul(weights, rate * (y - weights @ column), row)
    return weights


def repeated(
    view: PromptView, rates: Float[Tensor, "place #batch point"], count: int
) -> Float[Tensor, "place batch out dim"]:
    """The weights after many passes: a pass is affine, w P + b, and its powers come by doubling."""
    p = view.prompt
    unit = torch.eye(p.dim, dtype=torch.float64).expand(len(rates), p.batch, p.dim, p.dim)
    zero = p.xs.new_zeros(len(rates), p.batch, p.out, p.dim)
    # The rows of the unit are weights that are to answer zero: what a pass leaves of them is P.
    labels = torch.cat([p.ys, p.ys.new_zeros(p.batch, p.points, p.dim)], dim=-1)
    shift, power = one_pass(view, rates, torch.cat([zero, unit], dim=2), labels).split([p.out, p.dim], dim=2)
    weights = zero
    while True:
        if count % 2:
            weights = weights @ power + shift
        count //= 2
        if not count:
            return weights
        shift, power = shift @ power + shift, power @ power


@final
@dataclass(frozen=True)
class KaczmarzFamily(Family):
    """Kaczmarz passes; a single one where ``single``."""

    single: bool = False
    whole: str = "passes"
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return Kaczmarz(passes=count)

    def counts(self, view: PromptView) -> Sequence[int]:
        return (1,) if self.single else PASSES

    def reach(self, view: PromptView) -> tuple[int, int]:
        return 1, MOST_PASSES

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        return passes(view, Kaczmarz().rates(view.prompt.xs)[None, :, :, 0], counts)

    @property
    def size(self) -> int:
        return 0 if self.single else 1


@final
@dataclass(frozen=True)
class OnlineFamily(Family):
    """Online gradient descent at a fixed rate or, where ``decays``, at a falling one."""

    decays: bool = False
    single: bool = False
    whole: str = "passes"

    @property
    def free(self) -> tuple[Free, ...]:  # type: ignore[override]
        """The rate, and the decay where there is one."""
        rate = Free("rate", "rate", 1e-4, 10.0, 24 if self.decays else 50)
        return (rate, Free("decay", "none", 0.1, 1.5, 8, limits=(0.0, math.inf))) if self.decays else (rate,)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        rate, decay = (*numbers, 0.0)[:2]
        return OnlineDescent(rate=rate, decay=decay, passes=count)

    def counts(self, view: PromptView) -> Sequence[int]:
        return (1,) if self.single else PASSES

    def reach(self, view: PromptView) -> tuple[int, int]:
        return 1, MOST_PASSES

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        both = torch.tensor([(*numbers, 0.0)[:2] for numbers in places], dtype=torch.float64)
        place = torch.arange(1, view.prompt.points + 1, dtype=torch.float64)
        return passes(view, both[:, :1, None] * place ** -both[:, 1:, None], counts)

    @property
    def size(self) -> int:
        return len(self.free) + (not self.single)


@final
@dataclass(frozen=True)
class CausalFamily(Family):
    """Causal descent: what causal linear attention runs, each place divided by n or by its own number."""

    per_place: bool = False
    whole: str = "steps"
    free: tuple[Free, ...] = (Free("rate", "rate", 1e-3, 30.0, 80),)

    @property
    def special(self) -> bool:  # type: ignore[override]
        """Whether every place has a rate of its own."""
        return self.per_place

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return CausalDescent(steps=count, rate=numbers[0], per_place=self.per_place)

    def counts(self, view: PromptView) -> Sequence[int]:
        return LAYERS

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        p = view.prompt
        if len(counts) == 1:
            yield self._doubled(view, [rate / p.points for (rate,) in places], counts[0])
            return
        # The rates are columns beside one another, so that the triangle is read once for all of them.
        pull = torch.tensor([rate for (rate,) in places], dtype=torch.float64).repeat_interleave(p.out) / p.points
        past = self._past(view)
        residual = p.ys.repeat(1, 1, len(places))
        total = torch.zeros_like(residual)
        for count in range(1, counts[-1] + 1):
            total = total + residual
            residual = residual - pull * (past @ residual)
            if count in counts:
                weights = pull * (p.xs.mT @ total)
                yield (p.queries @ weights).unflatten(-1, (len(places), p.out)).movedim(2, 0)

    def _past(self, view: PromptView) -> Float[Tensor, "batch point point"]:
        """What every example hears of those up to itself, without the rate over n."""
        past = (view.prompt.xs @ view.prompt.xs.mT).tril()
        points = view.prompt.points
        return past * (points / torch.arange(1, points + 1, dtype=past.dtype))[:, None] if self.per_place else past

    @property
    def size(self) -> int:
        return 2 + self.per_place

    def _doubled(self, view: PromptView, pulls: Sequence[float], count: int) -> Many:
        """With M = I - pull tril(X X') the residuals add up to s(t) = y + M y + ... + M^(t-1) y.

        From s(a + b) = s(b) + M^b s(a) the sum comes by as many doublings as the count has binary digits.
        """
        p, pull = view.prompt, torch.tensor(pulls, dtype=torch.float64)[:, None, None, None]
        power = torch.eye(p.points, dtype=torch.float64) - pull * self._past(view)
        doubled, total = p.ys.expand(len(pulls), *p.ys.shape), torch.zeros_like(p.ys)
        while True:
            if count % 2:
                total = doubled + power @ total
            count //= 2
            if not count:
                return p.queries @ (pull * (p.xs.mT @ total))
            doubled = doubled + power @ doubled
            power = power @ power


@final
@dataclass(frozen=True)
class RecentMeanFamily(Family):
    """The mean label, the last examples counting for more."""

    special: bool = True
    whole: str = ""
    free: tuple[Free, ...] = (Free("forgetting", "none", 0.0, 0.99, 23, limits=(0.0, 1.0)),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return RecentMean(forgetting=numbers[0])

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        return self.learner(count, numbers).predict(view.prompt)


@final
@dataclass(frozen=True)
class ForgettingFamily(Family):
    """Recursive least squares that forgets."""

    special: bool = True
    whole: str = ""
    free: tuple[Free, ...] = (
        Free("forgetting", "none", 0.5, 0.98, 8, limits=(0.01, 1.0)),
        Free("penalty", "sum of squares", 1e-4, 30.0, 16),
    )

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return RecursiveLeastSquares(forgetting=numbers[0], penalty=numbers[1])

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        p = view.prompt
        found = in_parts(functools.partial(self._answers, view), places, p.batch * p.points * p.dim)
        yield from [found] * len(counts)

    def _answers(self, view: PromptView, places: Sequence[Numbers]) -> Many:
        p = view.prompt
        forgetting, penalties = torch.tensor(places, dtype=torch.float64)[:, :, None, None, None].unbind(1)
        age = torch.arange(p.points - 1, -1, -1, dtype=torch.float64)[:, None]
        kept = forgetting**age * p.xs
        unit = forgetting**p.points * penalties * torch.eye(p.dim, dtype=torch.float64)
        weights, failed = torch.linalg.solve_ex(kept.mT @ p.xs + unit, kept.mT @ p.ys)
        # A penalty so small that the matrix is singular is no learner.
        return p.queries @ torch.where((failed > 0)[..., None, None], torch.nan, weights)
