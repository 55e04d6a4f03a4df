"""Which learners a language model's numbers are compared with: those that read a line, from several origins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor

from insitu.identification.family import Family, Fixed, Free, Many, Numbers
from insitu.identification.local_families import KernelFamily, NeighbourFamily, ProcessFamily, SoftmaxFamily
from insitu.identification.ordered_families import ForgettingFamily, KaczmarzFamily, OnlineFamily, RecentMeanFamily
from insitu.identification.scoring import predicted
from insitu.identification.spectra import PromptView
from insitu.identification.spectral_families import DescentFamily, LeastSquaresFamily, RidgeFamily
from insitu.language.numbers.lines import NumberLines
from insitu.learners import Mean, Zero
from insitu.predictor import Predictor
from insitu.prompt import Prompt

__all__ = ["FromOrigin", "Origin", "OriginFamily", "Rounded", "number_families"]


@final
@dataclass(frozen=True)
class Origin:
    """What a learner takes for zero.

    Args:
        name: In words.
        place: The same for every coordinate of an input, and for labels; none for the means of the examples.
    """

    name: str
    place: tuple[float, float] | None = None


EXAMPLES = Origin("the means of the examples")


@final
@dataclass(frozen=True)
class FromOrigin(Predictor):
    """A learner that measures inputs and labels from another origin.

    Args:
        learner: The learner.
        origin: The origin.

    Example:
        >>> from insitu.learners import Ridge
        >>> FromOrigin(Ridge(penalty=0.5), Origin("the number 0", (-1.98, -2.1))), FromOrigin(Ridge(penalty=0.5))
        (Ridge(penalty=0.5) from the number 0, Ridge(penalty=0.5) from the means of the examples)
    """

    learner: Predictor
    origin: Origin = EXAMPLES

    def predict(self, prompt: Prompt) -> Tensor:
        moved, level = from_origin(prompt, self.origin)
        return predicted(self.learner, moved) + level

    def __repr__(self) -> str:
        return f"{self.learner!r} from {self.origin.name}"


def from_origin(prompt: Prompt, origin: Origin) -> tuple[Prompt, Tensor]:
    """A prompt measured from another origin, and the level that its answers then lack."""
    if origin.place is None:
        x, y = prompt.xs.mean(1, keepdim=True), prompt.ys.mean(1, keepdim=True)
    else:
        x, y = (prompt.xs.new_full((1, 1, 1), value) for value in origin.place)
    return Prompt(prompt.xs - x, prompt.ys - y, prompt.queries - x), y


@final
@dataclass(frozen=True)
class OriginFamily(Family):
    """A family that measures inputs and labels from another origin."""

    family: Family
    origin: Origin = EXAMPLES
    special: bool = True

    @property
    def whole(self) -> str:  # type: ignore[override]
        """As the family itself."""
        return self.family.whole

    @property
    def free(self) -> tuple[Free, ...]:  # type: ignore[override]
        """As the family itself."""
        return self.family.free

    @property
    def size(self) -> int:
        return self.family.size

    def learner(self, count: int, numbers: Numbers) -> Predictor:
        return FromOrigin(self.family.learner(count, numbers), self.origin)

    def counts(self, view: PromptView) -> Sequence[int]:
        return self.family.counts(self._moved(view)[0])

    def reach(self, view: PromptView) -> tuple[int, int]:
        return self.family.reach(self._moved(view)[0])

    def sweep(self, view: PromptView, places: Sequence[Numbers], counts: Sequence[int]) -> Iterator[Many]:
        moved, level = self._moved(view)
        return (answers + level for answers in self.family.sweep(moved, places, counts))

    def answers(self, view: PromptView, count: int, numbers: Numbers) -> Tensor:
        moved, level = self._moved(view)
        return self.family.answers(moved, count, numbers) + level

    def moved(self, numbers: Numbers, count: int, other: int, views: Sequence[PromptView]) -> Numbers:
        return self.family.moved(numbers, count, other, [self._moved(view)[0] for view in views])

    def _moved(self, view: PromptView) -> tuple[PromptView, Tensor]:
        """The prompts from the origin, made once for all families."""
        known = view.__dict__.setdefault("moved", {})
        if self.origin not in known:
            prompt, level = from_origin(view.prompt, self.origin)
            known[self.origin] = (PromptView(prompt), level)
        found: tuple[PromptView, Tensor] = known[self.origin]
        return found


@final
@dataclass(frozen=True)
class Rounded(Predictor):
    """A learner whose answers are rounded to whole numbers of the range.

    Args:
        learner: The learner.
        lines: The range, and how a learner sees its numbers.
        level: What is taken off labels and answers before a learner sees them.
    """

    learner: Predictor
    lines: NumberLines
    level: float = 0.0

    def predict(self, prompt: Prompt) -> Tensor:
        whole = self.lines.written(predicted(self.learner, prompt) + self.level).round()
        return (self.lines.seen(whole.clamp(self.lines.low, self.lines.high)) - self.level).to(prompt.ys)

    def __repr__(self) -> str:
        return f"{self.learner!r}, rounded"


def number_families(lines: NumberLines, level: float = 0.0) -> tuple[Family, ...]:
    """All candidates: from the level of the answers, from the means of the examples, and from the number zero.

    Args:
        lines: How a learner sees the numbers.
        level: What is taken off labels and answers before a learner sees them.
    """
    zero = float(lines.seen(torch.zeros(())))
    by_examples = OriginFamily
    by_zero = partial(OriginFamily, origin=Origin("the number 0", (zero, zero - level)))
    return (
        Fixed(Zero()),
        Fixed(Mean()),
        LeastSquaresFamily(intercept=True),
        KaczmarzFamily(single=True),
        DescentFamily(single=True),
        RidgeFamily(),
        OnlineFamily(single=True),
        NeighbourFamily(),
        KernelFamily(),
        SoftmaxFamily(),
        DescentFamily(),
        RecentMeanFamily(),
        RidgeFamily(intercept=True),
        DescentFamily(single=True, intercept=True),
        OnlineFamily(decays=True, single=True),
        ForgettingFamily(),
        ProcessFamily("rbf"),
        ProcessFamily("matern-1/2"),
        DescentFamily(intercept=True),
        by_examples(DescentFamily(single=True)),
        by_examples(KaczmarzFamily(single=True)),
        by_examples(OnlineFamily(single=True)),
        by_examples(ForgettingFamily()),
        by_examples(ProcessFamily("rbf")),
        by_examples(ProcessFamily("matern-1/2")),
        by_zero(DescentFamily(single=True)),
        by_zero(RidgeFamily()),
        by_zero(OnlineFamily(single=True)),
        by_zero(ForgettingFamily()),
        by_zero(ProcessFamily("rbf")),
    )
