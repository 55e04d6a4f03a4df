r"""Mixtures: answers that are a weighted mean of two or three learners, or switch between two.

A dictionary of learners from the grids of all families is compared with the answers first. With the residuals
:math:`r_a = g_a - f` the best weight of a pair, and what it leaves, follow from three products,

.. math:: \alpha = \frac{r_b \cdot (r_b - r_a)}{|r_a - r_b|^2}, \qquad
          |\alpha r_a + (1 - \alpha) r_b|^2,

so all pairs are compared at once. The best pairs of families are then refined, numbers and weights together, by Gauss
and Newton's iteration.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from insitu.identification.combinations import Way
from insitu.identification.family import Family, Numbers
from insitu.identification.fitting import (
    WORTH,
    FamilyProblem,
    gauss_newton,
    neighbours,
    not_refuted,
    one_by_one,
    refutes,
)
from insitu.identification.interval import Interval
from insitu.identification.objective import Objective, Residual
from insitu.learners import Zero
from insitu.predictor import Predictor

__all__ = ["Atom", "Combined", "MixtureFit", "mixture_fits"]

# Places of the grid of a family that the dictionary keeps; whole numbers of which it keeps all, and the step beyond.
KEPT, SMALL, LARGER = 24, 8, 4
# Squared size of an atom, relative to the answers, beyond which it is a part of nothing.
LARGE = 100.0
# Learners of a family that differ by a smaller share of what would be enough are one.
COARSE = 0.05
# What the best places of two grids may leave of the answers although the learners between them leave nothing.
GRID = 0.05
# Pairs of families that are refined, and how many of these on all prompts.
PAIRS, BEST = 12, 3
ROUNDS = 12
# Whole numbers of a combination that are tried.
TRIED = 24
# A part of three with a smaller weight does nothing.
IDLE = 1e-9
# A combination that leaves more than this share of what the best single learner leaves is not followed; of noise, which
# on few prompts is more or less than in the mean, it may leave somewhat more than all.
PROMISING, NOISIER = 0.5, 1.3
# One that leaves so many times what would be enough is not searched any further, nor in other whole numbers unless
# it leaves about as little as the nearest whole numbers on the grid do.
HOPEFUL, BETWEEN = 1.5, 0.01
STEP = 1e-5
TINY = 1e-300


@final
@dataclass(frozen=True)
class Atom:
    """A learner with numbers."""

    family: Family
    count: int
    numbers: Numbers

    @property
    def learner(self) -> Predictor:
        """The learner."""
        return self.family.learner(self.count, self.numbers)


@final
@dataclass(frozen=True, eq=False)
class Shelf:
    """Learners of one family with their weighted differences from the answers on some prompts."""

    family: Family
    atoms: tuple[Atom, ...]
    residuals: Float[Tensor, "atom entry"]


def shelf(family: Family, few: Objective, apart: float) -> Shelf:
    """Learners spread over the grid of a family, no two nearer to each other than a squared distance."""
    problem, atoms, rows = FamilyProblem(family, few), [], []
    answers = few.residual([torch.zeros_like(b.answers) for b in few.evidence.blocks])
    counts = few_counts(list(family.counts(problem.widest)))
    grids = [free.grid(problem.widest) for free in family.free]
    places = spread(list(itertools.product(*grids)), KEPT if len(grids) < 2 else 2 * KEPT)
    sweeps = zip(*(family.sweep(view, places, counts) for view in problem.views), strict=True)
    for count, given in zip(counts, sweeps, strict=True):
        atoms += [Atom(family, count, numbers) for numbers in places]
        rows.append(few.residual(given).view(len(places), -1))
    residuals = torch.cat(rows)
    sizes = (residuals - answers).square().sum(1) / answers.square().sum()
    usable = (sizes.isfinite() & (sizes < LARGE)).nonzero()[:, 0]
    # A large learner can have a small weight only, with which its distances shrink.
    kept = usable[thinned(residuals[usable], apart * sizes[usable].clamp(min=1.0))]
    return Shelf(family, tuple(atoms[i] for i in kept.tolist()), residuals[kept])


def thinned(residuals: Float[Tensor, "atom entry"], apart: Float[Tensor, " atom"]) -> Int[Tensor, " kept"]:
    """The rows that are left when every one takes out those after it that are nearer than its squared distance."""
    own = residuals.square().sum(1)
    near = own[:, None] + own - 2 * residuals @ residuals.mT < apart[:, None]
    taken = torch.zeros(len(own), dtype=torch.bool)
    kept = []
    for place in range(len(own)):
        if not taken[place]:
            kept.append(place)
            taken |= near[place]
    return torch.tensor(kept, dtype=torch.long)


def spread(values: Sequence[Numbers], most: int) -> list[Numbers]:
    """At most so many of the values, evenly."""
    places = torch.linspace(0, len(values) - 1, min(most, len(values)))
    return [values[round(place)] for place in places.tolist()]


def few_counts(counts: Sequence[int]) -> list[int]:
    """All small whole numbers, and about every other one of the larger ones."""
    return [*counts[:SMALL], *counts[SMALL::LARGER]]


def average_losses(one: Sequence[Tensor], other: Sequence[Tensor]) -> Float[Tensor, "atom other"]:
    """What the best weights of every pair leave, with weights of their own for every group of prompts."""
    total = torch.zeros(len(one[0]), len(other[0]), dtype=torch.float64)
    for a, b in zip(one, other, strict=True):
        mine, theirs, product = a.square().sum(1)[:, None], b.square().sum(1), a @ b.mT
        weight = best_weight(mine, theirs, product)
        total += weight.square() * mine + (1 - weight).square() * theirs + 2 * weight * (1 - weight) * product
    return total


def best_weight(mine: Tensor, theirs: Tensor, product: Tensor) -> Tensor:
    """The weight of the first of two residuals that makes their mean smallest."""
    return ((theirs - product) / (mine + theirs - 2 * product).clamp(min=TINY)).clamp(0, 1)


def switch_losses(one: Float[Tensor, "atom prompt"], other: Float[Tensor, "other prompt"]) -> Tensor:
    """What every pair leaves where each prompt takes the nearer one: min(a, b) is (a + b - |a - b|) / 2."""
    return (one.sum(1)[:, None] + other.sum(1) - torch.cdist(one, other, p=1.0)) / 2


@final
@dataclass(frozen=True)
class Combined:
    """Several atoms, and how they make up the answers.

    Args:
        atoms: The learners.
        weights: The weights of all but the last; by length a row for each block, one after the other.
        way: Averaging with the same weights, weights for each context length, or one of two for each prompt.
    """

    atoms: tuple[Atom, ...]
    weights: tuple[float, ...]
    way: Way

    @property
    def size(self) -> int:
        """The number of free numbers."""
        return sum(len(a.numbers) + bool(a.family.whole) for a in self.atoms) + len(self.weights)

    @property
    def counts(self) -> tuple[int, ...]:
        """The whole numbers of the atoms."""
        return tuple(atom.count for atom in self.atoms)

    def with_atom(self, index: int, atom: Atom) -> "Combined":
        """The same with another atom in a place."""
        return replace(self, atoms=(*self.atoms[:index], atom, *self.atoms[index + 1 :]))


class CombinedProblem:
    """The loss of combinations on the prompts of an objective."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.problems: dict[Family, FamilyProblem] = {}
        self.lengths = [len(block.group) for block in objective.evidence.blocks]

    def problem(self, atom: Atom) -> FamilyProblem:
        return self.problems.setdefault(atom.family, FamilyProblem(atom.family, self.objective))

    def place(self, given: Combined) -> Tensor:
        """All numbers in one vector: those of the atoms, then the weights."""
        parts = [self.problem(atom).place(atom.numbers) for atom in given.atoms]
        return torch.cat([*parts, torch.tensor(given.weights, dtype=torch.float64)])

    def at(self, given: Combined, place: Tensor) -> Combined:
        """The combination with the numbers of a vector."""
        *parts, weights = place.split([*(len(a.numbers) for a in given.atoms), len(given.weights)])
        atoms = [replace(a, numbers=self.problem(a).numbers(p)) for a, p in zip(given.atoms, parts, strict=True)]
        return Combined(tuple(atoms), tuple(weights.tolist()), given.way)

    def answers(self, atom: Atom) -> Float[Tensor, " entry"]:
        """The weighted difference of an atom's answers."""
        views = self.problem(atom).views
        return self.objective.residual([atom.family.answers(view, atom.count, atom.numbers) for view in views])

    def mixed(self, each: Sequence[Residual], given: Combined, weights: Tensor) -> Residual:
        """The weighted difference of the combination."""
        stacked = torch.stack(list(each))
        if given.way == "by prompt":
            errors = stacked.view(len(each), -1, self.objective.entries).square().sum(2)
            chosen = errors.argmin(0).repeat_interleave(self.objective.entries)
            return stacked.gather(0, chosen[None])[0]
        rows = weights.view(-1, len(each) - 1)
        full = torch.cat([rows, 1 - rows.sum(1, keepdim=True)], dim=1)
        if len(full) == 1:
            return full[0] @ stacked
        times = torch.tensor(self.lengths) * self.objective.entries
        return (full.repeat_interleave(times, dim=0).mT * stacked).sum(0)

    def residual(self, given: Combined, place: Tensor) -> Residual:
        """The bounded weighted difference at some numbers."""
        now = self.at(given, place)
        plain = self.mixed([self.answers(a) for a in now.atoms], now, place[len(place) - len(given.weights) :])
        return self.objective.bounded_residual(plain)

    def slopes(self, given: Combined, place: Tensor) -> Float[Tensor, "entry number"]:
        """Its derivatives by central differences; the other atoms are answered once."""
        now = self.at(given, place)
        weights = place[len(place) - len(given.weights) :]
        each = [self.answers(a) for a in now.atoms]
        moved = [
            partial(self.with_number, now, each, weights, i, j)
            for i, atom in enumerate(now.atoms)
            for j in range(len(atom.numbers))
        ]
        units = torch.eye(len(weights), dtype=torch.float64)
        shifted = [partial(self.with_weights, now, each, weights, unit) for unit in units]
        columns = [self.difference(at) for at in (*moved, *shifted)]
        return torch.stack(columns, dim=1) if columns else each[0].new_zeros(len(each[0]), 0)

    def with_number(
        self, now: Combined, each: Sequence[Residual], weights: Tensor, index: int, number: int, step: float
    ) -> Residual:
        """The weighted difference with one number of one atom moved a little."""
        atom = now.atoms[index]
        problem = self.problem(atom)
        place = problem.place(atom.numbers)
        place[number] += step
        other = self.answers(replace(atom, numbers=problem.numbers(place)))
        return self.mixed([*each[:index], other, *each[index + 1 :]], now, weights)

    def with_weights(
        self, now: Combined, each: Sequence[Residual], weights: Tensor, unit: Tensor, step: float
    ) -> Residual:
        """The weighted difference with the weights moved a little."""
        return self.mixed(each, now, weights + step * unit)

    def difference(self, at: Callable[[float], Residual]) -> Residual:
        """A derivative, by central differences."""
        ahead, behind = (self.objective.bounded_residual(at(step)) for step in (STEP, -STEP))
        return (ahead - behind) / (2 * STEP)

    def refined(self, given: Combined, rounds: int = ROUNDS, goal: float = math.inf) -> tuple[Combined, float]:
        """The best numbers and weights near these ones; given up where the goal is out of reach."""
        problem = one_by_one(lambda at: self.residual(given, at), lambda at: self.slopes(given, at))
        place, loss = gauss_newton(*problem, self.place(given), rounds, goal)
        return self.at(given, place), loss

    def half_widths(self, given: Combined) -> Float[Tensor, " number"]:
        """Half the width of the interval of every number at the best ones."""
        place = self.place(given)
        return self.objective.half_widths(self.residual(given, place), self.slopes(given, place))

    def plainer(self, given: Combined, loss: float, plain: Sequence[Family]) -> tuple[Combined, float]:
        """The combination with plain families in place of special ones, or ones without numbers, where no more is left.

        Ridge regression without a penalty is least squares. Where one is replaced, another may be that could not
        before.
        """
        for place, atom in enumerate(given.atoms):
            fewer = [f for f in plain if atom.family.special or (not f.whole and f.size < atom.family.size)]
            for other in (moved for family in fewer if (moved := carried(atom, family))):
                near, value = self.refined(given.with_atom(place, other))
                if value <= max(loss * (1 + WORTH), self.objective.floor()):
                    return self.plainer(near, value, plain)
        return given, loss

    def climbed(self, given: Combined, loss: float) -> tuple[Combined, float]:
        """From whole numbers to better ones near them, the first that is found each time."""
        tried = {given.counts}
        better: tuple[Combined, float] | None = given, loss
        while better is not None and better[1] > self.objective.floor():
            given, loss = better
            better = self.stepped(given, loss, tried)
        return better or (given, loss)

    def stepped(self, given: Combined, loss: float, tried: set[tuple[int, ...]]) -> tuple[Combined, float] | None:
        """One atom with another whole number, where that leaves less; what is tried is noted."""
        goal = loss * (1 - WORTH)
        for i, atom in enumerate(given.atoms):
            for other in self.beside(atom):
                moved = given.with_atom(i, other)
                if moved.counts in tried or len(tried) >= TRIED:
                    continue
                tried.add(moved.counts)
                near, value = self.refined(moved, rounds=8, goal=goal)
                if value < goal:
                    return near, value
        return None

    def beside(self, atom: Atom) -> Iterator[Atom]:
        """The same family with the next whole numbers."""
        first, last = self.problem(atom).reach()
        # The farthest first: the grid may take many small steps for few large ones.
        for other in reversed(neighbours(atom.count)) if atom.family.whole else ():
            if first <= other <= last:
                yield self.with_count(atom, other)

    def with_count(self, atom: Atom, count: int) -> Atom:
        """The same family with another whole number, where a search begins there."""
        moved = atom.family.moved(atom.numbers, atom.count, count, self.problem(atom).views)
        return replace(atom, count=count, numbers=moved)


