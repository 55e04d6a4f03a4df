"""Learners with free numbers: what each answers for given numbers, quickly, and where to look for them.

A family has at most one whole number (steps, passes, neighbours) and at most three others (rate, penalty, ...). Its
answers are those of the learner of the same name; only the way is quicker, since prompts are decomposed once and many
whole numbers come out of one recursion.
"""

import abc
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification.spectra import PromptView
from insitu.learners import Learner
from insitu.predictor import Predictor

__all__ = ["LARGEST", "Family", "Fixed", "Free", "Many", "Numbers", "in_parts"]

# Numbers that are worked out at the same time (4 MB): memory for more is cleared by the system every time anew.
TOGETHER = 500_000
# Logarithms beyond it are those of no number.
LARGEST = 700.0
Numbers = tuple[float, ...]
Many = Float[Tensor, "place batch query out"]
Unit = Literal["rate", "sum of squares", "length", "product", "none"]


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
        limits: Between which values it lies, if they are evenly spaced; otherwise they are spaced by factors, and the
            number stays positive.
    """

    name: str
    unit: Unit
    low: float
    high: float
    count: int
    limits: tuple[float, float] | None = None

    @property
    def logarithmic(self) -> bool:
        """Whether the values are spaced by factors."""
        return self.limits is None

    def around(self, value: float, half: float) -> tuple[float, float]:
        """The ends of an interval of so much to both sides, of the logarithm where values are spaced by factors.

        Example:
            >>> Free("momentum", "none", 0.1, 0.95, 6, limits=(0.0, math.inf)).around(0.5, 0.75)
            (0.0, 1.25)
        """
        if self.limits is None:
            return value * math.exp(-min(half, LARGEST)), value * math.exp(min(half, LARGEST))
        return max(value - half, self.limits[0]), min(value + half, self.limits[1])

    def grid(self, view: PromptView) -> list[float]:
        """The values to try."""
        if not self.logarithmic:
            return torch.linspace(self.low, self.high, self.count, dtype=torch.float64).tolist()
        points, dim = view.prompt.points, view.prompt.dim
        units = {
            "rate": 1 / view.size,
            "sum of squares": view.size * points,
            "length": (view.size * dim) ** 0.5,
            "product": 1 / (view.size * dim),
        }
        ends = torch.tensor([self.low, self.high], dtype=torch.float64).log10()
        values = torch.logspace(ends[0].item(), ends[1].item(), self.count, dtype=torch.float64)
        return (values * units.get(self.unit, 1.0)).tolist()


def in_parts(answers: Callable[[Sequence[Numbers]], Many], places: Sequence[Numbers], size: int) -> Many:
    """Answers at many places, at so many of them at a time as take little memory.

    Args:
        answers: Answers at some places.
        places: All places.
        size: How many numbers one place takes while it is worked out.
    """
    together = max(1, TOGETHER // size)
    return torch.cat([answers(places[i : i + together]) for i in range(0, len(places), together)])


class Family(abc.ABC):
    """A learner whose numbers are to be found."""

    whole: str
    """The name of the whole number; empty where there is none."""
    free: tuple[Free, ...]
    """The other numbers."""
    special: bool = False
    """Whether a plainer family is a part of it, and is to be tried before it as a part of mixtures."""

    @abc.abstractmethod
    def learner(self, count: int, numbers: Numbers) -> Predictor:
        """The learner with these numbers."""

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Float[Tensor, "batch query out"]:
        """What it answers; a family defines this or :meth:`sweep`, and the other follows."""
        return next(self.sweep(view, [numbers], (count,)))[0]

    def ordered(self, numbers: Numbers) -> Numbers:
        """The numbers in the order in which the learner shows them, where they can change places."""
        return numbers

    @property
    def example(self) -> Predictor:
        """A learner of this family, whatever its numbers."""
        return self.learner(1, tuple(0.5 for _ in self.free))

    def counts(self, view: PromptView) -> Sequence[int]:
        """The whole numbers to try first; a single 0 where there is none."""
        return (0,)

    def reach(self, view: PromptView) -> tuple[int, int]:
        """The least and the largest whole number that can be refuted, in the search for an interval."""
        counts = self.counts(view)
        return min(counts), max(counts)

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        """The answers at many places for ascending whole numbers, by one recursion where the learner has one."""
        for count in counts:
            yield torch.stack([self.answers(view, count, numbers) for numbers in places])

    def moved(self, numbers: Numbers, count: int, other: int, views: Sequence[PromptView]) -> Numbers:
        """Where a search begins at another whole number: a rate times its steps hardly changes."""
        if not other or not self.free or self.free[0].unit != "rate":
            return numbers
        return (numbers[0] * count / other, *numbers[1:])

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

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        return self.given.predict(view.prompt)
