"""Families whose answers are gains over singular values: ridge, descent and what speeds it up, components."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from insitu.identification.family import Family, Free, Many, Numbers
from insitu.identification.spectra import PromptView
from insitu.learners import (
    GradientDescent,
    GradientDescentPlus,
    Learner,
    LeastSquares,
    Momentum,
    Nesterov,
    Newton,
    PrincipalComponents,
    Ridge,
)

__all__ = [
    "MOST_STEPS",
    "STEPS",
    "AcceleratedFamily",
    "ComponentsFamily",
    "DescentFamily",
    "LeastSquaresFamily",
    "NewtonFamily",
    "PlusFamily",
    "RidgeFamily",
]

# Whole numbers to try first; the neighbours of the best are tried afterwards.
STEPS = (*range(1, 17), 18, 20, 23, 26, 30, 36, 43, 52, 64, 80, 100, 128, 170, 230, 320, 500, 1000)
# The largest number of steps that is tried: what reaches it may be more.
MOST_STEPS = STEPS[-1]
# Steps of descent with a second number.
FEW_STEPS = (*range(2, 13), 15, 20, 27, 36, 50)


@final
@dataclass(frozen=True)
class LeastSquaresFamily(Family):
    """Least squares, with an intercept or without."""

    intercept: bool = False
    whole: str = ""
    free: tuple[Free, ...] = ()

    @property
    def special(self) -> bool:  # type: ignore[override]
        """Whether it has an intercept."""
        return self.intercept

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return LeastSquares(intercept=self.intercept)

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        seen = view.centred if self.intercept else view
        return seen.with_gains(1 / seen.spectrum[0])

    @property
    def size(self) -> int:
        return int(self.intercept)


@final
@dataclass(frozen=True)
class RidgeFamily(Family):
    """Ridge regression, with an intercept or without, its penalty on the sum of squares or on their mean."""

    intercept: bool = False
    per_example: bool = False
    whole: str = ""
    free: tuple[Free, ...] = (Free("penalty", "sum of squares", 1e-7, 1e4, 80),)

    @property
    def special(self) -> bool:  # type: ignore[override]
        """Whether it has an intercept, or another penalty for each number of examples."""
        return self.intercept or self.per_example

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return Ridge(penalty=numbers[0], intercept=self.intercept, per_example=self.per_example)

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        seen = view.centred if self.intercept else view
        sizes = seen.spectrum[0]
        penalties = torch.tensor(places, dtype=torch.float64)[:, :, None]
        penalties = penalties * (view.prompt.points if self.per_example else 1)
        yield from [seen.with_gains(1 / (sizes + penalties / sizes))] * len(counts)

    @property
    def size(self) -> int:
        return 1 + self.intercept + self.per_example


@final
@dataclass(frozen=True)
class DescentFamily(Family):
    """Gradient descent with one rate; with a single step where ``single``, with an intercept or without."""

    single: bool = False
    intercept: bool = False
    whole: str = "steps"
    free: tuple[Free, ...] = (Free("rate", "rate", 1e-4, 10.0, 150),)

    @property
    def special(self) -> bool:  # type: ignore[override]
        """Whether it has an intercept."""
        return self.intercept

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return GradientDescent(steps=count, rate=numbers[0], intercept=self.intercept)

    def counts(self, view: PromptView) -> Sequence[int]:
        return (1,) if self.single else STEPS[1:]

    def reach(self, view: PromptView) -> tuple[int, int]:
        return 1, MOST_STEPS

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        rates = torch.tensor([rate for (rate,) in places], dtype=torch.float64)[:, None, None]
        seen = view.extended if self.intercept else view
        sizes = seen.spectrum[0]
        part = sizes.square() * (rates / view.prompt.points)
        # Near zero by way of the logarithm, where one minus a power would lose its digits.
        near, logarithm, base = part < 0.5, torch.log1p(-part.clamp(max=0.5)), 1 - part
        power, done = torch.ones_like(base), 0
        for count in counts:
            power, done = power * base ** (count - done), count
            yield seen.with_gains(torch.where(near, -torch.expm1(count * logarithm), 1 - power) / sizes)

    def moved(self, numbers: Numbers, count: int, other: int, views: Sequence[PromptView]) -> Numbers:
        """The same where a prompt runs away: there the answers keep their size, :math:`(\\eta\\lambda - 1)^T`."""
        seen = [view.extended if self.intercept else view for view in views]
        largest = max((v.spectrum[0].max() ** 2 / v.prompt.points).item() for v in seen)
        growth = numbers[0] * largest - 1
        if growth <= 1:
            return super().moved(numbers, count, other, views)
        return ((1 + growth ** (count / other)) / largest,)

    @property
    def size(self) -> int:
        return 1 + (not self.single) + self.intercept


@final
@dataclass(frozen=True)
class NewtonFamily(Family):
    """Newton's iteration."""

    whole: str = "steps"
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return Newton(steps=count)

    def counts(self, view: PromptView) -> Sequence[int]:
        return range(31)

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        sizes, kept, _ = view.spectrum
        square = torch.where(kept, (sizes / sizes[:, :1]).square(), 0.0)
        share = square.square() / square.square().sum(1, keepdim=True)
        return view.with_gains(-torch.expm1(2.0**count * torch.log1p(-share.clamp(max=1.0))) / sizes)