def carried(atom: Atom, family: Family) -> Atom | None:
    """An atom's numbers in another family; none where that has numbers that the atom lacks."""
    numbers = dict(zip((free.name for free in atom.family.free), atom.numbers, strict=True))
    if family.whole != atom.family.whole or any(free.name not in numbers for free in family.free):
        return None
    return Atom(family, atom.count, tuple(numbers[free.name] for free in family.free))


@final
@dataclass(frozen=True, eq=False)
class MixtureFit:
    """A fitted combination.

    Args:
        combined: The atoms and their weights.
        loss: What it leaves on the prompts for fitting.
        half: Half the width of the interval of every number, those of the atoms first.
        others: The same with other whole numbers that the answers do not refute either; intervals reach over them.
    """

    combined: Combined
    loss: float
    half: Float[Tensor, " number"]
    others: tuple["MixtureFit", ...] = ()

    def weights(self) -> list[list[Interval]]:
        """The weight of every atom with its interval, a list for each row of weights."""
        return spanned([self.own_weights(), *(other.own_weights() for other in self.others)])

    def numbers(self) -> list[list[Interval]]:
        """The numbers of every atom with their intervals."""
        return spanned([self.own_numbers(), *(other.own_numbers() for other in self.others)])

    def own_weights(self) -> list[list[Interval]]:
        """The weights at these whole numbers."""
        count = len(self.combined.atoms)
        values = torch.tensor(self.combined.weights, dtype=torch.float64).view(-1, count - 1)
        half = self.half[len(self.half) - values.numel() :].view_as(values)
        rest = (1 - values.sum(1, keepdim=True), half.sum(1, keepdim=True))
        rows = zip(torch.cat([values, rest[0]], 1).tolist(), torch.cat([half, rest[1]], 1).tolist(), strict=True)
        return [[Interval("weight", v, v - h, v + h) for v, h in zip(*row, strict=True)] for row in rows]

    def own_numbers(self) -> list[list[Interval]]:
        """The numbers at these whole numbers."""
        found, start = [], 0
        for atom in self.combined.atoms:
            named = [Interval(atom.family.whole, atom.count, atom.count, atom.count)] if atom.family.whole else []
            for free, value in zip(atom.family.free, atom.numbers, strict=True):
                named.append(Interval(free.name, value, *free.around(value, self.half[start].item())))
                start += 1
            found.append(named)
        return found


