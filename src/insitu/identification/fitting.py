r"""Finds the numbers of a family that bring its answers nearest to the given ones, and how well they are determined.

First a grid, on a thinned set of prompts; then Gauss and Newton's iteration from the best places, on logarithms of
positive numbers; then the neighbours of the best whole number. The interval of a number has two parts: the sampling
error, from the sandwich formula with one score per prompt (copies count once), and what rounding of the answers alone
could move.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from insitu.identification.evidence import Study
from insitu.identification.families import Family, Numbers
from insitu.metrics.estimate import CONFIDENCE
from insitu.predictor import Predictor

__all__ = ["Fit", "Interval", "Objective", "find", "gauss_newton", "rounded", "shortest", "tidied"]

# How many places are then refined a little, and how many of those fully.
PLACES, BETTER = 12, 3
STEP, BEND, ROUNDS, HALVINGS = 1e-5, 1e-3, 40, 8
# A round, or another whole number, that lowers the loss by a smaller share ends the search.
ENOUGH, WORTH = 1e-6, 1e-4
CLIMBS = 10
# The largest logarithm of a number that is tried.
LARGEST = 150.0

Residual = Float[Tensor, "*place entry"]


@final
@dataclass(frozen=True)
class Interval:
    """A fitted number and the values that the answers do not refute, at 99 %."""

    name: str
    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, eq=False)
class Fit:
    """A learner with fitted numbers.

    Args:
        learner: The learner.
        size: How many of its numbers were free.
        loss: The weighted squared error on the prompts for fitting.
        intervals: Finds the intervals of its free numbers.
        slopes: The derivatives of its weighted answers with respect to its numbers, on the prompts of an objective.
        named: The learner with other values for the numbers that have intervals, in the order of these.
    """

    learner: Predictor
    size: int
    loss: float
    intervals: Callable[[], list[Interval]] = list
    slopes: Callable[["Objective"], Float[Tensor, "entry number"]] | None = None
    named: Callable[[Sequence[float]], Predictor] | None = None


class Objective:
    """The weighted squared error of answers on the prompts of a study."""

    def __init__(self, given: Study) -> None:
        self.study = given
        shape = given.blocks[0].answers.shape[1:]
        self.weights, self.shares = given.weights()
        self.roots = [(w / shape.numel()).sqrt()[:, None, None] for w in self.weights]
        # Prompts whose copies are one cluster, numbered through all blocks.
        starts = itertools.accumulate((int(b.copies.max()) + 1 for b in given.blocks), initial=0)
        self.clusters = torch.cat([b.copies + s for b, s in zip(given.blocks, starts, strict=False)])
        self.entries = shape.numel()

    def residual(self, answers: Sequence[Tensor]) -> Residual:
        """The weighted differences, all prompts in one vector; for many sets of answers, a vector for each."""
        pairs = zip(self.roots, answers, self.study.blocks, strict=True)
        return torch.cat([(root * (g - block.answers)).flatten(-3) for root, g, block in pairs], dim=-1)

    def bounded(self, answers: Sequence[Tensor]) -> Residual:
        r"""The weighted differences, no prompt counting for more than its weight.

        The squared relative error x of a prompt counts as x / (1 + x), so that a few prompts on which an iteration
        runs away do not hide how good it is on the others.
        """
        each = self.residual(answers).unflatten(-1, (-1, self.entries))
        shares = torch.cat(self.shares)[:, None]
        error = each.square().sum(-1, keepdim=True) / shares
        lost = (shares / self.entries).sqrt()
        found = torch.where(error.isfinite(), each / (1 + error).sqrt(), lost)
        return found.flatten(-2)

    def rounding(self) -> float:
        """What rounding of the answers alone may leave."""
        pairs = zip(self.weights, self.study.blocks, strict=True)
        return sum((w * block.rounding).sum().item() for w, block in pairs)

    def per_prompt(self, residual: Residual) -> Float[Tensor, " cluster"]:
        """The squared error by prompt, copies together."""
        each = residual.view(-1, self.entries).square().sum(1)
        return each.new_zeros(int(self.clusters.max()) + 1).index_add_(0, self.clusters, each)

    def half_widths(
        self,
        residual: Residual,
        slopes: Float[Tensor, "entry number"],
        curvature: Float[Tensor, "number number"] | None = None,
    ) -> Float[Tensor, " number"]:
        """Half the width of the interval of every number, sampling error and rounding together.

        ``curvature`` is half the second derivative of the loss, where the residual is not nearly linear.
        """
        count = slopes.shape[1]
        bread = slopes.mT @ slopes if curvature is None else curvature
        information = torch.linalg.pinv(bread, hermitian=True)
        scores = (slopes * residual[:, None]).view(-1, self.entries, count).sum(1)
        summed = scores.new_zeros(int(self.clusters.max()) + 1, count).index_add_(0, self.clusters, scores)
        samples = len(self.clusters.unique())
        freedom = max(samples - count, 1)
        spread = information @ (summed.mT @ summed) @ information * (samples / freedom)
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
        moved = (self.rounding() * information.diagonal().clamp(min=0)).sqrt()
        half = quantile * spread.diagonal().clamp(min=0).sqrt() + moved
        # A number that moves nothing is not determined at all.
        return torch.where(information.diagonal() > 0, half, torch.inf)


def gauss_newton(
    residual: Callable[[Tensor], Residual],
    slopes: Callable[[Tensor], Float[Tensor, "entry number"]],
    start: Float[Tensor, " number"],
    rounds: int = ROUNDS,
) -> tuple[Float[Tensor, " number"], float]:
    """Minimise a sum of squares from a start; the loss never rises."""
    place, now = start, residual(start)
    loss = finite(now)
    if not len(start):
        return place, loss
    for _ in range(rounds):
        slope = slopes(place)
        if not math.isfinite(loss) or not slope.isfinite().all():
            break
        # Columns scaled to one, so that numbers of any size are found alike.
        size = slope.norm(dim=0).clamp(min=1e-300)
        step = -torch.linalg.lstsq(slope / size, now[:, None], driver="gelsd").solution[:, 0] / size
        moved = descend(residual, place, step, loss)
        if moved is None:
            break
        gained = (loss - moved[2]) / loss
        place, now, loss = moved
        if gained < ENOUGH:
            break
    return place, loss


def descend(
    residual: Callable[[Tensor], Residual], place: Tensor, step: Tensor, loss: float
) -> tuple[Tensor, Tensor, float] | None:
    """The longest of the halved steps that lowers the loss; none where no step does."""
    for halving in range(HALVINGS):
        tried = place + step * 0.5**halving
        found = residual(tried)
        value = finite(found)
        if value < loss:
            return tried, found, value
    return None


def finite(residual: Residual) -> float:
    value = residual.square().sum().item()
    return value if math.isfinite(value) else math.inf


class Problem:
    """A family on the prompts of a study: the loss at whole and other numbers."""

    def __init__(self, family: Family, objective: Objective) -> None:
        self.family, self.objective = family, objective
        self.views = [block.view for block in objective.study.blocks]

    def numbers(self, place: Tensor) -> Numbers:
        """Numbers from their logarithms (those that must be positive)."""
        pairs = zip(self.family.free, place.tolist(), strict=True)
        return tuple(math.exp(min(max(v, -LARGEST), LARGEST)) if f.logarithmic else v for f, v in pairs)

    def place(self, numbers: Numbers) -> Tensor:
        """The way back."""
        pairs = zip(self.family.free, numbers, strict=True)
        return torch.tensor([math.log(v) if f.logarithmic else v for f, v in pairs], dtype=torch.float64)

    def residual(self, count: int, place: Tensor) -> Residual:
        """The weighted differences at these numbers."""
        return self.objective.bounded([self.family.answers(v, count, self.numbers(place)) for v in self.views])

    def slopes(self, count: int, place: Tensor) -> Float[Tensor, "entry number"]:
        """Their derivatives, by central differences: Gauss and Newton's fixed point does not depend on them."""
        if not len(place):
            return self.objective.roots[0].new_zeros(len(self.objective.clusters) * self.objective.entries, 0)
        steps = STEP * torch.eye(len(place), dtype=place.dtype)
        ahead, behind = self.residuals(count, torch.cat([place + steps, place - steps])).chunk(2)
        return ((ahead - behind) / (2 * STEP)).mT

    def residuals(self, count: int, places: Float[Tensor, "place number"]) -> Residual:
        """The weighted differences at many places at once."""
        numbers = [self.numbers(place) for place in places]
        return self.objective.bounded([next(self.family.sweep(v, numbers, (count,))) for v in self.views])

    def curvature(
        self, count: int, place: Tensor, slopes: Float[Tensor, "entry number"]
    ) -> Float[Tensor, "number number"]:
        """Half the second derivative of the loss.

        With noisy answers a bounded residual is far from linear, and the product of slopes would make every interval
        too short. Where the second derivative is not positive, as beside a kink, the product it is.
        """

        def gradient(at: Tensor) -> Tensor:
            return self.slopes(count, at).mT @ self.residual(count, at)

        steps = BEND * torch.eye(len(place), dtype=place.dtype)
        rows = torch.stack([(gradient(place + s) - gradient(place - s)) / (2 * BEND) for s in steps])
        found = (rows + rows.mT) / 2
        positive = bool(found.isfinite().all()) and bool((torch.linalg.eigvalsh(found) > 0).all())
        return found if positive else slopes.mT @ slopes

    def refined(self, count: int, numbers: Numbers, rounds: int = ROUNDS) -> tuple[Numbers, float]:
        """The best numbers near these ones for a whole number."""
        place, loss = gauss_newton(
            lambda at: self.residual(count, at), lambda at: self.slopes(count, at), self.place(numbers), rounds
        )
        return self.numbers(place), loss

    def range(self) -> tuple[int, int]:
        """The least and the largest whole number that is searched."""
        counts = [n for view in self.views for n in self.family.counts(view)]
        return min(counts), max(counts)

    def scan(self) -> list[tuple[float, int, Numbers]]:
        """The loss at every whole number and every place of the grid, the best first, one for each whole number."""
        widest = max(self.views, key=lambda v: v.prompt.points)
        counts = list(self.family.counts(widest))
        places = list(itertools.product(*(f.grid(widest) for f in self.family.free)))
        found = []
        sweeps = zip(*(self.family.sweep(v, places, counts) for v in self.views), strict=True)
        for count, answers in zip(counts, sweeps, strict=True):
            losses = self.objective.bounded(answers).square().sum(-1).tolist()
            found += [(loss, count, numbers) for loss, numbers in zip(losses, places, strict=True)]
        found.sort(key=lambda entry: (entry[0], entry[1]))
        first: dict[int, tuple[float, int, Numbers]] = {}
        for entry in found:
            first.setdefault(entry[1], entry)
        best = found[0][1]
        # The best whole number keeps a second place: the loss can have several valleys.
        rivals = [entry for entry in found[1:] if entry[1] == best][:2]
        return sorted([*first.values(), *rivals], key=lambda entry: entry[0])

    def climbed(self, count: int, numbers: Numbers, loss: float) -> tuple[int, Numbers, float]:
        """From a whole number to better ones near it, as long as there are any."""
        tried = {count}
        first, last = self.range()
        for _ in range(CLIMBS):
            better = None
            for other in neighbours(count):
                if other in tried or not first <= other <= last:
                    continue
                tried.add(other)
                near, value = self.refined(other, self.moved(numbers, count, other), rounds=6)
                if value < loss * (1 - WORTH) and (better is None or value < better[2]):
                    better = (other, near, value)
            if better is None:
                break
            count, numbers, loss = better
        return count, numbers, loss

    def moved(self, numbers: Numbers, count: int, other: int) -> Numbers:
        """Where to start at another whole number: steps times rate hardly changes."""
        steps = self.family.whole == "steps" and len(numbers) == 1
        return (numbers[0] * count / other,) if steps and other else numbers


