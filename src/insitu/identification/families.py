"""Learners with free numbers: what each answers for given numbers, quickly, and where to look for them.

A family has at most one whole number (steps, passes, neighbours) and at most two others (rate, penalty, ...). Its
answers are those of the learner of the same name; only the way is quicker, since prompts are decomposed once and many
whole numbers come out of one recursion.
"""

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification.spectra import View
from insitu.learners import (
    CausalDescent,
    GradientDescent,
    Kaczmarz,
    KernelSmoother,
    Learner,
    LeastSquares,
    LogisticRegression,
    Mean,
    NearestNeighbours,
    Newton,
    OnlineDescent,
    Ridge,
    Zero,
)

__all__ = ["FAMILIES", "Family", "Free", "Numbers"]

Numbers = tuple[float, ...]
Many = Float[Tensor, "place batch query out"]
Unit = Literal["rate", "sum of squares", "length", "none"]

# Whole numbers to try first; the neighbours of the best are tried afterwards.
STEPS = (*range(1, 17), 18, 20, 23, 26, 30, 36, 43, 52, 64, 80, 100, 128, 170, 230, 320, 500, 1000)
LAYERS = (*range(2, 17), 20, 25, 32, 42, 56, 75, 100)
PASSES = (2, 3, 4, 5, 6, 8, 10, 13, 16, 20)
# The largest numbers of steps and of passes that are tried: what reaches them may be more.
MOST_STEPS, MOST_PASSES = STEPS[-1], PASSES[-1]
# Passes beyond which their affine map is taken to a power.
REPEATED = 4


@final
@dataclass(frozen=True)
class Free:
    """A number to be fitted.

    Args:
        name: As the learner calls it.
        unit: What it is measured in, so that the search starts at the size of the inputs.
        low: Where the search begins, in that unit.
        high: Where it ends.
        count: How many values are tried before the best are refined.
        logarithmic: Whether they are spaced by factors; such a number stays positive.
    """

    name: str
    unit: Unit
    low: float
    high: float
    count: int
    logarithmic: bool = True

    def grid(self, view: View) -> list[float]:
        """The values to try."""
        if not self.logarithmic:
            return torch.linspace(self.low, self.high, self.count, dtype=torch.float64).tolist()
        points, dim = view.prompt.points, view.prompt.dim
        units = {"rate": 1 / view.size, "sum of squares": view.size * points, "length": (view.size * dim) ** 0.5}
        ends = torch.tensor([self.low, self.high], dtype=torch.float64).log10()
        values = torch.logspace(ends[0].item(), ends[1].item(), self.count, dtype=torch.float64)
        return (values * units.get(self.unit, 1.0)).tolist()


