"""Rate and epochs chosen without a look at the questions: on train rows that demonstrate nothing."""

import math
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from insitu.errors import InputError
from insitu.language import Answers, Reader, Weights
from insitu.language.measure.bench import Bench
from insitu.language.measure.unfinished import Piece

__all__ = ["Development", "DevelopmentScore", "collapse", "hold_out"]


@final
@dataclass(frozen=True)
class DevelopmentScore:
    """How well development rows are answered.

    Args:
        loss: The mean cross-entropy in nats among the labels, by which rate and epochs are chosen.
        objective: The mean of minus the log-probability of the right word among all words, which training lowers.
        constant: Whether every row gets the same label.
    """

    loss: float
    objective: float
    constant: bool

    @classmethod
    def of(cls, answers: Answers, right: Tensor) -> "DevelopmentScore":
        """The score of answers whose labels are known."""
        rows = torch.arange(len(right))
        labels = answers.labels.log_softmax(-1)
        chosen = labels.argmax(-1)
        return cls(
            -labels[rows, right].mean().item(),
            -answers.labels[rows, right].mean().item(),
            bool((chosen == chosen[0]).all()),
        )


@final
class Development:
    """Rows to choose on, and how the untouched model answers them.

    Args:
        bench: The rows as questions of their own.
        place: Where it is kept how the untouched model answers them.
    """

    def __init__(self, bench: Bench, place: Piece | None = None) -> None:
        self.bench = bench
        self.start = (place or Piece(None, resume=False)).once(DevelopmentScore, lambda: self.score({}))

    def score(self, weights: Weights) -> DevelopmentScore:
        """How well the rows are answered without demonstrations, with other weights."""
        answers = Reader(self.bench.model, weights or None).answers(self.bench.questions, batch=self.bench.batch)
        return DevelopmentScore.of(answers, self.bench.right)

    def collapse(self, score: DevelopmentScore) -> str:
        """Why training is given up here, if it is; see :func:`collapse`."""
        return collapse(score, self.start, len(self.bench.template.words))


def hold_out(bench: Bench, sets: int, shots: int, count: int) -> Bench:
    """Train rows that no demonstration set shows, as questions; as many as there are up to ``count``.

    Raises:
        InputError: If fewer than two rows are left.
    """
    shown = {row.id for number in range(sets) for row in bench.demonstrate(number, shots)}
    left = [row for row in bench.corpus.train if row.id not in shown]
    if len(left) < 2:
        raise InputError(
            f"lm compare: rates and epochs are chosen on train rows that are not demonstrated, and of "
            f"{len(bench.corpus.train)} train rows {len(left)} are left. Give more rows, or fewer demonstrations or "
            "sets."
        )
    drawn = (bench.seed / "development").permutation(len(left))[:count].tolist()
    return replace(bench, items=tuple(left[i] for i in drawn))


def collapse(score: DevelopmentScore, start: DevelopmentScore, labels: int) -> str:
    """Why training at this rate has collapsed, in words; nothing if it has not.

    Example:
        >>> start = DevelopmentScore(loss=0.6, objective=5.0, constant=False)
        >>> collapse(DevelopmentScore(loss=0.7, objective=9.0, constant=False), start, labels=2)
        'the loss on development rows rose from 5 to 9 nats'
        >>> collapse(DevelopmentScore(loss=2.7, objective=3.0, constant=True), start, labels=2)
        'it gives every row the same label, at more than twice the loss of guessing'
        >>> collapse(DevelopmentScore(loss=0.7, objective=3.0, constant=True), start, labels=2)
        ''
    """
    if not math.isfinite(score.objective):
        return "the loss is not a number any more"
    if score.objective > start.objective:
        return f"the loss on development rows rose from {start.objective:.2g} to {score.objective:.2g} nats"
    # One label for all may be passed through on the way; being twice as sure of wrong ones as guessing is not.
    if score.constant and score.loss > max(start.loss, 2 * math.log(labels)):
        return "it gives every row the same label, at more than twice the loss of guessing"
    return ""