def neighbours(count: int) -> list[int]:
    """Whole numbers on both sides, farther ones for a large number."""
    reach = [1]
    while reach[-1] * 2 <= count // 6:
        reach.append(reach[-1] * 2)
    return [n for step in reach for n in (count - step, count + step)]


def find(family: Family, fitting: Study, few: Study) -> Fit:
    """The learner of a family that is nearest to the answers.

    Args:
        family: The family.
        fitting: The prompts for fitting.
        few: Some of them, on which the search begins.
    """
    if not family.whole and not family.free:
        objective = Objective(fitting)
        answers = [family.answers(block.view, 0, ()) for block in fitting.blocks]
        return Fit(family.learner(0, ()), family.size, finite(objective.bounded(answers)))
    rough = Problem(family, Objective(few))
    first = [(count, *rough.refined(count, numbers, rounds=4)) for _, count, numbers in rough.scan()[:PLACES]]
    first.sort(key=lambda entry: entry[2])
    candidates = [(count, *rough.refined(count, numbers, rounds=15)) for count, numbers, _ in first[:BETTER]]
    count, numbers, _ = rough.climbed(*min(candidates, key=lambda entry: entry[2]))
    exact = Problem(family, Objective(fitting))
    numbers, loss = exact.refined(count, numbers)
    found = Found(exact, count, numbers)
    return Fit(
        family.learner(count, numbers),
        family.size,
        loss,
        intervals=found.intervals,
        slopes=lambda objective: Problem(family, objective).slopes(count, exact.place(numbers)),
        named=lambda values: (
            family.learner(int(values[0]), tuple(values[1:])) if family.whole else family.learner(0, tuple(values))
        ),
    )


