"""Prompts of regression in whole numbers, drawn so that their labels fit the range."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative
from insitu.language.numbers.lines import NumberLines
from insitu.prompt import Prompt
from insitu.seed import Seed

__all__ = ["NumberEpisode", "NumberPlan"]

ORDINARY, PERMUTED, NARROWED = "plain", "permuted order", "inputs scaled down"
DUPLICATED, OUTLIER = "duplicated points", "one outlier"
# Slopes of lines between these, level within this share of the range around its middle: labels stay inside.
FLAT, STEEP, LEVEL = 0.3, 0.6, 0.25
MOST_DIMENSIONS = 3


@final
@dataclass(frozen=True, eq=False)
class NumberEpisode:
    """Prompts of whole numbers, and what their labels are without noise.

    Args:
        whole: The prompts.
        truth: The function at every query, in whole numbers, not rounded.
        names: What is special about every prompt.
    """

    whole: Prompt
    truth: Float[Tensor, "batch query"]
    names: tuple[str, ...]

    def first(self, count: int) -> "NumberEpisode":
        """The first prompts."""
        p = self.whole
        some = Prompt(p.xs[:count], p.ys[:count], p.queries[:count])
        return NumberEpisode(some, self.truth[:count], self.names[:count])


@final
@dataclass(frozen=True)
class NumberPlan:
    r"""Which prompts to draw: noisy linear functions of whole numbers, rounded.

    .. math:: y = c + l + b \cdot (x - c) + \varepsilon

    with c the middle of the range, a level l and a slope b of each prompt, and Gaussian :math:`\varepsilon`. Shorter
    prompts are the beginnings of longer ones. At the middle length half of the prompts come again in another order,
    with inputs drawn together, with one label at the other end of the range, and with their second half copied from
    the first.

    Args:
        dim: The dimension of an input, 1 to 3.
        points: The context lengths.
        count: Prompts at every length.
        queries: Queries of every prompt.
        noise: The standard deviation of the label noise, in whole numbers.
        places: The range of every query's coordinates; that of the numbers where none is given.
        lines: How they are written.

    Raises:
        InputError: If a number is out of its range.
    """

    dim: int = 1
    points: tuple[int, ...] = (8, 16, 32)
    count: int = 16
    queries: int = 2
    noise: float = 2.0
    places: tuple[tuple[int, int], ...] = ()
    lines: NumberLines = NumberLines()  # noqa: RUF009, a frozen value

    def __post_init__(self) -> None:
        require_count("NumberPlan", "count", self.count, least=16)
        require_count("NumberPlan", "queries", self.queries, least=1)
        require_not_negative("NumberPlan", "noise", self.noise)
        if not 1 <= self.dim <= MOST_DIMENSIONS:
            raise InputError(f"NumberPlan: inputs have 1 to {MOST_DIMENSIONS} dimensions; got dim={self.dim}.")
        if not self.points or min(self.points) < 2:
            raise InputError(f"NumberPlan: context lengths must be at least 2; got points={self.points}.")

    @property
    def lengths(self) -> list[int]:
        """The context lengths, the longest first."""
        return sorted(set(self.points), reverse=True)

    @property
    def middle(self) -> int:
        """The length that gets all diagnostics."""
        return self.lengths[len(self.lengths) // 2]

    def draw(self, seed: Seed) -> list[NumberEpisode]:
        """The prompts, one set for each context length, the longest first.

        Example:
            >>> [e.whole for e in NumberPlan(points=(4, 8), count=16).draw(Seed(0))]
            [Prompt(batch=16, points=8, dim=1, out=1, queries=2), Prompt(batch=48, points=4, dim=1, out=1, queries=2)]
        """
        longest = self.ordinary(seed)
        return [
            with_diagnostics(shortened(longest, n), self, seed) if n == self.middle else shortened(longest, n)
            for n in self.lengths
        ]

    def ordinary(self, seed: Seed) -> NumberEpisode:
        """Prompts of the longest context."""
        lines, span, points = self.lines, self.lines.high - self.lines.low, self.lengths[0]
        inputs = lines.low + (seed / "inputs").integers(span + 1, self.count, points, self.dim)
        inputs = torch.cat([inputs, self.draw_queries(seed / "queries")], dim=1).double()
        direction = torch.nn.functional.normalize((seed / "directions").normal(self.count, self.dim), dim=1)
        size = FLAT + (STEEP - FLAT) * (seed / "slopes").uniform(self.count, 1)
        slope = direction * size / self.dim**0.5
        level = LEVEL * span * ((seed / "levels").uniform(self.count, 1) - 0.5)
        values = lines.centre + level + ((inputs - lines.centre) @ slope[..., None])[..., 0]
        noise = self.noise * (seed / "noise").normal(self.count, points)
        ys = (values[:, :points] + noise).round().clamp(lines.low, lines.high)
        whole = Prompt(inputs[:, :points], ys[..., None], inputs[:, points:])
        return NumberEpisode(whole, values[:, points:].clamp(lines.low, lines.high), (ORDINARY,) * self.count)

    def draw_queries(self, seed: Seed) -> Int[Tensor, "batch query dim"]:
        """The queries."""
        bounds = self.places or ((self.lines.low, self.lines.high),) * self.queries
        sizes = [high - low + 1 for low, high in bounds]
        drawn = [(seed / i).integers(size, self.count, self.dim) for i, size in enumerate(sizes)]
        return torch.stack(drawn, dim=1) + torch.tensor([low for low, _ in bounds])[:, None]

    def shuffled(self, seed: Seed) -> NumberEpisode:
        """The control: prompts of the middle length whose labels are those of other examples of the same prompt."""
        given = shortened(self.ordinary(seed), self.middle).first(self.count // 2)
        p = given.whole
        order = (seed / "shuffled").uniform(p.batch, p.points).argsort(1)[..., None]
        return NumberEpisode(Prompt(p.xs, p.ys.take_along_dim(order, 1), p.queries), given.truth, given.names)


def shortened(given: NumberEpisode, points: int) -> NumberEpisode:
    """The same prompts with the first examples alone."""
    return NumberEpisode(given.whole.prefix(points), given.truth, given.names)


def with_diagnostics(given: NumberEpisode, plan: NumberPlan, seed: Seed) -> NumberEpisode:
    """The prompts, then half of them again with a change of each kind."""
    base = given.first(plan.count // 2)
    changes = {
        PERMUTED: permuted(base.whole, seed / PERMUTED),
        NARROWED: narrowed(base.whole, plan.lines),
        OUTLIER: with_an_outlier(base.whole, plan.lines, seed / OUTLIER),
        DUPLICATED: base.whole.reordered(torch.arange(plan.middle) % ((plan.middle + 1) // 2)),
    }
    prompts = [given.whole, *changes.values()]
    whole = Prompt(*(torch.cat([getattr(p, name) for p in prompts]) for name in ("xs", "ys", "queries")))
    names = (*given.names, *(name for name in changes for _ in range(base.whole.batch)))
    return NumberEpisode(whole, torch.cat([given.truth, *(base.truth for _ in changes)]), names)


def permuted(whole: Prompt, seed: Seed) -> Prompt:
    """Every prompt in an order of its own."""
    order = seed.uniform(whole.batch, whole.points).argsort(1)[..., None]
    return Prompt(whole.xs.take_along_dim(order, 1), whole.ys.take_along_dim(order, 1), whole.queries)


def narrowed(whole: Prompt, lines: NumberLines) -> Prompt:
    """Inputs half as far from the middle of the range, rounded; labels as they were."""
    xs, queries = ((lines.centre + (t - lines.centre) / 2).floor() for t in (whole.xs, whole.queries))
    return Prompt(xs, whole.ys, queries)


def with_an_outlier(whole: Prompt, lines: NumberLines, seed: Seed) -> Prompt:
    """One label of every prompt at that end of the range from which it is farther."""
    rows, places = torch.arange(whole.batch), seed.integers(whole.points, whole.batch)
    ys = whole.ys.clone()
    low = ys[rows, places] < lines.centre
    ys[rows, places] = torch.where(low, ys.new_tensor(lines.high), ys.new_tensor(lines.low))
    return Prompt(whole.xs, ys, whole.queries)
