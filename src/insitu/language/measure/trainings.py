"""A model that is trained on demonstrations: what it answers after some epochs, and whether it breaks."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import final

from torch import Tensor

from insitu.language import Answers, Descent, Labelled, Reader, Weights, fine_tune_together
from insitu.language.measure.bench import Bench
from insitu.language.measure.development import Development, DevelopmentScore

__all__ = ["Course", "answer_with", "follow", "train_and_answer", "trained_weights"]

Train = Callable[..., Iterator[Weights]]


def train_and_answer(
    bench: Bench,
    runs: Sequence[Sequence[Labelled]],
    how: Descent,
    epochs: Sequence[int],
    train: Train = fine_tune_together,
) -> Iterator[list[Answers]]:
    """Zero-shot answers of every run after each of the epochs."""

    def answers(trained: list[Weights]) -> list[Answers]:
        return [answer_with(bench, weights) for weights in trained]

    # No loop here or below: its variable would hold the last weights while the next are trained.
    return map(answers, trained_weights(bench, runs, how, epochs, train))


def trained_weights(
    bench: Bench,
    runs: Sequence[Sequence[Labelled]],
    how: Descent,
    epochs: Sequence[int],
    train: Train = fine_tune_together,
) -> Iterator[list[Weights]]:
    """The weights of every run after each of the epochs."""
    return map(apart, train(bench.model, bench.template, runs, how, epochs))


def apart(together: Weights) -> list[Weights]:
    """The weights of each of several runs."""
    runs = len(next(iter(together.values())))
    return [{name: w[run] for name, w in together.items()} for run in range(runs)]


def answer_with(bench: Bench, weights: Weights) -> Answers:
    """Zero-shot answers with other weights."""
    return Reader(bench.model, weights).answers(bench.questions, batch=bench.batch)


@final
class Course:
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


def follow(
    bench: Bench, runs: Sequence[Sequence[Labelled]], how: Descent, epochs: Sequence[int], courses: Sequence[Course]
) -> None:
    """Train runs together and look at each after every epoch, until the last one or until all have collapsed."""
    started = time.perf_counter()
    for epoch, trained in zip(epochs, trained_weights(bench, runs, how, epochs), strict=True):
        elapsed = time.perf_counter() - started
        for course, weights in zip(courses, trained, strict=True):
            course.training_seconds += elapsed / len(courses)
            course.look(epoch, weights)
        if all(course.collapsed for course in courses):
            break
        started = time.perf_counter()
