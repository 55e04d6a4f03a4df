r"""How far candidates are from the answers on held-out prompts, with intervals, and how far chance alone would be.

Intervals of distances are bootstrap percentiles over prompts, drawn within each diagnostic and shared by all
candidates, so that their differences are paired. Where prompts are repeated, the spread of their answers is noise that
no algorithm explains: its part of the distance is taken off before a candidate is judged.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from insitu.errors import StepSizeWarning
from insitu.identification.evidence import Study
from insitu.metrics.estimate import CONFIDENCE
from insitu.predictor import Predictor
from insitu.prompt import Prompt
from insitu.seed import Seed

__all__ = ["Departure", "Noise", "Score", "answers_of", "noise_of", "predicted", "scores"]

RESAMPLES = 2000
# With noisy answers a candidate is within the floor only if the interval of its distance, the noise taken off and all
# diagnostics pooled, ends below this: otherwise the noise could hide anything.
MATERIAL = 0.01
TINY = 1e-300


@final
@dataclass(frozen=True)
class Departure:
    """A candidate on one diagnostic.

    Args:
        name: The diagnostic.
        points: Its context length.
        distance: The distance on its held-out prompts.
        low: The lower end of its interval.
        high: The upper end.
        rounding: The distance that rounding of the answers may leave.
        noise: The distance that noise of the answers leaves; zero where no prompt is repeated.
        excess: The distance less noise.
        error: Its standard error.
        excess_low: The lower end of its interval, at 99 % over all diagnostics together.
    """

    name: str
    points: int
    distance: float
    low: float
    high: float
    rounding: float
    noise: float
    excess: float
    error: float
    excess_low: float

    @property
    def within(self) -> bool:
        """Whether the distance does not exceed the floor: rounding, and noise within its error."""
        return self.distance <= self.rounding or (self.noise > 0 and self.excess_low <= self.rounding)

    @property
    def surplus(self) -> float:
        """By how much the distance exceeds the floor, for sure."""
        return max(0.0, self.excess_low - self.rounding) if self.noise else max(0.0, self.distance - self.rounding)


@final
@dataclass(frozen=True, eq=False)
class Score:
    """A candidate on the held-out prompts.

    Args:
        learner: The candidate.
        size: How many of its numbers were free.
        distance: Its distance from the answers.
        low: The lower end of the interval.
        high: The upper end.
        correlation: Pearson's correlation of its answers with the given ones.
        departures: Its distance on every diagnostic.
        resampled: Its distance on every bootstrap sample.
        weights: The distance of its implied weights from those of the answers, with its interval: the same as for
            answers, after both were turned into weights by least squares over the queries of a prompt. None where
            no prompt has as many queries as dimensions.
    """

    learner: Predictor
    size: int
    distance: float
    low: float
    high: float
    correlation: float
    departures: tuple[Departure, ...]
    resampled: Float[Tensor, " resample"]
    weights: tuple[float, float, float] | None = None

    @property
    def within(self) -> bool:
        """Whether the distance is below the floor on every diagnostic, and noise hides nothing of size."""
        if not all(departure.within for departure in self.departures):
            return False
        noisy = [d for d in self.departures if d.distance > d.rounding]
        return not noisy or pooled_excess(noisy) <= MATERIAL

    @property
    def worst(self) -> Departure:
        """The diagnostic on which it departs most."""
        return max(self.departures, key=lambda d: (d.surplus, d.distance))


def pooled_excess(departures: Sequence[Departure]) -> float:
    """The upper end of the mean distance less noise, every diagnostic weighted by its precision, at 99 %."""
    quantile = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    weights = [1 / max(d.error, TINY) ** 2 for d in departures]
    mean = sum(w * (d.excess - d.rounding) for w, d in zip(weights, departures, strict=True)) / sum(weights)
    return mean + quantile / math.sqrt(sum(weights))


@final
@dataclass(frozen=True, eq=False)
class Noise:
    """The spread of answers to equal prompts, per diagnostic.

    Args:
        variance: The variance of an answer; zero where prompts are not repeated or repeat their answers.
        error: Its standard error.
    """

    variance: Float[Tensor, " diagnostic"]
    error: Float[Tensor, " diagnostic"]

    def __bool__(self) -> bool:
        return bool((self.variance > 0).any())


def noise_of(given: Study) -> Noise:
    """The noise of the answers, from repeated prompts; a diagnostic without any has that of all together."""
    count = len(given.diagnostics)
    squares, freedom, fourth = torch.zeros(3, count, dtype=torch.float64)
    for block in given.blocks:
        labels, where = block.copies.unique(return_inverse=True)
        size = torch.bincount(where).double()
        mean = block.answers.new_zeros(len(labels), *block.answers.shape[1:]).index_add_(0, where, block.answers)
        mean = mean / size[:, None, None]
        spread = (block.answers - mean[where]).square().mean((1, 2))
        # Answers that differ by rounding alone do not differ.
        spread = torch.where(spread > block.rounding, spread, 0.0)
        each = spread.new_zeros(len(labels)).index_add_(0, where, spread)
        group = torch.zeros(len(labels), dtype=torch.long).index_copy_(0, where, block.group)
        repeated = size > 1
        squares.index_add_(0, group[repeated], each[repeated])
        freedom.index_add_(0, group[repeated], size[repeated] - 1)
        fourth.index_add_(0, group[repeated], each[repeated].square())
    # The pooled variance is a ratio of sums over clusters; its error by linearisation.
    pooled = squares.sum() / freedom.sum().clamp(min=1)
    variance = torch.where(freedom > 1, squares / freedom.clamp(min=1), pooled)
    scatter = (fourth - 2 * variance * squares + variance.square() * freedom).clamp(min=0)
    all_scatter = (fourth.sum() - 2 * pooled * squares.sum() + pooled.square() * freedom.sum()).clamp(min=0)
    error = torch.where(
        freedom > 1, scatter.sqrt() / freedom.clamp(min=1), all_scatter.sqrt() / freedom.sum().clamp(min=1)
    )
    return Noise(variance, error)


def answers_of(learner: Predictor, given: Study) -> list[Tensor]:
    """A candidate's own answers to the prompts of a study."""
    return [predicted(learner, block.view.prompt) for block in given.blocks]