def spanned(many: Sequence[Sequence[Sequence[Interval]]]) -> list[list[Interval]]:
    """The first of several tables of intervals, every one reaching as far as those in its place."""
    return [
        [
            replace(same[0], low=min(one.low for one in same), high=max(one.high for one in same))
            for same in zip(*rows, strict=True)
        ]
        for rows in zip(*many, strict=True)
    ]


def with_others(fit: MixtureFit, fitting: Objective) -> MixtureFit:
    """A combination with what the answers do not refute beside it: one of its atoms with another whole number."""
    exact = CombinedProblem(fitting)
    best = exact.residual(fit.combined, exact.place(fit.combined))

    def refuted(index: int, other: int, near: MixtureFit) -> tuple[MixtureFit, bool]:
        moved = exact.with_count(near.combined.atoms[index], other)
        given, loss = exact.refined(near.combined.with_atom(index, moved), rounds=12)
        place = exact.place(given)
        there, slopes = exact.residual(given, place), exact.slopes(given, place)
        candidate = MixtureFit(given, loss, fitting.half_widths(there, slopes))
        return candidate, refutes(fitting, best, there, loss, slopes)

    others: list[MixtureFit] = []
    for index, atom in enumerate(fit.combined.atoms):
        if atom.family.whole:
            kept = not_refuted(atom.count, fit, exact.problem(atom).reach(), partial(refuted, index))
            others += [other for other in kept.values() if other is not fit]
    return replace(fit, others=tuple(others))


