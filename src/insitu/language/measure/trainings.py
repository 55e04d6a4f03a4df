"""A model that is trained on demonstrations: what it answers after some epochs, and whether it breaks."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

from torch import Tensor

from insitu.budget import budget
from insitu.language import Answers, Descent, Labelled, Reader, Weights
from insitu.language.measure.bench import Bench
from insitu.language.measure.development import Development, DevelopmentScore
from insitu.language.measure.unfinished import Piece
from insitu.language.models.fine_tuning import Progress, Together, require_epochs

__all__ = ["Course", "answer_with", "follow", "train_and_answer"]


def answer_with(bench: Bench, weights: Weights) -> Answers:
    """Zero-shot answers with other weights."""
    return Reader(bench.model, weights).answers(bench.questions, batch=bench.batch)


class Looks(ABC):
    """What is seen of one run of training, epoch after epoch.

    Attributes:
        collapsed: Why the run was given up; empty if it was not.
    """

    collapsed: str = ""

    @abstractmethod
    def look(self, epoch: int, weights: Weights) -> None:
        """Look at the weights after an epoch."""

    def spend(self, seconds: float) -> None:  # noqa: B027 - not everyone counts
        """Count seconds of training."""

    @property
    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What was seen so far."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take what was seen in an earlier sitting."""


@final
class Course(Looks):
    """One run of training as it is looked at, epoch after epoch.

    Args:
        measured: Answers the questions with trained weights, and says what is measured of the answers.
        development: The rows to choose the epoch on; the last epoch is taken if there are none.
        every: Whether the questions are answered after every epoch, or after the chosen one alone.
    """

    def __init__(
        self,
        measured: Callable[[Weights], tuple[Answers, dict[str, Tensor]]],
        development: Development | None,
        *,
        every: bool,
    ) -> None:
        self.measured, self.development, self.every = measured, development, every
        self.scores: list[DevelopmentScore] = []
        self.measures: dict[int, dict[str, Tensor]] = {}
        self.answers: Answers | None = None
        self.least, self.chosen = math.inf, 0
        self.weights: Weights = {}
        self.collapsed = ""
        self.training_seconds = self.reading_seconds = 0.0

    @property
    def state(self) -> dict[str, Any]:
        given = ("measured", "development", "every")
        return {name: value for name, value in vars(self).items() if name not in given}

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def spend(self, seconds: float) -> None:
        self.training_seconds += seconds

    def look(self, epoch: int, weights: Weights) -> None:
        """Look at the weights after an epoch, unless the run has collapsed before."""
        if self.collapsed:
            return
        better = self.development is None or self.judge(self.development, weights)
        if better:
            self.chosen, self.weights = epoch, weights
        if self.every and (better or math.isfinite(self.scores[-1].objective)):
            self.answer(epoch, weights)

    def judge(self, development: Development, weights: Weights) -> bool:
        """Whether an epoch is better than all before it, as far as development rows say."""
        started = time.perf_counter()
        score = development.score(weights)
        self.scores.append(score)
        self.collapsed = development.collapse(score)
        better = score.loss < self.least  # never for what is not a number
        self.least = score.loss if better else self.least
        self.training_seconds += time.perf_counter() - started
        return better

    def answer(self, epoch: int, weights: Weights) -> None:
        """Answer the questions; the answers of the chosen epoch are kept."""
        started = time.perf_counter()
        answers, self.measures[epoch] = self.measured(weights)
        self.answers = answers if epoch == self.chosen else self.answers
        self.reading_seconds = time.perf_counter() - started

    def finish(self) -> Answers:
        """The answers after the chosen epoch, 0 if training broke the model at once."""
        if self.answers is None or self.chosen not in self.measures:
            self.answer(self.chosen, self.weights)
        assert self.answers is not None
        self.weights = {}
        return self.answers


