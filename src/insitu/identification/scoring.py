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

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from insitu.errors import StepSizeWarning
from insitu.identification.evidence import Evidence
from insitu.metrics.estimate import CONFIDENCE
from insitu.predictor import Predictor
from insitu.prompt import Prompt
from insitu.seed import Seed

__all__ = ["Departure", "Noise", "Score", "answers_of", "noise_of", "predicted", "scores"]

RESAMPLES = 2000
# Noisy answers are those of a candidate only where they are shown to differ by less than this share on every single
# diagnostic, and in the mean over all of them.
EACH, MARGIN = 0.05, 0.01
TINY = 1e-300
QUANTILE = float(special.ndtri(CONFIDENCE))


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
        floor: The distance of which nothing is made: that of rounding, or a smaller one than anyone asks for.
        noise: The distance that noise of the answers leaves; zero where no prompt is repeated.
        least: The lower end of the excess over noise, at 99 % over all diagnostics together.
        most: Its upper end, at 99 % on this diagnostic.
        excess: The excess itself.
        error: Its standard error.

    The excess is the mean over prompts of a bounded error, less noise: a prompt counts relative to the size of the
    answers of its diagnostic, and never for more than all of it, so that a few prompts on which an iteration runs
    away do not hide how good a candidate is on the others, nor widen its interval to anything.
    """

    name: str
    points: int
    distance: float
    low: float
    high: float
    rounding: float
    floor: float
    noise: float
    least: float
    most: float
    excess: float
    error: float

    @property
    def departs(self) -> bool:
        """Whether the answers are shown to differ from the candidate's."""
        return self.distance > self.floor and (self.least > self.floor or not self.noise)

    @property
    def within(self) -> bool:
        """Whether the answers are shown to be those of the candidate: the difference is rounding, or nearly nothing."""
        return self.distance <= self.floor or (self.noise > 0 and not self.departs and self.most <= EACH)


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
        """Whether the answers are shown to be those of the candidate on every diagnostic."""
        return self.exact or (all(d.within for d in self.departures) and self.most <= MARGIN)

    @property
    def most(self) -> float:
        """The upper end, at 99 %, of the mean excess over all diagnostics."""
        return self.mean_excess(QUANTILE)

    def mean_excess(self, errors: float) -> float:
        """The mean excess over all diagnostics, and so many of its standard errors."""
        count = len(self.departures)
        error = math.sqrt(sum(d.error**2 for d in self.departures))
        return (sum(d.excess for d in self.departures) + errors * error) / count

    @property
    def departs(self) -> bool:
        """Whether the answers are shown to differ on some diagnostic, or by more than the margin in the mean of all.

        With few prompts no single diagnostic may show what all of them together do.
        """
        together = any(d.noise for d in self.departures) and self.mean_excess(-QUANTILE) > MARGIN
        return together or any(departure.departs for departure in self.departures)

    @property
    def exact(self) -> bool:
        """Whether rounding alone stands between the candidate and the answers."""
        return all(departure.distance <= departure.floor for departure in self.departures)

    @property
    def left(self) -> float:
        """The share of the answers that it leaves unexplained, noise taken off."""
        return max(0.0, self.distance - sum(d.noise for d in self.departures) / len(self.departures))

    @property
    def worst(self) -> Departure:
        """The diagnostic on which it departs most."""
        return max(self.departures, key=lambda d: (max(0.0, d.least - d.floor), d.distance))


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

    def share(self, given: Evidence) -> float:
        """Noise over answers, in the mean over diagnostics."""
        return (self.variance / given.energies().clamp(min=TINY)).mean().item()


def noise_of(given: Evidence) -> Noise:
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
    return pooled_where_alike(squares, freedom, fourth)


def pooled_where_alike(squares: Tensor, freedom: Tensor, fourth: Tensor) -> Noise:
    """Variances from sums over clusters: one for all diagnostics unless they differ beyond chance.

    The variance is a ratio of sums; its error by linearisation. One variance is far better determined than ten.
    """

    def ratio(square: Tensor, count: Tensor, quartic: Tensor) -> tuple[Tensor, Tensor]:
        value = square / count.clamp(min=1)
        scatter = quartic - 2 * value * square + value.square() * count
        return value, scatter.clamp(min=0).sqrt() / count.clamp(min=1)

    pooled, doubt = ratio(squares.sum(), freedom.sum(), fourth.sum())
    own, error = ratio(squares, freedom, fourth)
    quantile = float(special.ndtri(1 - (1 - CONFIDENCE) / 2 / len(squares)))
    # Under one variance the error of each is that variance over the root of its freedom, as the others tell it.
    expected = doubt * (freedom.sum() / freedom.clamp(min=1)).sqrt()
    alike = ((own - pooled).abs() <= quantile * torch.maximum(error, expected)) | (freedom < 2)
    if bool(alike.all()):
        return Noise(pooled.expand_as(own), doubt.expand_as(own))
    return Noise(torch.where(freedom > 1, own, pooled), torch.where(freedom > 1, error, doubt))