@final
@dataclass(frozen=True, eq=False)
class Start:
    """A combination to begin with, what it leaves, and its weighted difference where it is an average."""

    loss: float
    combined: Combined
    residual: Residual


class Pairs:
    """Compares pairs of learners on a few prompts.

    Args:
        few: The prompts.
    """

    def __init__(self, few: Objective) -> None:
        self.few = few
        self.lengths = [len(block.group) * few.entries for block in few.evidence.blocks]

    def parts(self, residuals: Tensor, way: Way) -> Sequence[Tensor]:
        """The residuals of every group of prompts that has weights of its own."""
        return residuals.split(self.lengths, dim=-1) if way == "by length" else [residuals]

    def losses(self, one: Tensor, other: Tensor, way: Way) -> Float[Tensor, "atom other"]:
        """What every pair leaves."""
        if way == "by prompt":
            return switch_losses(*(r.unflatten(1, (-1, self.few.entries)).square().sum(2) for r in (one, other)))
        return average_losses(self.parts(one, way), self.parts(other, way))

    def best(self, one: Shelf, other: Shelf, way: Way) -> Start:
        """The best pair of two families, with its weights."""
        table = self.losses(one.residuals, other.residuals, way)
        if one is other:
            table = table.masked_fill(torch.ones_like(table, dtype=torch.bool).tril(), torch.inf)
        i, j = divmod(int(table.argmin()), table.shape[1])
        a, b = one.residuals[i], other.residuals[j]
        rows = zip(self.parts(a, way), self.parts(b, way), strict=True) if way != "by prompt" else ()
        weights = tuple(best_weight(p @ p, q @ q, p @ q).item() for p, q in rows)
        mixed = weights[0] * a + (1 - weights[0]) * b if way == "average" else a
        return Start(table[i, j].item(), Combined((one.atoms[i], other.atoms[j]), weights, way), mixed)

    def best_of_families(self, pairs: Sequence[tuple[Shelf, Shelf]], way: Way) -> list[Start]:
        """The best pair of every two families, those that leave least."""
        return heapq.nsmallest(PAIRS, (self.best(one, other, way) for one, other in pairs), key=lambda s: s.loss)