@final
@dataclass(frozen=True, eq=False)
class Found:
    """The best numbers of a family, to be given intervals."""

    problem: Problem
    count: int
    numbers: Numbers

    def intervals(self) -> list[Interval]:
        """The interval of every number, over all whole numbers that are not refuted."""
        counts = self.counts()
        ends = [self.ends(count, numbers) for count, numbers in counts.items()]
        family, named = self.problem.family, []
        if family.whole:
            named.append(Interval(family.whole, self.count, min(counts), max(counts)))
        for i, (free, value) in enumerate(zip(family.free, self.numbers, strict=True)):
            low, high = min(e[i][0] for e in ends), max(e[i][1] for e in ends)
            named.append(Interval(free.name, value, low, high))
        return named

    def ends(self, count: int, numbers: Numbers) -> list[tuple[float, float]]:
        if not numbers:
            return []
        problem = self.problem
        place = problem.place(numbers)
        slopes = problem.slopes(count, place)
        if not slopes.isfinite().all():
            return [(0.0, math.inf)] * len(numbers)
        half = problem.objective.half_widths(
            problem.residual(count, place), slopes, problem.curvature(count, place, slopes)
        )
        low, high = problem.numbers(place - half), problem.numbers(place + half)
        return list(zip(low, high, strict=True))

    def counts(self) -> dict[int, Numbers]:
        """The whole numbers that the answers do not refute, each with the other numbers that suit it best.

        On both sides of the best one the distance is doubled until a number is refuted, then halved towards the
        farthest that is not.
        """
        kept = {self.count: self.numbers}
        first, last = self.problem.range()
        for side, end in ((-1, first), (1, last)):
            near, far, reach = self.count, end + side, 1
            while near != end and abs(far - near) > 1:
                other = near + side * min(reach, abs(far - near) - 1)
                numbers, refuted = self.refuted(other, self.problem.moved(kept[near], near, other))
                if refuted:
                    far, reach = other, max(1, abs(other - near) // 2)
                else:
                    kept[other] = numbers
                    near, reach = other, 2 * reach if far == end + side else max(1, abs(far - other) // 2)
        return kept

    def refuted(self, other: int, start: Numbers) -> tuple[Numbers, bool]:
        """Whether another whole number is worse, beyond chance and beyond rounding."""
        problem = self.problem
        numbers, loss = problem.refined(other, start, rounds=12)
        if not math.isfinite(loss):
            return numbers, True
        floor = problem.objective.rounding()
        if loss <= floor:
            return numbers, False
        if finite(problem.residual(self.count, problem.place(self.numbers))) <= floor:
            return numbers, True
        a, b = (
            problem.objective.per_prompt(problem.residual(c, problem.place(n)))
            for c, n in ((other, numbers), (self.count, self.numbers))
        )
        used = problem.objective.clusters.unique()
        gap = (a - b)[used]
        error = gap.std().item() / math.sqrt(len(gap))
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(gap) - 1))
        return numbers, gap.mean().item() > quantile * error


