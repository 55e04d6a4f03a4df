r"""The distribution of a language model over the whole numbers of a range, exactly.

A whole number v is written as its digits and what ends a label, and its tokens are those that the tokeniser gives it
behind the prompt, :math:`t_1, \ldots, t_k`, the last of which ends it. Its probability is

.. math:: p(v) = \prod_{i=1}^{k} p(t_i \mid \text{prompt}, t_1, \ldots, t_{i-1}),

so that 5 and 52 differ: behind the digit 5 the model must say the end. All numbers together are a tree of tokens (of
digits, where the tokeniser keeps them apart); it is walked as a whole, every beginning once, behind keys and values of
the examples that are computed once for all queries. Nothing is sampled. What is left, :math:`1 - \sum_v p(v)`, is what
the model would say instead of a number of the range: other words, other numbers, other spellings such as 052.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.language.models.forwards import Question
from insitu.language.models.pretrained import LanguageModel
from insitu.language.models.reading import Reader, Weights
from insitu.language.models.self_test import self_test
from insitu.language.numbers.lines import NumberLines
from insitu.prompt import Prompt

__all__ = ["NumberAnswers", "NumberReader"]


@final
@dataclass(frozen=True, eq=False)
class NumberAnswers:
    """Distributions over the whole numbers of a range.

    Args:
        logs: The log-probability of every number.
        numbers: The numbers.
    """

    logs: Float[Tensor, "batch query number"]
    numbers: range

    @property
    def mass(self) -> Float[Tensor, "batch query"]:
        """The probability of all numbers of the range together."""
        return self.logs.logsumexp(-1).exp()

    @property
    def mean(self) -> Float[Tensor, "batch query"]:
        """The mean number, of those of the range."""
        return self.logs.softmax(-1) @ torch.tensor(self.numbers, dtype=torch.float64)

    @property
    def spread(self) -> Float[Tensor, "batch query"]:
        """The standard deviation around the mean."""
        away = torch.tensor(self.numbers, dtype=torch.float64) - self.mean[..., None]
        return (self.logs.softmax(-1) * away.square()).sum(-1).sqrt()


@final
class NumberReader:
    """Reads prompts of whole numbers with a language model.

    Args:
        model: The model.
        lines: How numbers are written.
        weights: Weights in place of the model's own.

    Raises:
        InputError: If the tokeniser does not keep the numbers apart, or joins what ends a label to what follows it.
    """

    def __init__(self, model: LanguageModel, lines: NumberLines, weights: Weights | None = None) -> None:
        self.model, self.lines, self.weights = model, lines, weights
        self.reader = Reader(model, weights)
        self.words = functools.cache(self._words)
        self._require_numbers()
        self._require_end()

    def answers(self, whole: Prompt, *, batch: int = 4, tell: Callable[[], None] = lambda: None) -> NumberAnswers:
        """The distribution behind every query of every prompt.

        Args:
            whole: Prompts of whole numbers with one output.
            batch: How many queries to read together.
            tell: Is called after every prompt.

        Raises:
            InputError: If a number lies outside of the range or is not whole, or a prompt is longer than the model's
                window.
        """
        self._require_range(whole)
        logs = []
        for row in range(whole.batch):
            questions = self.questions(whole, row)
            width = max(len(q.prompt) + tree_size(q) for q in questions)
            self.reader.shortcuts = self_test(self.model).shortcuts(min(width, self.model.window))
            logs.append(self.reader.answers(questions, batch=batch).labels)
            tell()
        return NumberAnswers(torch.stack(logs), self.lines.numbers)

    def questions(self, whole: Prompt, row: int) -> list[Question]:
        """One prompt as tokens, a question for every query."""
        xs, ys, queries = (t[row].long().tolist() for t in (whole.xs, whole.ys, whole.queries))
        return [self.question(self.lines.text(xs, [y for (y,) in ys], query), query) for query in queries]

    def question(self, text: str, query: list[int]) -> Question:
        """A prompt as tokens, with the tokens of every number behind it."""
        words = self.words(self.lines.question(query))
        last = words[-1][1]
        tokens = self.model.encode(f"{text}{self.lines.high}{self.lines.end}")
        prompt = tokens[: -len(last)]
        if tuple(tokens[-len(last) :]) != last:
            raise InputError(
                f"numbers: {self.model.name} reads {self.lines.high} behind a long prompt as the tokens "
                f"{tokens[-len(last) :]} and behind a short one as {list(last)}. Write the numbers another way "
                "(--middle, --end), or take a model whose tokeniser reads words one by one."
            )
        width = len(prompt) + max(len(word) for _, word in words)
        if width > self.model.window:
            raise InputError(
                f"numbers: a prompt of {text.count(self.lines.end)} examples has {width} tokens and {self.model.name} "
                f"reads at most {self.model.window}. Ask for fewer examples (--points)."
            )
        return Question(tuple(prompt), words)

    def _words(self, line: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The tokens of every number behind a line, those that all of them share left out."""
        # An example before it, so that the line stands where it stands in a prompt.
        before = f"{self.lines.question([self.lines.low])}{self.lines.low}{self.lines.end}{line}"
        found = [self.model.encode(f"{before}{number}{self.lines.end}") for number in self.lines.numbers]
        shared = 0
        while len({tokens[shared] if shared < len(tokens) else -1 for tokens in found}) == 1:
            shared += 1
        return tuple((str(v), tuple(tokens[shared:])) for v, tokens in zip(self.lines.numbers, found, strict=True))

    def _require_numbers(self) -> None:
        """Refuse a tokeniser that loses numbers."""
        words = self.words(self.lines.question([self.lines.low]))
        seen: dict[tuple[int, ...], str] = {}
        for number, word in words:
            same = seen.setdefault(word, number)
            if same != number or not word or number not in "".join(str(self.model.word(t)) for t in word):
                raise InputError(
                    f"numbers: the tokeniser of {self.model.name} does not keep {number} apart"
                    f"{'' if same == number else f' from {same}'}: its tokens {list(word)} read "
                    f"{''.join(self.model.word(t) for t in word)!r}. Take a model that knows digits, such as smollm2."
                )

    def _require_end(self) -> None:
        """Refuse a tokeniser that joins the end of a line to the next one: then no label would end."""
        text = f"{self.lines.question([self.lines.low])}{self.lines.high}{self.lines.end}"
        alone, followed = self.model.encode(text), self.model.encode(text + self.lines.start)
        if followed[: len(alone)] != alone:
            raise InputError(
                f"numbers: the tokeniser of {self.model.name} joins the end of a line, {self.lines.end!r}, to the "
                f"start of the next, {self.lines.start!r}. Choose others (--end, --start)."
            )

    def _require_range(self, whole: Prompt) -> None:
        """Refuse numbers that cannot be written."""
        values = torch.cat([t.flatten() for t in (whole.xs, whole.ys, whole.queries)])
        wrong = values[(values != values.round()) | (values < self.lines.low) | (values > self.lines.high)]
        if len(wrong) or whole.out != 1:
            found = f"the number {wrong[0].item():.6g}" if len(wrong) else f"{whole.out} outputs"
            raise InputError(
                f"numbers: a prompt holds {found}; expected one output and whole numbers from {self.lines.low} to "
                f"{self.lines.high}."
            )


def tree_size(question: Question) -> int:
    """How many tokens are read behind a prompt: the beginnings of all numbers, each once."""
    return len({word[:size] for _, word in question.words for size in range(1, len(word))})