def mixture_fits(
    families: Sequence[Family], fitting: Objective, few: Objective, single: float, noise: float
) -> Iterator[MixtureFit]:
    """Combinations that explain the answers best: averages of two, weights by length, switches by prompt, three.

    Plain families are combined first, then those of which they are a part. The caller stops when it has seen enough.

    Args:
        families: Of which learners they are made.
        fitting: The prompts for fitting.
        few: Some of them, on which the search begins.
        single: What the best single learner leaves.
        noise: What noise of the answers leaves.
    """
    enough = NOISIER * noise + PROMISING * max(single - noise, 0.0)
    shelves: list[Shelf] = []
    for special in (False, True):
        # A share of zero would be a factor.
        parts = [f for f in families if f.special == special and not isinstance(f.example, Zero)]
        shelves += [found for family in parts if (found := shelf(family, few, COARSE * enough)).atoms]
        pairs = [
            pair
            for pair in itertools.combinations_with_replacement(shelves, 2)
            if special in (one.family.special for one in pair) and (pair[0] is not pair[1] or len(pair[0].atoms) > 1)
        ]
        yield from combinations(Pairs(few), shelves, pairs, fitting, enough)


def combinations(
    compared: Pairs,
    shelves: Sequence[Shelf],
    pairs: Sequence[tuple[Shelf, Shelf]],
    fitting: Objective,
    enough: float,
) -> Iterator[MixtureFit]:
    """The combinations of some pairs of families, and of the best with a third."""
    plain = [known.family for known in shelves if not known.family.special]

    def fits(starts: Sequence[Start]) -> list[MixtureFit]:
        promising = [start.combined for start in starts if start.loss <= HOPEFUL * enough + GRID]
        return best_of(promising, fitting, compared.few, enough, plain)

    averages = compared.best_of_families(pairs, "average")
    yield from fits(averages)
    ways: tuple[Way, ...] = ("by length", "by prompt") if len(compared.lengths) > 1 else ("by prompt",)
    for way in ways:
        yield from fits(compared.best_of_families(pairs, way))
    yield from fits([with_third(pair, shelves) for pair in averages[:BEST]])