def predicted(learner: Predictor, prompt: Prompt) -> Float[Tensor, "batch query out"]:
    """A candidate's answers; a rate beyond its limit is no news here, since the model may have it too."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", StepSizeWarning)
        return learner.predict(prompt)


def scores(
    candidates: Sequence[tuple[Predictor, int, list[Tensor]]], held: Study, noise: Noise, seed: Seed
) -> list[Score]:
    """Every candidate (learner, size, answers) on the held-out prompts."""
    given = [answers for _, _, answers in candidates]
    columns = [
        torch.stack([*(block.missed(a[place]) for a in given), block.energy], dim=1)
        for place, block in enumerate(held.blocks)
    ]
    sums, resampled = tables(held, columns, seed)
    overall = torch.stack(resampled).mean(0)
    lows, highs = interval(overall).tolist()
    by_diagnostic = [
        departures(held, index, means, interval(r), noise)
        for index, (means, r) in enumerate(zip(sums, resampled, strict=True))
    ]
    weights = weight_distances(held, given, seed)
    found = []
    for i, ((learner, size, answers), each) in enumerate(
        zip(candidates, zip(*by_diagnostic, strict=True), strict=True)
    ):
        distance = sum(d.distance for d in each) / len(each)
        correlated = correlation(held, answers)
        found.append(Score(learner, size, distance, lows[i], highs[i], correlated, each, overall[:, i], weights[i]))
    return found


def weight_distances(
    held: Study, given: Sequence[list[Tensor]], seed: Seed
) -> Sequence[tuple[float, float, float] | None]:
    """The distance of every candidate's implied weights with its interval, over the prompts that tell weights."""
    columns: list[Tensor | None] = []
    for place, block in enumerate(held.blocks):
        reader = block.reader
        if reader is None:
            columns.append(None)
            continue
        gaps = [*(a[place] - block.answers for a in given), block.answers]
        sizes = [(reader @ gap).square().mean((1, 2)).nan_to_num(torch.inf, torch.inf) for gap in gaps]
        columns.append(torch.stack(sizes, dim=1))
    sums, resampled = tables(held, columns, seed)
    if not sums:
        return [None] * len(given)
    distances = torch.stack([s[:, :-1].mean(0) / s[:, -1].mean().clamp(min=TINY) for s in sums]).mean(0)
    lows, highs = interval(torch.stack(resampled).mean(0))
    rows = torch.stack([distances, torch.minimum(lows, distances), torch.maximum(highs, distances)], dim=1)
    return [(a, b, c) for a, b, c in rows.tolist()]


