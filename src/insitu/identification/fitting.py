r"""Finds the numbers of a family that bring its answers nearest to the given ones, and how well they are determined.

First a grid, on a thinned set of prompts; then Gauss and Newton's iteration from the best places, on logarithms of
positive numbers; then the neighbours of the best whole number. The interval of a number has two parts: the sampling
error, from the sandwich formula with one score per prompt (copies count once), and what rounding of the answers alone
could move.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from insitu.identification.directions import towards
from insitu.identification.family import LARGEST, Family, Numbers
from insitu.identification.interval import Interval, shortest
from insitu.identification.objective import Objective, Residual, finite
from insitu.identification.spectra import PromptView
from insitu.metrics.estimate import CONFIDENCE
from insitu.predictor import Predictor

__all__ = [
    "FamilyProblem",
    "Fit",
    "find",
    "gauss_newton",
    "not_refuted",
    "one_by_one",
    "refutes",
    "rounded",
    "tidied",
]

# How many places are then refined a little, and how many of those fully.
PLACES, BETTER = 12, 3
STEP, BEND, ROUNDS, HALVINGS = 1e-5, 1e-3, 40, 8
# A round, or another whole number, that lowers the loss by a smaller share ends the search.
ENOUGH, WORTH = 1e-6, 1e-4
# How many rounds may lie ahead, and how much more than the last one each of them may gain.
AHEAD, HOPE = 12, 2.0
CLIMBS = 10
# A family whose grid leaves so many times what another one leaves is not searched further; and what a grid may leave of
# the answers of a learner between its places.
HOPELESS, COARSE = 4.0, 0.02
# How far beyond its grid a number may go, as a factor.
BEYOND = 100.0


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
    limits: tuple[str, ...] = ()
    """Which of its numbers ended at a limit of the search, in words."""


Slopes = Float[Tensor, "entry number"]
Look = Callable[[Tensor], tuple[Residual, Callable[[], Slopes]]]
Losses = Callable[[Float[Tensor, "place number"]], Iterable[float]]


def gauss_newton(
    look: Look, losses: Losses, start: Float[Tensor, " number"], rounds: int = ROUNDS, goal: float = math.inf
) -> tuple[Float[Tensor, " number"], float]:
    """Minimise a sum of squares from a start; the loss never rises.

    A search that would end above the goal even if many rounds gained twice as much as the last one is given up.

    Args:
        look: The residual at a place, and what finds its slopes there.
        losses: The sums of squares at many places, of which only the first may be asked for.
        start: Where it begins.
        rounds: How many steps it makes at most.
        goal: The sum of squares that is wanted.
    """
    now, slopes = look(start)
    place, loss = start, finite(now)
    if not len(start):
        return place, loss
    for _ in range(rounds):
        slope = slopes()
        if not math.isfinite(loss) or not slope.isfinite().all():
            break
        # Columns scaled to one, so that numbers of any size are found alike.
        size = slope.norm(dim=0).clamp(min=1e-300)
        step = -torch.linalg.lstsq(slope / size, now[:, None], driver="gelsd").solution[:, 0] / size
        before = loss
        tried = place + step
        now, slopes = look(tried)
        loss = finite(now)
        if not loss < before:
            # The longest of the halved steps that lowers the loss.
            halved = place + step * 0.5 ** torch.arange(1, HALVINGS, dtype=step.dtype)[:, None]
            lower = (at for at, left in zip(halved, losses(halved), strict=False) if left < before)
            if (tried := next(lower, None)) is None:
                return place, before
            now, slopes = look(tried)
            loss = finite(now)
        place, gained = tried, (before - loss) / before
        if gained < ENOUGH or loss * max(1 - HOPE * gained, 0.0) ** AHEAD > goal:
            break
    return place, loss


def one_by_one(residual: Callable[[Tensor], Residual], slopes: Callable[[Tensor], Slopes]) -> tuple[Look, Losses]:
    """What :func:`gauss_newton` asks, of a residual that is found at one place at a time."""
    return lambda at: (residual(at), lambda: slopes(at)), lambda places: (finite(residual(at)) for at in places)


class FamilyProblem:
    """A family on the prompts of the evidence: the loss at whole and other numbers."""

    def __init__(self, family: Family, objective: Objective) -> None:
        self.family, self.objective = family, objective
        self.views = [block.view for block in objective.evidence.blocks]

    def numbers(self, place: Tensor) -> Numbers:
        """Numbers from their logarithms (those that must be positive), within the limits of the search."""
        triples = zip(self.family.free, place.tolist(), self.bounds, strict=True)
        return tuple(
            min(max(math.exp(min(v, LARGEST)) if f.logarithmic else v, low), high) for f, v, (low, high) in triples
        )

    @cached_property
    def bounds(self) -> list[tuple[float, float]]:
        """The limits of the search, of every number."""
        grids = [(free.limits, free.grid(self.widest)) for free in self.family.free]
        return [limits or (grid[0] / BEYOND, grid[-1] * BEYOND) for limits, grid in grids]

    @cached_property
    def widest(self) -> PromptView:
        """The prompts with the longest contexts."""
        return max(self.views, key=lambda view: view.prompt.points)

    def place(self, numbers: Numbers) -> Tensor:
        """The way back."""
        pairs = zip(self.family.free, numbers, strict=True)
        return torch.tensor([math.log(v) if f.logarithmic else v for f, v in pairs], dtype=torch.float64)

    def residual(self, count: int, place: Tensor) -> Residual:
        """The weighted differences at these numbers."""
        return self.objective.bounded([self.family.answers(v, count, self.numbers(place)) for v in self.views])

    def look(self, count: int, place: Tensor) -> tuple[Residual, Slopes]:
        """The weighted differences and their derivatives.

        These are central differences: Gauss and Newton's fixed point does not depend on them.
        """
        steps = STEP * torch.eye(len(place), dtype=place.dtype)
        found = self.residuals(count, torch.cat([place[None], place + steps, place - steps]))
        ahead, behind = found[1:].chunk(2) if len(place) else (found[1:], found[1:])
        return found[0], ((ahead - behind) / (2 * STEP)).mT

    def slopes(self, count: int, place: Tensor) -> Slopes:
        """The derivatives alone."""
        return self.look(count, place)[1]

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
            residual, slopes = self.look(count, at)
            return slopes.mT @ residual

        steps = BEND * torch.eye(len(place), dtype=place.dtype)
        rows = torch.stack([(gradient(place + s) - gradient(place - s)) / (2 * BEND) for s in steps])
        found = (rows + rows.mT) / 2
        positive = bool(found.isfinite().all()) and bool((torch.linalg.eigvalsh(found) > 0).all())
        return found if positive else slopes.mT @ slopes

    def refined(
        self, count: int, numbers: Numbers, rounds: int = ROUNDS, goal: float = math.inf
    ) -> tuple[Numbers, float]:
        """The best numbers near these ones for a whole number; given up where the goal is out of reach."""

        def look(at: Tensor) -> tuple[Residual, Callable[[], Slopes]]:
            residual, slopes = self.look(count, at)
            return residual, lambda: slopes

        def losses(at: Tensor) -> list[float]:
            found: list[float] = self.residuals(count, at).square().sum(-1).tolist()
            return found

        place, loss = gauss_newton(look, losses, self.place(numbers), rounds, goal)
        return self.numbers(place), loss

    def range(self) -> tuple[int, int]:
        """The least and the largest whole number that is searched."""
        counts = [n for view in self.views for n in self.family.counts(view)]
        return min(counts), max(counts)

    def reach(self) -> tuple[int, int]:
        """The least and the largest whole number of which it is asked whether the answers refute it."""
        reaches = [self.family.reach(view) for view in self.views]
        return min(least for least, _ in reaches), max(most for _, most in reaches)

    def starts(self, count: int, near: Numbers) -> list[Numbers]:
        """Where to begin at a whole number: near what another one came to, and at the best place of a coarse grid.

        With two numbers or more beside it the loss has several valleys; with one, the first lies in the right one.
        """
        if len(self.family.free) < 2:
            return [near]
        (losses,) = self.swept((count,))
        return [near, self.places[int(losses.argmin())]]

    @cached_property
    def places(self) -> list[Numbers]:
        """The grid."""
        return list(itertools.product(*(f.grid(self.widest) for f in self.family.free)))

    def swept(self, counts: Sequence[int]) -> Iterator[Float[Tensor, " place"]]:
        """The loss at every place of the grid, for ascending whole numbers."""
        for answers in zip(*(self.family.sweep(v, self.places, counts) for v in self.views), strict=True):
            yield self.objective.bounded(answers).square().sum(-1)

    @cached_property
    def scanned(self) -> list[tuple[float, int, Numbers]]:
        """The loss at every whole number and every place of the grid, the best first, one for each whole number."""
        counts = list(self.family.counts(self.widest))
        found = []
        for count, losses in zip(counts, self.swept(counts), strict=True):
            found += [(loss, count, numbers) for loss, numbers in zip(losses.tolist(), self.places, strict=True)]
        found.sort(key=lambda entry: (entry[0], entry[1]))
        first: dict[int, tuple[float, int, Numbers]] = {}
        for entry in found:
            first.setdefault(entry[1], entry)
        best = found[0][1]
        # The best whole number keeps a second place: the loss can have several valleys.
        rivals = [entry for entry in found[1:] if entry[1] == best][:2]
        return sorted([*first.values(), *rivals], key=lambda entry: entry[0])

    def elsewhere(self, count: int, numbers: Numbers) -> tuple[int, Numbers, float]:
        """The best of all other whole numbers, from where the search would begin there."""
        moved = (
            (other, self.family.moved(numbers, count, other, self.views)) for other in self.family.counts(self.widest)
        )
        tried = [(finite(self.residual(other, self.place(near))), other, near) for other, near in moved if other]
        if not tried:
            return count, numbers, math.inf
        _, other, near = min(tried)
        return other, *self.refined(other, near, rounds=15)

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
                goal = loss * (1 - WORTH) if better is None else better[2]
                near, value = self.refined(other, self.family.moved(numbers, count, other, self.views), 6, goal)
                if value < goal:
                    better = (other, near, value)
            if better is None:
                break
            count, numbers, loss = better
        return count, numbers, loss


def neighbours(count: int) -> list[int]:
    """Whole numbers on both sides, up to half of a large number away.

    Beyond its limit an iteration changes sign with every step, so that the next but one may be better than the next;
    and there the right number of steps may show from no nearer than a few steps away.
    """
    reach = [1, 2]
    while reach[-1] * 2 <= count // 2:
        reach.append(reach[-1] * 2)
    return [n for step in reach for n in (count - step, count + step)]


def worth(best: float, floor: float = 0.0) -> float:
    """What the grid of a family may leave at most for it to be searched to the end, where another one leaves so much.

    Where no more than the floor is left there is nothing better to be found.
    """
    return HOPELESS * best + COARSE * (best > floor)


def find(rough: FamilyProblem, fitting: Objective, most: float = math.inf) -> Fit:
    """The learner of a family that is nearest to the answers.

    Args:
        rough: The family on some of the prompts for fitting, on which the search begins.
        fitting: The prompts for fitting.
        most: Where the grid leaves more, only its best place is refined.
    """
    family, exact = rough.family, FamilyProblem(rough.family, fitting)
    left, count, numbers = rough.scanned[0]
    if left <= most:
        count, numbers, _ = searched(rough)
    numbers, loss = exact.refined(count, numbers)
    numbers = family.ordered(numbers)
    found = Found(exact, count, numbers)
    return Fit(
        family.learner(count, numbers),
        family.size,
        loss,
        intervals=found.intervals,
        slopes=lambda objective: FamilyProblem(family, objective).slopes(count, exact.place(numbers)),
        named=lambda values: (
            family.learner(int(values[0]), tuple(values[1:])) if family.whole else family.learner(0, tuple(values))
        ),
        limits=found.limits(),
    )


def searched(rough: FamilyProblem, *, thorough: bool = True) -> tuple[int, Numbers, float]:
    """The best whole number and the others beside it, on few prompts, with what they leave."""
    scanned = rough.scanned
    places, better = (PLACES, BETTER) if thorough else (BETTER, 1)
    entries = [entry for entry in scanned[:places] if entry[0] <= HOPELESS * scanned[0][0]]
    if thorough and rough.family.whole and len(rough.family.free) > 1:
        # A grid of two numbers is so coarse that it says little about which whole number is the best.
        entries = scanned
    first: list[tuple[int, Numbers, float]] = []
    for _, count, numbers in entries:
        goal = first[better - 1][2] if len(first) >= better else math.inf
        first.append((count, *rough.refined(count, numbers, rounds=4, goal=goal)))
        first.sort(key=lambda entry: entry[2])
    candidates = [(count, *rough.refined(count, numbers, rounds=15)) for count, numbers, _ in first[:better]]
    best_one = min(candidates, key=lambda entry: entry[2])
    return rough.climbed(*min(best_one, rough.elsewhere(*best_one[:2]), key=lambda entry: entry[2]))


@final
@dataclass(frozen=True, eq=False)
class Found:
    """The best numbers of a family, to be given intervals."""

    problem: FamilyProblem
    count: int
    numbers: Numbers

    def intervals(self) -> list[Interval]:
        """The interval of every number, over all whole numbers that are not refuted."""
        counts = self.counts()
        ends = [self.ends(count, numbers) for count, numbers in counts.items()]
        family, named = self.problem.family, []
        if family.whole:
            named.append(Interval(family.whole, self.count, min(counts), self.end(max(counts))))
        for i, (free, value) in enumerate(zip(family.free, self.numbers, strict=True)):
            low, high = min(e[i][0] for e in ends), max(e[i][1] for e in ends)
            named.append(Interval(free.name, value, low, high))
        return named

    def end(self, most: int) -> float:
        """The largest whole number that is not refuted; endless where the search ends before one is."""
        return math.inf if most >= self.problem.reach()[1] else most

    def limits(self) -> tuple[str, ...]:
        """The numbers that ended where the search does."""
        family, problem = self.problem.family, self.problem
        ended = [family.whole] if family.whole and self.count >= problem.reach()[1] > 1 else []
        for free, value, (low, high) in zip(family.free, self.numbers, problem.bounds, strict=True):
            if free.logarithmic and not 1.01 * low < value < high / 1.01:
                ended.append(free.name)
        return tuple(ended)

    def ends(self, count: int, numbers: Numbers) -> list[tuple[float, float]]:
        if not numbers:
            return []
        problem = self.problem
        place = problem.place(numbers)
        residual, slopes = problem.look(count, place)
        if not slopes.isfinite().all():
            return [(0.0, math.inf)] * len(numbers)
        half = problem.objective.half_widths(residual, slopes, problem.curvature(count, place, slopes))
        low, high = problem.numbers(place - half), problem.numbers(place + half)
        return list(zip(low, high, strict=True))

    def counts(self) -> dict[int, Numbers]:
        """The whole numbers that the answers do not refute, each with the other numbers that suit it best."""
        problem, moved = self.problem, self.problem.family.moved
        kept = not_refuted(
            self.count,
            (self.count, self.numbers),
            problem.reach(),
            lambda other, near: self.refuted(other, moved(near[1], near[0], other, problem.views)),
        )
        return {count: numbers for count, (_, numbers) in kept.items()}

    def refuted(self, other: int, start: Numbers) -> tuple[tuple[int, Numbers], bool]:
        """Whether another whole number is refuted, and what suits it best."""
        problem = self.problem
        tried = [problem.refined(other, place, rounds=12) for place in problem.starts(other, start)]
        numbers, loss = min(tried, key=lambda entry: entry[1])
        there, slopes = problem.look(other, problem.place(numbers))
        return (other, numbers), refutes(problem.objective, self.residual, there, loss, slopes)

    @cached_property
    def residual(self) -> Residual:
        """The weighted differences at the best numbers."""
        return self.problem.residual(self.count, self.problem.place(self.numbers))


def refutes(objective: Objective, best: Residual, there: Residual, loss: float, slopes: Slopes) -> bool:
    """Whether the answers lie away from a candidate, towards the best one, beyond chance.

    Args:
        objective: The prompts for fitting.
        best: What the best candidate misses.
        there: What the other one misses.
        loss: The sum of the squares of that.
        slopes: The derivatives of that by the numbers of the other one.
    """
    if not math.isfinite(loss) or loss <= objective.rounding():
        return not math.isfinite(loss)
    if finite(best) <= objective.rounding():
        return True
    ways = (True, False) if objective.noise else (True,)
    found = [towards(objective, there, best - there, slopes, even=even) for even in ways]
    freedom = len(objective.clusters.unique()) - 1
    beyond = float(special.stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2 / len(ways)))
    return any(direction is not None and direction.strength > beyond for direction in found)


def not_refuted(
    count: int, best: Any, reach: tuple[int, int], refuted: Callable[[int, Any], tuple[Any, bool]]
) -> dict[int, Any]:
    """The whole numbers that the answers do not refute, each with the candidate that has it.

    On both sides of the best one the distance is doubled until a number is refuted, then halved towards the farthest
    that is not.

    Args:
        count: The best whole number.
        best: The candidate that has it.
        reach: The least and the largest whole number that is asked about.
        refuted: The candidate with another whole number, from one near it, and whether it is refuted.
    """
    kept, (first, last) = {count: best}, reach
    for side, end in ((-1, first), (1, last)):
        near, far, step = count, end + side, 1
        while near != end and abs(far - near) > 1:
            other = near + side * min(step, abs(far - near) - 1)
            candidate, out = refuted(other, kept[near])
            if out:
                far, step = other, max(1, abs(other - near) // 2)
            else:
                kept[other] = candidate
                near, step = other, 2 * step if far == end + side else max(1, abs(far - other) // 2)
    return kept


def tidied(fit: Fit, intervals: Sequence[Interval]) -> Fit:
    """The learner with no more digits than its intervals bear."""
    if fit.named is None or not intervals:
        return fit
    return replace(fit, learner=fit.named([shortest(i.value, i.low, i.high) for i in intervals]))


def rounded(fit: Fit) -> Fit:
    """The learner with six digits, for one that is far from the answers."""
    return fit if fit.named is None else replace(fit, learner=cut(fit.learner))


def cut(value: Any) -> Any:
    """Numbers with six digits, also those inside of tuples and of learners that are made of learners."""
    if isinstance(value, tuple):
        return tuple(map(cut, value))
    if isinstance(value, Predictor) and dataclasses.is_dataclass(value):
        return replace(value, **{field.name: cut(getattr(value, field.name)) for field in dataclasses.fields(value)})
    return float(f"{value:.6g}") if isinstance(value, float) else value
