"""Prompts as questions, and what reads them: by the fastest way that a model's self-test found exact."""

from collections.abc import Sequence
from typing import final

from jaxtyping import Int
from torch import Tensor

from insitu.errors import InputError, require_count
from insitu.language.models.forwards import Answers, Forwards, Question, Shortcuts, Weights
from insitu.language.models.pretrained import LanguageModel
from insitu.language.models.self_test import self_test
from insitu.language.texts.templates import Template

__all__ = ["Answers", "Question", "Reader", "Weights", "pose"]


def pose(model: LanguageModel, template: Template, prompts: Sequence[str], rows: Sequence[str] = ()) -> list[Question]:
    """Prompts as questions.

    The words are taken from encoding prompt and word together, so that each stands behind the prompt as it would in a
    text.

    Args:
        model: The model.
        template: How a text is put into words.
        prompts: The prompts.
        rows: What each prompt is called where it is too long; its place, counted from 0, if not given.

    Raises:
        InputError: If a word changes the tokens of its prompt or has those of another, or prompt
            and word are longer than what the model reads.
    """
    questions = []
    for i, prompt in enumerate(prompts):
        name = rows[i] if rows else f"prompt {i}"
        context, words = template.label_words(model.encode, prompt)
        question = Question(tuple(context), tuple((label, tuple(w)) for label, w in words.items()))
        if question.length > model.window:
            raise InputError(
                f"next tokens: {name} with its label word has {question.length} tokens and {model.name} reads at most "
                f"{model.window}; it ends in {prompt[-60:]!r}. Use fewer demonstrations or shorter texts."
            )
        questions.append(question)
    return questions


@final
class Reader:
    """Reads with a model, and keeps the keys and values of what it read last where that is exact.

    Args:
        model: The model.
        weights: Weights in place of the model's own.
        shortcuts: Which short cuts to take; those that the model's self-test found exact if not given.
    """

    def __init__(
        self, model: LanguageModel, weights: Weights | None = None, *, shortcuts: Shortcuts | None = None
    ) -> None:
        self.model = model
        self.shortcuts = shortcuts
        self.forwards = Forwards(model, weights)

    def answers(
        self, questions: Sequence[Question], *, batch: int = 32, prefix: Int[Tensor, " question"] | None = None
    ) -> Answers:
        """What the model answers, its softmax in float64 on the CPU.

        Where memory runs out, the batch is halved, with a warning.

        Args:
            questions: What to read.
            batch: How many sequences to read together.
            prefix: How many leading tokens of each prompt see each other; none where it is not given.

        Raises:
            InputError: If there is no question, or the model cannot be read, not at all or not under a prefix mask, see
                :class:`~insitu.language.models.self_test.SelfTest`.
        """
        require_count("next tokens", "batch", batch, least=1)
        if not questions:
            raise InputError("next tokens: there is no prompt to read.")
        longest = max(question.length for question in questions)
        shortcuts = self.shortcuts or self_test(self.model).shortcuts(longest)
        if prefix is not None:
            self_test(self.model).require_prefix(longest)
            shortcuts = Shortcuts(padding=shortcuts.padding)
        return self.forwards.answers(questions, shortcuts, batch, prefix)