@final
@dataclass(frozen=True)
class ComponentsFamily(Family):
    """Principal-component regression."""

    whole: str = "k"
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return PrincipalComponents(k=count)

    def counts(self, view: PromptView) -> Sequence[int]:
        return range(1, max(2, view.prompt.dim))

    def reach(self, view: PromptView) -> tuple[int, int]:
        # With as many directions as dimensions it is least squares, however many more are asked for.
        return 1, view.prompt.dim

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        sizes = view.spectrum[0]
        return view.with_gains((torch.arange(sizes.shape[1]) < count) / sizes)


@final
@dataclass(frozen=True)
class AcceleratedFamily(Family):
    """Descent with momentum, Polyak's or Nesterov's."""

    kind: type[Momentum] | type[Nesterov]
    special: bool = True
    whole: str = "steps"
    free: tuple[Free, ...] = (
        Free("rate", "rate", 1e-3, 3.0, 24),
        Free("momentum", "none", 0.1, 0.95, 6, limits=(0.0, math.inf)),
    )

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return self.kind(steps=count, rate=numbers[0], momentum=numbers[1])

    def counts(self, view: PromptView) -> Sequence[int]:
        return FEW_STEPS

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        rate, momentum = torch.tensor(places, dtype=torch.float64)[:, :, None, None].unbind(1)
        sizes = view.spectrum[0]
        part = rate * sizes.square() / view.prompt.points
        # The share u of every direction that is fitted, and the last move of it.
        fitted = last = torch.zeros_like(part)
        for count in range(1, counts[-1] + 1):
            ahead = torch.lerp(last, fitted, 1 + momentum)
            seen = ahead if self.kind is Nesterov else fitted
            fitted, last = torch.addcmul(ahead, part, 1 - seen), fitted
            if count in counts:
                yield view.with_gains(fitted / sizes)


@final
@dataclass(frozen=True)
class PlusFamily(Family):
    """GD++ with one rate and one curvature."""

    special: bool = True
    whole: str = "steps"
    free: tuple[Free, ...] = (Free("rate", "rate", 1e-3, 3.0, 24), Free("curvature", "rate", 1e-3, 1.0, 8))

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return GradientDescentPlus(steps=count, rate=numbers[0], curvature=numbers[1])

    def counts(self, view: PromptView) -> Sequence[int]:
        return range(2, 11)

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        rate, curvature = torch.tensor(places, dtype=torch.float64)[:, :, None, None].unbind(1)
        sizes = view.spectrum[0]
        eigenvalues = sizes.square() / view.prompt.points
        fitted, scale = torch.zeros_like(rate * sizes), torch.ones_like(rate * sizes)
        for count in range(1, counts[-1] + 1):
            seen = scale.square() * eigenvalues
            fitted, scale = fitted + rate * (1 - fitted) * seen, scale * (1 - curvature * seen)
            if count in counts:
                yield view.with_gains(fitted / sizes)