@final
class AnswersOfEpochs(Looks):
    """The answers of one run of training after every epoch that is looked at."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.answers: dict[int, Answers] = {}

    @property
    def state(self) -> dict[str, Any]:
        return {"answers": self.answers}

    def restore(self, state: dict[str, Any]) -> None:
        self.answers = state["answers"]

    def look(self, epoch: int, weights: Weights) -> None:
        self.answers[epoch] = answer_with(self.bench, weights)


def train_and_answer(
    bench: Bench,
    runs: Sequence[Sequence[Labelled]],
    how: Descent,
    epochs: Sequence[int],
    place: Piece | None = None,
) -> Iterator[list[Answers]]:
    """Zero-shot answers of every run after each of the epochs; ``place`` keeps the training between sittings."""
    looks = [AnswersOfEpochs(bench) for _ in runs]
    follow(bench, runs, how, epochs, looks, place)
    return ([own.answers[epoch] for own in looks] for epoch in epochs)


def follow(
    bench: Bench,
    runs: Sequence[Sequence[Labelled]],
    how: Descent,
    epochs: Sequence[int],
    looks: Sequence[Looks],
    place: Piece | None = None,
) -> None:
    """Train runs together and look at each after some epochs, until the last one or until all have collapsed.

    Args:
        bench: The model and its questions.
        runs: The demonstrations of every run.
        how: The way of training.
        epochs: After which epochs to look, in rising order.
        looks: What looks at each run.
        place: Where the training is kept when the budget is spent before its end, and taken up.

    Raises:
        InputError: As :func:`~insitu.language.models.fine_tuning.fine_tune_together`.
        OutOfTimeError: If the budget of the process is spent before the end.
        StorageError: If the training cannot be stored.
    """
    require_epochs(epochs)
    Following(Together(bench.model, bench.template, runs, how), epochs, looks, place).run()


@final
class Following:
    """A training that is looked at, and goes on in the next sitting."""

    def __init__(self, together: Together, epochs: Sequence[int], looks: Sequence[Looks], place: Piece | None) -> None:
        self.together, self.epochs, self.looks = together, epochs, looks
        self.place = place or Piece(None, resume=False)
        self.begun = 0

    def run(self) -> None:
        """Train until the end, from where an earlier sitting stopped."""
        progress = self.restored()
        if progress is None:
            progress = self.together.start
            self.look(progress)
        while not self.ended(progress):
            if budget().spent:
                self.leave(progress)
            started = time.perf_counter()
            self.together.advance(progress)
            for own in self.looks:
                own.spend((time.perf_counter() - started) / len(self.looks))
            self.look(progress)
        # What comes next may be cut short.
        if progress.steps > self.begun and budget().left < math.inf:
            self.store(Progress(progress.steps, {}, {}))

    def ended(self, progress: Progress) -> bool:
        """Whether nothing is left to do."""
        return self.together.epoch(progress) == self.epochs[-1] or all(own.collapsed for own in self.looks)

    def look(self, progress: Progress) -> None:
        """Look at every run, if it is time."""
        epoch = self.together.epoch(progress)
        if epoch is None or epoch not in self.epochs:
            return
        weights = self.together.weights(progress)
        for run, own in enumerate(self.looks):
            own.look(epoch, {name: w[run] for name, w in weights.items()})

    def restored(self) -> Progress | None:
        """Where an earlier sitting stopped; none if there is no such."""
        kept = self.place.load(Progress, Answers, DevelopmentScore)
        if not isinstance(kept, dict):
            return None
        for own, state in zip(self.looks, kept["looks"], strict=True):
            own.restore(state)
        self.begun = kept["progress"].steps
        return kept["progress"]

    def store(self, progress: Progress) -> None:
        """Keep what a later sitting needs."""
        self.place.store({"progress": progress, "looks": [own.state for own in self.looks]})

    def leave(self, progress: Progress) -> None:
        """Stop here.

        Raises:
            OutOfTimeError: Always.
        """
        if progress.steps > self.begun:
            self.store(progress)
        raise budget().over()