def shortest(value: float, low: float, high: float) -> float:
    """The shortest decimal within a tenth of the interval's half-width of a value.

    Example:
        >>> shortest(0.2500000000003, 0.24999999999, 0.25000000001), shortest(0.26137, 0.25, 0.27)
        (0.25, 0.261)
    """
    room = min(high - value, value - low) / 10
    if abs(value) <= room:
        return 0.0
    for digits in range(1, 17):
        rounded = float(f"{value:.{digits}g}")
        if abs(rounded - value) <= room:
            return rounded
    return value


def tidied(fit: Fit, intervals: Sequence[Interval]) -> Fit:
    """The learner with no more digits than its intervals bear."""
    if fit.named is None or not intervals:
        return fit
    return replace(fit, learner=fit.named([shortest(i.value, i.low, i.high) for i in intervals]))


def rounded(fit: Fit) -> Fit:
    """The learner with six digits, for one that is far from the answers."""
    if fit.named is None:
        return fit
    fields = dataclasses.fields(fit.learner)  # type: ignore[arg-type]
    return replace(fit, learner=replace(fit.learner, **{f.name: cut(getattr(fit.learner, f.name)) for f in fields}))  # type: ignore[type-var]


def cut(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(cut, value))
    return float(f"{value:.6g}") if isinstance(value, float) else value