def with_third(pair: Start, shelves: Sequence[Shelf]) -> Start:
    """A pair with the learner added that lowers what is left most."""
    mixed = pair.residual
    best, added = math.inf, None
    for atoms in shelves:
        gaps = mixed - atoms.residuals
        share = ((gaps @ mixed) / gaps.square().sum(1).clamp(min=TINY)).clamp(0, 1)
        losses = (mixed - share[:, None] * gaps).square().sum(1)
        i = int(losses.argmin())
        if losses[i] < best:
            best, added = losses[i].item(), (atoms.atoms[i], 1 - share[i].item())
    assert added is not None
    third, kept = added
    (first,) = pair.combined.weights
    combined = Combined((*pair.combined.atoms, third), (first * kept, kept - first * kept), "average")
    return Start(best, combined, mixed)


def best_of(
    starts: Sequence[Combined], fitting: Objective, few: Objective, enough: float, plain: Sequence[Family]
) -> list[MixtureFit]:
    """The best of these after refinement, first on few prompts, then on all."""
    rough, exact = CombinedProblem(few), CombinedProblem(fitting)
    goal = HOPEFUL * enough + BETWEEN
    first = sorted((rough.refined(given, rounds=5, goal=goal) for given in starts), key=lambda entry: entry[1])
    near: list[tuple[Combined, float]] = []
    for given, loss in first[:BEST]:
        # Once rounding alone is left there is nothing better to be found.
        if loss < goal and all(reached > few.floor() for _, reached in near):
            near.append(rough.climbed(*rough.refined(given, goal=goal)))
    found = []
    for given, _ in sorted((entry for entry in near if entry[1] < enough), key=lambda entry: entry[1]):
        combined, loss = exact.refined(given)
        if (fewer := without_idle(combined)) is not combined:
            combined, loss = exact.refined(fewer)
        combined, loss = exact.plainer(*exact.climbed(combined, loss), plain)
        found.append(MixtureFit(combined, loss, exact.half_widths(combined)))
    return sorted(found, key=lambda fit: fit.loss)


def without_idle(given: Combined) -> Combined:
    """An average of three as one of two, where one of them has no weight."""
    if len(given.atoms) < 3:
        return given
    weights = (*given.weights, 1 - sum(given.weights))
    kept = [i for i, weight in enumerate(weights) if abs(weight) > IDLE]
    if len(kept) != 2:
        return given
    first, second = kept
    share = weights[first] / (weights[first] + weights[second])
    return replace(given, atoms=(given.atoms[first], given.atoms[second]), weights=(share,))