class Family(abc.ABC):
    """A learner whose numbers are to be found."""

    whole: str
    """The name of the whole number; empty where there is none."""
    free: tuple[Free, ...]
    """The other numbers."""

    @abc.abstractmethod
    def learner(self, count: int, numbers: Numbers) -> Learner:
        """The learner with these numbers."""

    @abc.abstractmethod
    def answers(self, view: View, count: int, numbers: Numbers) -> Float[Tensor, "batch query out"]:
        """What it answers."""

    def counts(self, view: View) -> Sequence[int]:
        """The whole numbers to try first; a single 0 where there is none."""
        return (0,)

    def reach(self, view: View) -> tuple[int, int]:
        """The least and the largest whole number that can be refuted, in the search for an interval."""
        counts = self.counts(view)
        return min(counts), max(counts)

    def sweep(self, view: View, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        """The answers at many places for ascending whole numbers, by one recursion where the learner has one."""
        for count in counts:
            yield torch.stack([self.answers(view, count, numbers) for numbers in places])

    @property
    def size(self) -> int:
        """How many numbers are free: the measure of parsimony."""
        return len(self.free) + bool(self.whole)


@final
@dataclass(frozen=True)
class Fixed(Family):
    """A learner without free numbers."""

    given: Learner
    whole: str = ""
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return self.given

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        if isinstance(self.given, LeastSquares):
            return view.with_gains(1 / view.spectrum[0])
        return self.given.predict(view.prompt)


@final
@dataclass(frozen=True)
class RidgeFamily(Family):
    """Ridge regression."""

    whole: str = ""
    free: tuple[Free, ...] = (Free("penalty", "sum of squares", 1e-7, 1e4, 80),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return Ridge(penalty=numbers[0])

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        sizes = view.spectrum[0]
        return view.with_gains(1 / (sizes + numbers[0] / sizes))


@final
@dataclass(frozen=True)
class DescentFamily(Family):
    """Gradient descent with one rate; with a single step where ``single``."""

    single: bool = False
    whole: str = "steps"
    free: tuple[Free, ...] = (Free("rate", "rate", 1e-4, 10.0, 150),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return GradientDescent(steps=count, rate=numbers[0])

    def counts(self, view: View) -> Sequence[int]:
        return (1,) if self.single else STEPS[1:]

    def reach(self, view: View) -> tuple[int, int]:
        return 1, MOST_STEPS

    def sweep(self, view: View, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        rates = torch.tensor([rate for (rate,) in places], dtype=torch.float64)[:, None, None]
        for count in counts:
            yield view.with_gains(self._gains(view, count, rates))

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        return view.with_gains(self._gains(view, count, numbers[0]))

    def _gains(self, view: View, count: int, rate: Tensor | float) -> Tensor:
        sizes = view.spectrum[0]
        part = sizes.square() * (rate / view.prompt.points)
        # Near zero by way of the logarithm, where one minus a power would lose its digits.
        small = -torch.expm1(count * torch.log1p(-part.clamp(max=0.5)))
        return torch.where(part < 0.5, small, 1 - (1 - part) ** count) / sizes

    @property
    def size(self) -> int:
        return 1 if self.single else 2


@final
@dataclass(frozen=True)
class NewtonFamily(Family):
    """Newton's iteration."""

    whole: str = "steps"
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return Newton(steps=count)

    def counts(self, view: View) -> Sequence[int]:
        return range(31)

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        sizes, kept, _ = view.spectrum
        square = torch.where(kept, (sizes / sizes[:, :1]).square(), 0.0)
        share = square.square() / square.square().sum(1, keepdim=True)
        return view.with_gains(-torch.expm1(2.0**count * torch.log1p(-share.clamp(max=1.0))) / sizes)


def passes(view: View, rates: Float[Tensor, "place #batch point"], counts: Sequence[int]) -> Iterator[Many]:
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
    view: View,
    rates: Float[Tensor, "place #batch point"],
    weights: Float[Tensor, "place batch row dim"],
    ys: Float[Tensor, "batch point row"],
) -> Float[Tensor, "place batch row dim"]:
    """The weights after one pass."""
    for x, y, rate in zip(view.prompt.xs.unbind(1), ys.unbind(1), rates.unbind(2), strict=True):
        missed = y - (weights @ x[:, :, None])[..., 0]
        weights = torch.addcmul(weights, (rate[..., None] * missed)[..., None], x[:, None])
    return weights


def repeated(
    view: View, rates: Float[Tensor, "place #batch point"], count: int
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

    def counts(self, view: View) -> Sequence[int]:
        return (1,) if self.single else PASSES

    def reach(self, view: View) -> tuple[int, int]:
        return 1, MOST_PASSES

    def sweep(self, view: View, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        return passes(view, Kaczmarz().rates(view.prompt.xs)[None, :, :, 0], counts)

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        return next(self.sweep(view, [numbers], (count,)))[0]

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
        return (rate, Free("decay", "none", 0.1, 1.5, 8, logarithmic=False)) if self.decays else (rate,)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        rate, decay = (*numbers, 0.0)[:2]
        return OnlineDescent(rate=rate, decay=max(decay, 0.0), passes=count)

    def counts(self, view: View) -> Sequence[int]:
        return (1,) if self.single else PASSES

    def reach(self, view: View) -> tuple[int, int]:
        return 1, MOST_PASSES

    def sweep(self, view: View, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        both = torch.tensor([(*numbers, 0.0)[:2] for numbers in places], dtype=torch.float64)
        place = torch.arange(1, view.prompt.points + 1, dtype=torch.float64)
        return passes(view, both[:, :1, None] * place ** -both[:, 1:, None], counts)

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        return next(self.sweep(view, [numbers], (count,)))[0]

    @property
    def size(self) -> int:
        return len(self.free) + (not self.single)


@final
@dataclass(frozen=True)
class CausalFamily(Family):
    """Causal descent: what causal linear attention runs."""

    whole: str = "steps"
    free: tuple[Free, ...] = (Free("rate", "rate", 1e-3, 30.0, 80),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return CausalDescent(steps=count, rate=numbers[0])

    def counts(self, view: View) -> Sequence[int]:
        return LAYERS

    def sweep(self, view: View, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        if len(counts) == 1:
            yield self._doubled(view, [rate / view.prompt.points for (rate,) in places], counts[0])
            return
        # The rates are columns beside one another, so that the triangle is read once for all of them.
        p = view.prompt
        pull = torch.tensor([rate for (rate,) in places], dtype=torch.float64).repeat_interleave(p.out) / p.points
        past = (p.xs @ p.xs.mT).tril()
        residual = p.ys.repeat(1, 1, len(places))
        total = torch.zeros_like(residual)
        for count in range(1, counts[-1] + 1):
            total = total + residual
            residual = residual - pull * (past @ residual)
            if count in counts:
                weights = pull * (p.xs.mT @ total)
                yield (p.queries @ weights).unflatten(-1, (len(places), p.out)).movedim(2, 0)

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        return next(self.sweep(view, [numbers], (count,)))[0]

    def _doubled(self, view: View, pulls: Sequence[float], count: int) -> Many:
        """With M = I - pull tril(X X') the residuals add up to s(t) = y + M y + ... + M^(t-1) y.

        From s(a + b) = s(b) + M^b s(a) the sum comes by as many doublings as the count has binary digits.
        """
        p, pull = view.prompt, torch.tensor(pulls, dtype=torch.float64)[:, None, None, None]
        power = torch.eye(p.points, dtype=torch.float64) - pull * (p.xs @ p.xs.mT).tril()
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
class NeighbourFamily(Family):
    """Nearest neighbours."""

    whole: str = "k"
    free: tuple[Free, ...] = ()

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return NearestNeighbours(k=count)

    def counts(self, view: View) -> Sequence[int]:
        return range(1, max(2, view.prompt.points))

    def reach(self, view: View) -> tuple[int, int]:
        # With all examples as neighbours the answer is their mean, however many more are asked for.
        return 1, view.prompt.points

    def sweep(self, view: View, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        ranked = view.distances.argsort(dim=-1, stable=True)[..., : counts[-1]]
        labels = view.prompt.ys[:, None].expand(-1, ranked.shape[1], -1, -1).take_along_dim(ranked[..., None], dim=2)
        summed = labels.cumsum(2)
        for count in counts:
            near = min(count, summed.shape[2])
            yield summed[None, :, :, near - 1] / near

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        return next(self.sweep(view, [numbers], (count,)))[0]


@final
@dataclass(frozen=True)
class KernelFamily(Family):
    """The Gaussian-kernel average."""

    whole: str = ""
    free: tuple[Free, ...] = (Free("bandwidth", "length", 1e-2, 30.0, 60),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return KernelSmoother(bandwidth=numbers[0])

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        return (-view.distances / (2 * numbers[0] ** 2)).softmax(-1) @ view.prompt.ys


@final
@dataclass(frozen=True)
class LogisticFamily(Family):
    """Logistic regression, for classes."""

    whole: str = ""
    free: tuple[Free, ...] = (Free("penalty", "sum of squares", 1e-4, 30.0, 12),)

    def learner(self, count: int, numbers: Numbers) -> Learner:
        return LogisticRegression(penalty=numbers[0])

    def answers(self, view: View, count: int, numbers: Numbers) -> Tensor:
        return LogisticRegression(penalty=numbers[0]).predict(view.prompt)


FAMILIES: tuple[Family, ...] = (
    # In the order of preference where two agree with the answers and have equally many free numbers.
    Fixed(Zero()),
    Fixed(Mean()),
    Fixed(LeastSquares()),
    KaczmarzFamily(single=True),
    DescentFamily(single=True),
    RidgeFamily(),
    OnlineFamily(single=True),
    NeighbourFamily(),
    KernelFamily(),
    NewtonFamily(),
    KaczmarzFamily(),
    LogisticFamily(),
    DescentFamily(),
    CausalFamily(),
    OnlineFamily(),
    OnlineFamily(decays=True, single=True),
    OnlineFamily(decays=True),
)
