"""What a language model answers when it reads demonstrations: next-token distributions at the answer.

Prompts of different lengths are read together, padded on the right, where the model's self-test found that exact. A
causal network never looks ahead, so what stands behind a prompt's last token does not change what it says there, and
causal attention needs no mask; :mod:`insitu.language.models.prefix_mask` has another one.
"""

import math
from collections.abc import Sequence
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_one_of
from insitu.language.models.prefix_mask import Attention, prefix_lengths
from insitu.language.models.pretrained import LanguageModel
from insitu.language.models.reading import Answers, Question, Reader, Weights, pose
from insitu.language.texts.corpora import Labelled
from insitu.language.texts.templates import Template

__all__ = ["average", "calibrated", "in_context", "next_token_distributions", "read"]


# What stands for no content at all in contextual calibration.
CONTENT_FREE = ("N/A", "", "[MASK]")


def next_token_distributions(
    model: LanguageModel, prompts: Sequence[str], *, weights: Weights | None = None, batch: int = 32
) -> Float[Tensor, "prompt token"]:
    """The distribution of the token that follows each prompt, over the whole vocabulary.

    The network computes in its own precision, the softmax in float64 on the CPU.

    Args:
        model: The model.
        prompts: What it reads.
        weights: Weights in place of the model's own, as
            :func:`~insitu.language.models.fine_tuning.fine_tune` yields them.
        batch: How many prompts to read together.

    Raises:
        InputError: If there is no prompt, one is longer than what the model reads, or the model cannot be read.
    """
    questions = [Question(tuple(model.encode(prompt)), ()) for prompt in prompts]
    for i, (prompt, question) in enumerate(zip(prompts, questions, strict=True)):
        if question.length > model.window:
            raise InputError(
                f"next tokens: prompt {i} has {question.length} tokens and {model.name} reads at most {model.window}; "
                f"it ends in {prompt[-60:]!r}. Use fewer demonstrations or shorter texts."
            )
    return Reader(model, weights).answers(questions, batch=batch).tokens


def read(
    model: LanguageModel,
    template: Template,
    demonstrations: Sequence[Labelled],
    texts: Sequence[str],
    *,
    attention: Attention = "causal",
    reader: Reader | None = None,
    batch: int = 32,
) -> Answers:
    """What a model answers to every text after the demonstrations in the order given; none of them is zero-shot.

    Args:
        model: The model.
        template: How a text is put into words.
        demonstrations: What stands before each text.
        texts: The texts to classify.
        attention: With *prefix* the demonstrations see each other, as under the prefix mask of Ding et al. (2024).
        reader: What reads, with whatever it has kept from reading before; a fresh one of the model if none.
        batch: How many sequences to read together.

    Raises:
        InputError: If a prompt is longer than what the model reads, a label has no word, a word does not stand
            behind the prompt as tokens of its own, or the model cannot be read, or not under a prefix mask.
    """
    require_one_of("in context", "attention", attention, get_args(Attention))
    prompts = [template.prompt(text, demonstrations) for text in texts]
    prefix = None if attention == "causal" else prefix_lengths(model, template.stem(demonstrations), prompts)
    return (reader or Reader(model)).answers(pose(model, template, prompts), batch=batch, prefix=prefix)


def average(answers: Sequence[Answers]) -> Answers:
    """The mean of several distributions, such as those after several orders of the same demonstrations."""
    return Answers(
        torch.stack([a.tokens for a in answers]).mean(0),
        torch.stack([a.labels for a in answers]).logsumexp(0) - math.log(len(answers)),
    )


def calibrated(answers: Answers, free: Answers, firsts: Sequence[int]) -> Answers:
    r"""Contextual calibration: what the labels get without any content is divided out.

    .. math:: q(l) \propto p(l) / p_{\mathrm{cf}}(l)

    where :math:`p_{\mathrm{cf}}` is the mean over content-free inputs of the distribution over the labels. Tokens that
    begin no label word keep their probability, and the label words together keep theirs.

    Args:
        answers: What is calibrated.
        free: The answers to content-free inputs after the same demonstrations.
        firsts: The first token of every label's word.

    References:
        Zhao, Wallace, Feng, Klein, Singh, "Calibrate Before Use" (ICML 2021).
    """
    prior = free.labels.log_softmax(-1).exp().mean(0)
    labels = answers.labels - prior.log()
    labels = labels + (answers.labels.logsumexp(-1) - labels.logsumexp(-1))[:, None]
    once = torch.tensor(list(dict.fromkeys(firsts)))
    first = free.tokens[:, once]
    weighed = answers.tokens[:, once] / (first / first.sum(-1, keepdim=True)).mean(0)
    weighed = weighed * (answers.tokens[:, once].sum(-1) / weighed.sum(-1))[:, None]
    return Answers(answers.tokens.index_copy(1, once, weighed), labels)


def in_context(
    model: LanguageModel,
    template: Template,
    demonstrations: Sequence[Labelled],
    texts: Sequence[str],
    *,
    attention: Attention = "causal",
    batch: int = 32,
) -> Float[Tensor, "item token"]:
    """The answer's distribution for every text, after the demonstrations in the order given.

    Arguments as :func:`read`.

    Raises:
        InputError: As :func:`read`.
    """
    return read(model, template, demonstrations, texts, attention=attention, batch=batch).tokens
