"""How long a comparison will take, before it starts.

The seconds are measured: a few questions are read and one epoch is trained, and all the rest is counted in their units.
What a run that collapses will save is not known beforehand and not taken off.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from insitu.language import Descent, Labelled, Question, Reader, fine_tune_together, pose, runs_at_once
from insitu.language.measure.bench import Bench
from insitu.language.measure.compare import Comparison, arm_name
from insitu.language.measure.masks import ARMS, FineTuning, fine_tuned
from insitu.language.measure.memory import GIGA, memory_needed
from insitu.language.measure.order import READING, Orders
from insitu.language.measure.readings import ZERO_SHOT

__all__ = ["Forecast", "forecast", "forecast_of_masks", "forecast_of_orders"]

# Up to how many seconds one probe is repeated or made larger; a few texts at a time are slower, token for token.
ENOUGH = 1.5


@final
@dataclass(frozen=True)
class Forecast:
    """The predicted seconds of every arm, for one demonstration set.

    Args:
        arms: Seconds by number of demonstrations and arm.
        zero_shot: Seconds of the answers without demonstrations, which are read once for all sets.
        sets: How many demonstration sets.
        bytes: The memory that is needed beyond the model.
    """

    arms: Mapping[tuple[Any, str], float]
    zero_shot: float
    sets: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"This takes about {duration(self.seconds)}, less where a way of training collapses and is stopped, and "
            f"{self.bytes / GIGA:.1f} GB of memory beyond the model."
        )

    @property
    def seconds(self) -> float:
        """How long everything takes."""
        return self.zero_shot + self.sets * sum(self.arms.values())

    def of(self, record: dict[str, Any]) -> float:
        """What of it a record stands for."""
        first = record["arm"] == ZERO_SHOT and record["set"] == 0 and record["shots"] == self.first
        return self.arms[record["shots"], record["arm"]] + (self.zero_shot if first else 0.0)

    @property
    def first(self) -> int:
        """The number of demonstrations that comes first."""
        return next(shots for shots, _ in self.arms)


def forecast(bench: Bench, setting: Comparison) -> Forecast:
    """Read and train a little, and count the rest."""
    needed = memory_needed(bench, max(setting.shots), setting.sets, setting.descents)
    pace = MeasuredPace(bench, setting)
    arms: dict[tuple[int, str], float] = {}
    for shots in setting.shots:
        reading = pace.in_context(shots)
        arms |= {(shots, name): 0.0 if is_free(name, shots) else reading for name in setting.readings(shots)}
        arms |= {(shots, arm_name(how)): pace.training(how, shots) for how in setting.descents}
    return Forecast(arms, pace.zero_shot * pace.questions, setting.sets, needed.peak)


def forecast_of_orders(bench: Bench, setting: Orders) -> Forecast:
    """The same for ``insitu lm order``: every order is read and trained on, and the first one once more."""
    s, again = setting, setting.orders + 1
    needed = memory_needed(bench, s.shots, s.orders, s.descents)
    pace = MeasuredPace(bench, Comparison((s.shots,), s.orders, s.orders, s.descents, s.epochs))
    arms = {(s.shots, READING): again * pace.in_context(s.shots)}
    arms |= {(s.shots, arm_name(how)): again * pace.training(how, s.shots) for how in s.descents}
    return Forecast(arms, pace.zero_shot * pace.questions, s.sets, needed.peak)


def forecast_of_masks(mixture: Sequence[Bench], held_out: Sequence[Bench], setting: FineTuning) -> Forecast:
    """The same for ``insitu lm mask``: a few steps of a fine-tuning, and a few questions of each held-out data set."""
    most = max(setting.shots)
    paces = [MeasuredPace(b, Comparison((most,), 1, 1, (), (0,))) for b in held_out]
    start = functools.partial(fine_tuned, mixture, attention="causal", seed=mixture[0].seed / "forecast")
    reading = sum(pace.in_context(shots) for pace in paces for shots in setting.shots)
    few, more = (timed(functools.partial(start, replace(setting, steps=steps))) for steps in (1, 3))
    training = few + max(0.0, more - few) / 2 * (setting.steps - 1)
    shots = "-".join(map(str, setting.shots))
    arms = {(shots, arm.name): reading + training * arm.tuned for arm in ARMS}
    return Forecast(arms, 0.0, setting.seeds, 8 * sum(w.numel() for w in mixture[0].model.network.parameters()) * 4)


def is_free(name: str, shots: int) -> bool:
    """Whether a reading is made of others, or is one of them."""
    made = (ZERO_SHOT, "orders averaged", "calibrated")
    return name in made or (shots == 1 and name == "another order")


@final
class MeasuredPace:
    """Seconds of a token that is read, and of an epoch that is trained, as measured here."""

    def __init__(self, bench: Bench, setting: Comparison) -> None:
        self.bench, self.setting = bench, setting
        self.questions = padded(bench.questions, bench.batch)
        self.most = bench.demonstrate(0, max(setting.shots))
        # The first reading tries the model's short cuts, which later ones do not.
        Reader(bench.model).answers(
            pose(bench.model, bench.template, [bench.template.prompt(bench.texts[0], self.most)])
        )
        self.zero_shot = self.per_token(())
        self.context = self.per_token(self.most)
        self.epochs: dict[tuple[Any, ...], float] = {}

    def per_token(self, shown: Sequence[Labelled]) -> float:
        """Seconds of a token: more and more questions are read together until it takes long enough to tell."""
        b, stem, count, seconds = self.bench, self.stem(shown), 1, 0.0
        questions = pose(b.model, b.template, [b.template.prompt(text, shown) for text in b.texts[: b.batch]])
        while seconds < ENOUGH and count < len(questions):
            count = min(2 * count, len(questions))
            seconds = self.seconds(questions[:count])
        return seconds / (stem + padded(questions[:count], b.batch, stem))

    def seconds(self, questions: Sequence[Question]) -> float:
        """Seconds of reading some questions."""
        return timed(lambda: Reader(self.bench.model).answers(questions, batch=self.bench.batch))

    def stem(self, shown: Sequence[Labelled]) -> int:
        """How many tokens the demonstrations have."""
        return len(self.bench.model.encode(self.bench.template.stem(shown))) if shown else 0

    def in_context(self, shots: int) -> float:
        """Seconds of reading all questions after so many demonstrations, which are read once."""
        return (self.stem(self.most[:shots]) + self.questions) * self.context

    def training(self, how: Descent, shots: int) -> float:
        """Seconds of training on a set of so many demonstrations, with all looks."""
        s = self.setting
        looks = len(s.epochs) if s.every else 1
        rows = s.development * len(s.epochs) * self.questions / len(self.bench.questions)
        return s.epochs[-1] * self.epoch(how, shots) + (looks * self.questions + rows) * self.zero_shot

    def epoch(self, how: Descent, shots: int) -> float:
        """Seconds of an epoch on so many demonstrations: measured with the fewest and the most, a line between."""
        few, many = min(self.setting.shots), max(self.setting.shots)
        low, high = self.measured(how, few), self.measured(how, many)
        return low if few == many else low + (high - low) * (shots - few) / (many - few)

    def measured(self, how: Descent, shots: int) -> float:
        """Seconds of an epoch of one run, at a rate that does not matter; of several together where they are quick."""
        key = how.optimiser, how.batch, how.part, shots
        if key not in self.epochs:
            b, runs = self.bench, 1
            train = self.trainer(how, shots)
            self.epochs[key] = timed(lambda: train(1))
            runs = min(self.setting.sets, runs_at_once(b.model, how))
            if self.epochs[key] < ENOUGH and runs > 1:
                self.epochs[key] = timed(lambda: train(runs)) / runs
        return self.epochs[key]

    def trainer(self, how: Descent, shots: int) -> Callable[[int], Any]:
        """What trains an epoch on so many runs."""
        b = self.bench
        return lambda runs: next(iter(fine_tune_together(b.model, b.template, [self.most[:shots]] * runs, how, [1])))


def padded(questions: Sequence[Question], batch: int, common: int = 0) -> int:
    """How many tokens are read for questions, which are padded to the longest of a batch, short ones first.

    Args:
        questions: The questions.
        batch: How many are read together.
        common: With how many tokens they all begin, which are read once and not counted.
    """
    lengths = sorted(len(q.prompt) - common + sum(len(word) - 1 for _, word in q.words) for q in questions)
    batches = [lengths[i : i + batch] for i in range(0, len(lengths), batch)]
    return sum(len(own) * own[-1] for own in batches)


def duration(seconds: float) -> str:
    """A duration in words.

    Example:
        >>> duration(4.2), duration(75), duration(600), duration(9000)
        ('5 seconds', '75 seconds', '10 minutes', '2.5 hours')
    """
    if seconds < 100:
        return f"{math.ceil(seconds)} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"


def timed(work: Callable[[], Any]) -> float:
    """The seconds of doing something, the least of a few times where it is quick."""
    seconds: list[float] = []
    while not seconds or (sum(seconds) < ENOUGH and len(seconds) < 3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