def answers_of(learner: Predictor, given: Evidence) -> list[Tensor]:
    """A candidate's own answers to the prompts of the evidence."""
    return [predicted(learner, block.view.prompt) for block in given.blocks]


def predicted(learner: Predictor, prompt: Prompt) -> Float[Tensor, "batch query out"]:
    """A candidate's answers; a rate beyond its limit is no news here, since the model may have it too."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", StepSizeWarning)
        return learner.predict(prompt)


def scores(
    candidates: Sequence[tuple[Predictor, int, list[Tensor]]], held: Evidence, noise: Noise, seed: Seed
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
    related = [
        torch.stack([block.missed(a[place]) / scale for a in given], dim=1).clamp(max=1.0)
        for place, (block, scale) in enumerate(zip(held.blocks, held.scales, strict=True))
    ]
    by_diagnostic = [
        departures(
            held, index, means, cluster_means(held, index, related[held.diagnostics[index].block]), interval(r), noise
        )
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
    held: Evidence, given: Sequence[list[Tensor]], seed: Seed
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


def tables(held: Evidence, columns: Sequence[Tensor | None], seed: Seed) -> tuple[list[Tensor], list[Tensor]]:
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


def cluster_means(held: Evidence, index: int, given: Float[Tensor, "batch column"]) -> Float[Tensor, "cluster column"]:
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
    # NumPy partitions where PyTorch sorts.
    return torch.from_numpy(np.quantile(values.numpy(), (tail, 1 - tail), axis=0))


def departures(
    held: Evidence,
    index: int,
    means: Float[Tensor, "cluster column"],
    bounded: Float[Tensor, "cluster candidate"],
    ends: Float[Tensor, "end candidate"],
    noise: Noise,
) -> list[Departure]:
    """Every candidate on one diagnostic."""
    diagnostic = held.diagnostics[index]
    rows = held.blocks[diagnostic.block].group == index
    energy = max(means[:, -1].mean().item(), TINY)
    block = held.blocks[diagnostic.block]
    rounding, floor = (part[rows].mean().item() / energy for part in (block.rounding, block.floor))
    scale = (1 / held.scales[diagnostic.block][rows]).mean()
    entries = block.answers[0].numel()
    by_noise = bounded_noise(noise.variance[index] / held.scales[diagnostic.block][rows], entries).mean()
    excess = bounded.mean(0) - by_noise
    # Prompts on which a candidate runs away may be too few to be met among those at hand: an error of zero is none.
    errors = torch.hypot(bounded.std(0) / math.sqrt(len(bounded)), scale * noise.error[index])
    freedom = len(bounded) - 1
    all_of_them = float(special.stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2 / len(held.diagnostics)))
    alone = float(special.stdtrit(freedom, CONFIDENCE))
    columns = (
        means[:, :-1].mean(0) / energy,
        *ends,
        excess - all_of_them * errors,
        excess + alone * errors,
        excess,
        errors,
    )
    part = noise.variance[index].item() / energy
    return [
        Departure(
            diagnostic.name,
            diagnostic.points,
            distance,
            min(low, distance),
            max(high, distance),
            rounding,
            floor,
            part,
            least,
            most,
            middle,
            error,
        )
        for distance, low, high, least, most, middle, error in torch.stack(columns).T.tolist()
    ]


def bounded_noise(share: Float[Tensor, " prompt"], entries: int) -> Float[Tensor, " prompt"]:
    r"""The bounded error that normal noise alone leaves: :math:`E \min(s \chi^2_m / m, 1)` with m answers to a prompt.

    It is :math:`s F_{m+2}(m / s) + 1 - F_m(m / s)` with the distribution functions F; for little noise it is s.
    """
    ends = entries / share.clamp(min=TINY).numpy()
    inside, below = (torch.as_tensor(special.chdtr(entries + more, ends)) for more in (2, 0))
    return share * inside + 1 - below


def correlation(held: Evidence, answers: list[Tensor]) -> float:
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
