r"""Mixtures: answers that are a weighted mean of two or three learners, or switch between two.

A dictionary of learners from the grids of all families is compared with the answers first. With the residuals
:math:`r_a = g_a - f` the best weight of a pair, and what it leaves, follow from three products,

.. math:: \alpha = \frac{r_b \cdot (r_b - r_a)}{|r_a - r_b|^2}, \qquad
          |\alpha r_a + (1 - \alpha) r_b|^2,

so all pairs are compared at once. The best pairs of families are then refined, numbers and weights together, by Gauss
and Newton's iteration.
"""

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
from insitu.identification.fitting import Problem, gauss_newton, neighbours
from insitu.identification.interval import Interval
from insitu.identification.objective import Objective, Residual
from insitu.learners import Zero
from insitu.predictor import Predictor

__all__ = ["Atom", "Combined", "MixtureFit", "mixture_fits"]

# Places of the grid of a family that the dictionary keeps; whole numbers of which it keeps all, and the step beyond.
KEPT, SMALL, LARGER = 24, 8, 4
# Squared size of an atom, relative to the answers, beyond which it is a part of nothing.
LARGE = 100.0
# Pairs of families that are refined, and how many of these on all prompts.
PAIRS, BEST = 12, 3
ROUNDS = 12
# A combination that leaves more than this share of what the best single learner leaves is not followed; of noise, which
# on few prompts is more or less than in the mean, it may leave somewhat more than all.
PROMISING, NOISIER = 0.5, 1.3
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
class Dictionary:
    """Atoms with their weighted residuals on some prompts."""

    atoms: tuple[Atom, ...]
    residuals: Float[Tensor, "atom entry"]
    owner: Int[Tensor, " atom"]
    """The place of every atom's family."""


def dictionary(families: Sequence[Family], few: Objective) -> Dictionary:
    """Learners spread over the grids of all families."""
    atoms, rows, owner = [], [], []
    answers = few.residual([torch.zeros_like(b.answers) for b in few.evidence.blocks])
    for place, family in enumerate(families):
        problem = Problem(family, few)
        counts = few_counts(list(family.counts(problem.widest)))
        grids = [free.grid(problem.widest) for free in family.free]
        places = spread(list(itertools.product(*grids)), KEPT if len(grids) < 2 else 2 * KEPT)
        sweeps = zip(*(family.sweep(view, places, counts) for view in problem.views), strict=True)
        for count, given in zip(counts, sweeps, strict=True):
            atoms += [Atom(family, count, numbers) for numbers in places]
            rows.append(few.residual(given).view(len(places), -1))
            owner += [place] * len(places)
    residuals = torch.cat(rows)
    sizes = (residuals - answers).square().sum(1)
    kept = (sizes.isfinite() & (sizes < LARGE * answers.square().sum())).nonzero()[:, 0]
    return Dictionary(tuple(atoms[i] for i in kept.tolist()), residuals[kept], torch.tensor(owner)[kept])


def spread(values: Sequence[Numbers], most: int) -> list[Numbers]:
    """At most so many of the values, evenly."""
    places = torch.linspace(0, len(values) - 1, min(most, len(values)))
    return [values[round(place)] for place in places.tolist()]


def few_counts(counts: Sequence[int]) -> list[int]:
    """All small whole numbers, and about every other one of the larger ones."""
    return [*counts[:SMALL], *counts[SMALL::LARGER]]


def pair_losses(products: Sequence[Float[Tensor, "atom atom"]]) -> Float[Tensor, "atom atom"]:
    """What the best weights of every pair leave, with weights of their own for every group of prompts."""
    total = torch.zeros_like(products[0])
    for gram in products:
        own = gram.diagonal()
        apart = (own[:, None] + own[None] - 2 * gram).clamp(min=TINY)
        weight = ((own[None] - gram) / apart).clamp(0, 1)
        total += weight.square() * own[:, None] + (1 - weight).square() * own[None] + 2 * weight * (1 - weight) * gram
    return total


def switch_losses(each: Float[Tensor, "atom prompt"]) -> Float[Tensor, "atom atom"]:
    """What every pair leaves where each prompt takes the nearer one."""
    return torch.stack([torch.minimum(row, each).sum(1) for row in each])


