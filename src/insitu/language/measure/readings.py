"""What is read for one demonstration set: in context in several orders, without demonstrations, and controls."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from insitu.language import Answers, Labelled, Reader, Template, Weights, average, calibrated, pose, read
from insitu.language.measure.bench import Bench
from insitu.language.measure.unfinished import Piece, Unfinished
from insitu.language.models.hidden_states import AttentionStates, attention_states, similarities
from insitu.language.models.in_context import CONTENT_FREE
from insitu.language.models.untrained import without_training

__all__ = ["CONTROLS", "ICL", "READINGS", "ZERO_SHOT", "Readings", "Timed", "ZeroShot", "order_name", "reading_names"]

ICL = "in context"
ZERO_SHOT = "zero-shot"
READINGS = (
    ZERO_SHOT,
    ICL,
    "another order",
    "other demonstrations",
    "another template",
    "orders averaged",
    "calibrated",
    "untrained",
)
# What the paper compares with, and a decision between prompting and fine-tuning does not need.
CONTROLS = ("other demonstrations", "untrained")


def order_name(i: int) -> str:
    """What the reading in the i-th order is called, counted from 0.

    Example:
        >>> [order_name(i) for i in range(3)]
        ['in context', 'another order', 'order 3']
    """
    return (ICL, "another order")[i] if i < 2 else f"order {i + 1}"


def reading_names(shots: int, orders: int, *, controls: bool, other: bool) -> list[str]:
    """The readings of a set: every different order up to so many, and what was asked for besides."""
    left_out = (() if controls else CONTROLS) + (() if other else ("another template",))
    left_out += () if controls or orders > 1 else ("another order",)
    names = [name for name in READINGS if name not in left_out]
    place = names.index("orders averaged")
    more = range(2, min(orders, math.factorial(min(shots, 20))))
    return names[:place] + [order_name(i) for i in more] + names[place:]


@final
@dataclass(frozen=True, eq=False)
class Timed:
    """Answers, and how many seconds reading them took."""

    answers: Answers
    seconds: float

    @classmethod
    def of(cls, work: Callable[[], Answers], place: Piece | None = None) -> "Timed":
        """Answers as they are read, or as an earlier sitting read them and kept them at a place."""

        def timed() -> Timed:
            started = time.perf_counter()
            answers = work()
            return cls(answers, time.perf_counter() - started)

        return timed() if place is None else place.once(cls, timed, Answers)


@final
class ZeroShot:
    """The answers without demonstrations, which are the same for every set: read once, when first needed."""

    def __init__(self, bench: Bench, place: Piece) -> None:
        self.bench = bench
        self.place = place
        self.timed: Timed | None = None

    def __call__(self) -> Timed:
        if self.timed is None:
            b = self.bench
            self.timed = Timed.of(lambda: Reader(b.model).answers(b.questions, batch=b.batch), self.place)
        return self.timed


@final
class Readings:
    """The answers of everything that is read for one demonstration set; each is read when first needed.

    Args:
        bench: The model and its questions.
        number: Which demonstration set.
        shots: How many demonstrations.
        orders: In how many orders they are read, where there are so many.
        reader: What reads.
        zero_shot: The answers without demonstrations.
        kept: Where readings are kept that others are compared with.
        other: Another template to read with.
    """

    def __init__(
        self,
        bench: Bench,
        number: int,
        shots: int,
        orders: int,
        reader: Reader,
        zero_shot: ZeroShot,
        kept: Unfinished,
        other: Template | None = None,
    ) -> None:
        self.bench, self.number, self.reader, self.zero_shot, self.other = bench, number, reader, zero_shot, other
        self.kept = kept
        self.shown = bench.demonstrate(number, shots)
        self.count = orders
        self.orders = own_orders(bench, number, shots, orders)
        self.timed: dict[str, Timed] = {}
        self.states: tuple[AttentionStates, AttentionStates] | None = None

    def __getitem__(self, name: str) -> Timed:
        if name not in self.timed:
            made: dict[str, Callable[[], Timed]] = {
                ZERO_SHOT: self.zero_shot,
                "other demonstrations": self.others,
                "another template": self.another_template,
                "orders averaged": self.averaged,
                "calibrated": self.calibrated,
                "untrained": self.untrained,
            }
            self.timed[name] = made.get(name, lambda: self.in_order(name))()
        return self.timed[name]

    def forget(self) -> None:
        """Keep only what everything else is compared with: an answer is a number for every token there is."""
        self.timed = {name: self.timed[name] for name in (ZERO_SHOT, ICL) if name in self.timed}

    def order(self, name: str) -> list[int]:
        """The order that a reading by this name has; the one drawn where there is no other one."""
        names = [order_name(i) for i in range(len(self.orders))]
        return self.orders[names.index(name)] if name in names else self.orders[0]

    def in_order(self, name: str) -> Timed:
        order = self.order(name)
        if name != ICL and order == self.orders[0]:
            return self[ICL]
        return self.read([self.shown[i] for i in order], self.kept.piece(name))

    def read(self, shown: Sequence[Labelled], place: Piece | None = None) -> Timed:
        b = self.bench
        return Timed.of(lambda: read(b.model, b.template, shown, b.texts, reader=self.reader, batch=b.batch), place)

    def others(self) -> Timed:
        return self.read(self.bench.demonstrate(self.number, len(self.shown), "others"))

    def another_template(self) -> Timed:
        assert self.other is not None
        b, other = self.bench, self.other
        return Timed.of(lambda: read(b.model, other, self.shown, b.texts, batch=b.batch))

    def averaged(self) -> Timed:
        every = [self[order_name(i)] for i in range(min(self.count, len(self.orders)))]
        return Timed(average([own.answers for own in every]), sum(own.seconds for own in every))

    def calibrated(self) -> Timed:
        b, own = self.bench, self[ICL]
        free = Timed.of(lambda: read(b.model, b.template, self.shown, CONTENT_FREE, reader=self.reader, batch=b.batch))
        answers = calibrated(own.answers, free.answers, b.questions[0].firsts)
        return Timed(answers, own.seconds + free.seconds)

    def hidden(self, weights: Weights) -> dict[str, Tensor]:
        """SimAOU and SimAM of trained weights for each question, means over layers, and what noise gives."""
        b = self.bench
        if self.states is None:
            prompts = [b.template.prompt(text, self.shown) for text in b.texts]
            read = attention_states(b.model, pose(b.model, b.template, prompts), b.questions)
            self.states = read, attention_states(b.model, b.questions, b.questions)
        read, start = self.states
        return similarities(read, attention_states(b.model, b.questions, b.questions, weights), start, b.seed / "noise")

    def untrained(self) -> Timed:
        b = self.bench
        fresh = Reader(b.model, without_training(b.model, b.seed / "untrained"))
        return Timed.of(lambda: read(b.model, b.template, self.shown, b.texts, reader=fresh, batch=b.batch))


def own_orders(bench: Bench, number: int, shots: int, count: int) -> list[list[int]]:
    """The order drawn, then another one where there is one, then more up to ``count``; all different."""
    own = list(range(shots))
    drawn = bench.orders(number, shots, max(2, count) + 1).tolist()
    different = [own, *(order for order in drawn if order != own)]
    unique = list(dict.fromkeys(map(tuple, different)))
    return [list(order) for order in unique[: max(2, count)]]