def tables(held: Study, columns: Sequence[Tensor | None], seed: Seed) -> tuple[list[Tensor], list[Tensor]]:
    """For every diagnostic the means per prompt, and the candidates' distances on every bootstrap sample of them.

    ``columns`` has for every block what each candidate misses and, last, what there was to be met; none for a block
    that is left out.
    """
    sums, resampled = [], []
    for index, diagnostic in enumerate(held.diagnostics):
        given = columns[diagnostic.block]
        if given is not None:
            sums.append(cluster_means(held, index, given))
            drawn = resample(sums[-1], seed / index)
            # Where a diagnostic's answers are all zero any other answer is infinitely far.
            resampled.append(drawn[:, :-1] / drawn[:, -1:].clamp(min=TINY))
    return sums, resampled


def cluster_means(held: Study, index: int, given: Float[Tensor, "batch column"]) -> Float[Tensor, "cluster column"]:
    """The columns per prompt of a diagnostic, copies of a prompt together."""
    block = held.blocks[held.diagnostics[index].block]
    rows = block.group == index
    columns = given[rows]
    _, where, size = block.copies[rows].unique(return_inverse=True, return_counts=True)
    return columns.new_zeros(len(size), columns.shape[1]).index_add_(0, where, columns) / size[:, None]


def resample(means: Float[Tensor, "cluster column"], seed: Seed) -> Float[Tensor, "resample column"]:
    """The means over bootstrap samples of the prompts."""
    count = len(means)
    drawn = seed.integers(count, RESAMPLES, count)
    times = torch.zeros(RESAMPLES, count, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(()).double().expand(drawn.shape)
    )
    # An answer that is not a number has an infinite error, which no product with zero may touch.
    bounded = means.clamp(max=1e200)
    return times @ bounded / count


def interval(values: Float[Tensor, "resample column"]) -> Float[Tensor, "end column"]:
    """The ends of every column's percentile interval."""
    tail = (1 - CONFIDENCE) / 2
    return torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=values.dtype), dim=0)


def departures(
    held: Study,
    index: int,
    means: Float[Tensor, "cluster column"],
    ends: Float[Tensor, "end candidate"],
    noise: Noise,
) -> list[Departure]:
    """Every candidate on one diagnostic."""
    diagnostic = held.diagnostics[index]
    block = held.blocks[diagnostic.block]
    energy = max(means[:, -1].mean().item(), TINY)
    rounding = block.rounding[block.group == index].mean().item() / energy
    part = noise.variance[index].item() / energy
    sampled = means[:, :-1].std(0) / math.sqrt(len(means))
    errors = torch.hypot(sampled, noise.error[index]) / energy
    distances = means[:, :-1].mean(0) / energy
    # At 99 % over all diagnostics together.
    quantile = float(stats.norm.ppf(1 - (1 - CONFIDENCE) / 2 / len(held.diagnostics)))
    return [
        Departure(
            diagnostic.name,
            diagnostic.points,
            distance,
            min(low, distance),
            max(high, distance),
            rounding,
            part,
            distance - part,
            error,
            distance - part - quantile * error,
        )
        for distance, error, low, high in torch.stack([distances, errors, *ends]).T.tolist()
    ]


def correlation(held: Study, answers: list[Tensor]) -> float:
    """Pearson's, over all answers, each diagnostic scaled to mean square one."""
    scale = held.energies().clamp(min=TINY).sqrt()
    pairs = [
        torch.stack([block.answers, a]) / scale[block.group][:, None, None]
        for block, a in zip(held.blocks, answers, strict=True)
    ]
    both = torch.cat([pair.flatten(1) for pair in pairs], dim=1)
    both = both - both.mean(1, keepdim=True)
    size = both.norm(dim=1)
    product = (both[0] @ both[1] / (size[0] * size[1])).item() if bool((size > 0).all()) else 0.0
    return product if math.isfinite(product) else 0.0