def best_pairs(losses: Float[Tensor, "atom atom"], owner: Int[Tensor, " atom"]) -> list[tuple[int, int]]:
    """The best pair of atoms of every two families, the best families first."""
    count = int(owner.max()) + 1
    where = torch.triu(torch.ones_like(losses, dtype=torch.bool), diagonal=1)
    losses = torch.where(where, losses, torch.inf)
    key = (torch.minimum(owner[:, None], owner[None]) * count + torch.maximum(owner[:, None], owner[None])).flatten()
    order = losses.flatten().argsort()
    order = order[losses.flatten()[order].isfinite()]
    seen: dict[int, int] = {}
    # The first of every key, in the order of losses; far down the list nothing is of interest.
    for flat, name in zip(order[:200_000].tolist(), key[order[:200_000]].tolist(), strict=True):
        seen.setdefault(name, flat)
        if len(seen) >= PAIRS:
            break
    return [divmod(flat, len(owner)) for flat in seen.values()]


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


class CombinedProblem:
    """The loss of combinations on the prompts of an objective."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.problems: dict[Family, Problem] = {}
        self.lengths = [len(block.group) for block in objective.evidence.blocks]

    def problem(self, atom: Atom) -> Problem:
        return self.problems.setdefault(atom.family, Problem(atom.family, self.objective))

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

    def refined(self, given: Combined, rounds: int = ROUNDS) -> tuple[Combined, float]:
        """The best numbers and weights near these ones."""
        place, loss = gauss_newton(
            lambda at: self.residual(given, at), lambda at: self.slopes(given, at), self.place(given), rounds
        )
        return self.at(given, place), loss

    def climbed(self, given: Combined, loss: float) -> tuple[Combined, float]:
        """From whole numbers to better ones near them, one atom after the other."""
        tried = {tuple(a.count for a in given.atoms)}
        improved = True
        while improved and len(tried) < 40:
            improved = False
            for i, atom in enumerate(given.atoms):
                for other in self.beside(atom):
                    counts = tuple(other.count if k == i else a.count for k, a in enumerate(given.atoms))
                    if counts in tried:
                        continue
                    tried.add(counts)
                    atoms = tuple(other if k == i else a for k, a in enumerate(given.atoms))
                    near, value = self.refined(replace(given, atoms=atoms), rounds=8)
                    if value < loss * (1 - 1e-4):
                        given, loss, improved = near, value, True
        return given, loss

    def beside(self, atom: Atom) -> Iterator[Atom]:
        """The same family with the next whole numbers."""
        problem = self.problem(atom)
        first, last = problem.reach()
        for other in neighbours(atom.count) if atom.family.whole else ():
            if first <= other <= last:
                yield replace(atom, count=other, numbers=problem.moved(atom.numbers, atom.count, other))


@final
@dataclass(frozen=True, eq=False)
class MixtureFit:
    """A fitted combination.

    Args:
        combined: The atoms and their weights.
        loss: What it leaves on the prompts for fitting.
        half: Half the width of the interval of every number, those of the atoms first.
    """

    combined: Combined
    loss: float
    half: Float[Tensor, " number"]

    def weights(self) -> list[list[Interval]]:
        """The weight of every atom with its interval, a list for each row of weights."""
        count = len(self.combined.atoms)
        values = torch.tensor(self.combined.weights).double().view(-1, count - 1)
        half = self.half[len(self.half) - values.numel() :].view_as(values)
        rest = (1 - values.sum(1, keepdim=True), half.sum(1, keepdim=True))
        rows = zip(torch.cat([values, rest[0]], 1).tolist(), torch.cat([half, rest[1]], 1).tolist(), strict=True)
        return [[Interval("weight", v, v - h, v + h) for v, h in zip(*row, strict=True)] for row in rows]

    def numbers(self) -> list[list[Interval]]:
        """The numbers of every atom with their intervals."""
        found, start = [], 0
        for atom in self.combined.atoms:
            named = [Interval(atom.family.whole, atom.count, atom.count, atom.count)] if atom.family.whole else []
            for free, value in zip(atom.family.free, atom.numbers, strict=True):
                half = self.half[start].item()
                low, high = (
                    (value * math.exp(-min(half, 700)), value * math.exp(min(half, 700)))
                    if free.logarithmic
                    else (value - half, value + half)
                )
                named.append(Interval(free.name, value, low, high))
                start += 1
            found.append(named)
        return found


def mixable(families: Sequence[Family]) -> list[Family]:
    """Families that can be parts: a share of zero would be a factor."""
    return [f for f in families if not isinstance(f.example, Zero)]


def mixture_fits(
    families: Sequence[Family], fitting: Objective, few: Objective, single: float, noise: float
) -> Iterator[MixtureFit]:
    """Combinations that explain the answers best: averages of two, weights by length, switches by prompt, three.

    The caller stops when it has seen enough.

    Args:
        families: Of which learners they are made.
        fitting: The prompts for fitting.
        few: Some of them, on which the search begins.
        single: What the best single learner leaves.
        noise: What noise of the answers leaves.
    """
    enough = NOISIER * noise + PROMISING * max(single - noise, 0.0)
    known = dictionary(mixable(families), few)
    grams = [part @ part.mT for part in split_by_block(known.residuals, few)]
    each = known.residuals.view(len(known.atoms), -1, few.entries).square().sum(2)
    ways: list[tuple[Way, Callable[[], Tensor]]] = [
        ("average", lambda: pair_losses([torch.stack(grams).sum(0)])),
        ("by length", lambda: pair_losses(grams)),
        ("by prompt", lambda: switch_losses(each)),
    ]
    averages: list[Combined] = []
    for way, losses in ways:
        if way == "by length" and len(grams) == 1:
            continue
        starts = [started(known, grams, pair, way) for pair in best_pairs(losses(), known.owner)]
        averages += starts[:BEST] if way == "average" else []
        fits = best_of(starts, fitting, few, enough)
        yield from fits
    yield from best_of(threes(known, averages, CombinedProblem(few)), fitting, few, enough)


def split_by_block(residuals: Float[Tensor, "atom entry"], objective: Objective) -> Sequence[Tensor]:
    """The columns of every context length."""
    return residuals.split([len(b.group) * objective.entries for b in objective.evidence.blocks], dim=1)


def started(known: Dictionary, grams: Sequence[Tensor], pair: tuple[int, int], way: Way) -> Combined:
    """A pair with its best weights."""
    a, b = pair
    products = {"average": [torch.stack(list(grams)).sum(0)], "by length": list(grams), "by prompt": []}[way]
    weights = []
    for gram in products:
        apart = (gram[a, a] + gram[b, b] - 2 * gram[a, b]).clamp(min=TINY)
        weights.append(((gram[b, b] - gram[a, b]) / apart).clamp(0, 1).item())
    return Combined((known.atoms[a], known.atoms[b]), tuple(weights), way)


def best_of(starts: Sequence[Combined], fitting: Objective, few: Objective, enough: float) -> list[MixtureFit]:
    """The best of these after refinement, first on few prompts, then on all."""
    rough, exact = CombinedProblem(few), CombinedProblem(fitting)
    near = sorted((rough.refined(given, rounds=5) for given in starts), key=lambda entry: entry[1])
    near = sorted((rough.climbed(*rough.refined(given)) for given, _ in near[:BEST]), key=lambda entry: entry[1])
    found = []
    for given, _ in (entry for entry in near if entry[1] < enough):
        combined, loss = exact.refined(given)
        place = exact.place(combined)
        half = fitting.half_widths(exact.residual(combined, place), exact.slopes(combined, place))
        found.append(MixtureFit(combined, loss, half))
    return sorted(found, key=lambda fit: fit.loss)


def threes(known: Dictionary, pairs: Sequence[Combined], rough: CombinedProblem) -> list[Combined]:
    """The best pairs with the atom added that lowers what is left most."""
    found = []
    for pair in pairs[:BEST]:
        mixed = rough.mixed([rough.answers(a) for a in pair.atoms], pair, torch.tensor(pair.weights).double())
        gap = mixed - known.residuals
        share = ((gap * mixed).sum(1) / gap.square().sum(1).clamp(min=TINY)).clamp(0, 1)
        losses = (mixed - share[:, None] * gap).square().sum(1)
        i = int(losses.argmin())
        kept = 1 - share[i].item()
        first = pair.weights[0] * kept
        found.append(Combined((*pair.atoms, known.atoms[i]), (first, kept - first), "average"))
    return found
