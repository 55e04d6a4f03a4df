"""What a language model answers when it reads demonstrations: next-token distributions at the answer.

Prompts of different lengths are read together, padded on the right. A causal network never looks ahead, so what
stands behind a prompt's last token does not change what it says there, and causal attention needs no mask;
:mod:`insitu.language.models.prefix_mask` has another one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from insitu.errors import InputError, require_count, require_one_of
from insitu.language.models.prefix_mask import Attention, prefix_lengths, prefix_mask
from insitu.language.models.pretrained import LanguageModel
from insitu.language.models.reading import Answers, Reader, Weights, pose
from insitu.language.texts.corpora import Labelled
from insitu.language.texts.templates import Template

__all__ = [
    "Tokens",
    "average",
    "calibrated",
    "encode_prompts",
    "in_context",
    "next_token_distributions",
    "next_token_logits",
    "read",
]


# What stands for no content at all in contextual calibration.
CONTENT_FREE = ("N/A", "", "[MASK]")


@final
@dataclass(frozen=True, eq=False)
class Tokens:
    """Prompts as token ids padded on the right, and the place of each one's last token."""

    ids: Int[Tensor, "prompt place"]
    last: Int[Tensor, " prompt"]


def encode_prompts(model: LanguageModel, prompts: Sequence[str]) -> Tokens:
    """The tokens of prompts.

    Raises:
        InputError: If there is no prompt, or one is longer than what the model reads.
    """
    if not prompts:
        raise InputError("next tokens: there is no prompt to read.")
    sequences = [model.encode(prompt) for prompt in prompts]
    for i, sequence in enumerate(sequences):
        if len(sequence) > model.window:
            raise InputError(
                f"next tokens: prompt {i} has {len(sequence)} tokens and {model.name} reads at most {model.window}; "
                f"it ends in {prompts[i][-60:]!r}. Use fewer demonstrations or shorter texts."
            )
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence)
    return Tokens(ids.to(model.device), (lengths - 1).to(model.device))


def next_token_logits(
    network: Any, tokens: Tokens, weights: Weights | None = None, prefix: Int[Tensor, " prompt"] | None = None
) -> Float[Tensor, "prompt token"]:
    """The logits behind each prompt's last token.

    ``weights`` stand in for the network's own; of each prompt the first ``prefix`` tokens see each other.
    """
    # Only the places where some prompt ends get logits: with a large vocabulary they are most of the memory.
    kept, place = tokens.last.unique(return_inverse=True)
    inputs = {"input_ids": tokens.ids, "logits_to_keep": kept, "use_cache": False}
    if prefix is not None:
        inputs["attention_mask"] = prefix_mask(network, prefix, tokens.ids.shape[1])
    output = network(**inputs) if weights is None else functional_call(network, dict(weights), (), inputs)
    return output.logits[torch.arange(len(place), device=place.device), place]


@torch.no_grad()
def next_token_distributions(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    weights: Weights | None = None,
    prefix: Int[Tensor, " prompt"] | None = None,
    batch: int = 32,
) -> Float[Tensor, "prompt token"]:
    """The distribution of the token that follows each prompt, over the whole vocabulary.

    The network computes in its own precision, the softmax in float64 on the CPU.

    Args:
        model: The model.
        prompts: What it reads.
        weights: Weights in place of the model's own, as
            :func:`~insitu.language.models.fine_tuning.fine_tune` yields them.
        prefix: How many leading tokens of each prompt see each other (see
            :func:`~insitu.language.models.prefix_mask.prefix_mask`); a causal mask where none is given.
        batch: How many prompts to read together.

    Raises:
        InputError: If there is no prompt, or one is longer than what the model reads.
    """
    require_count("next tokens", "batch", batch, least=1)
    tokens = encode_prompts(model, prompts)
    answers = []
    for start in range(0, len(prompts), batch):
        last = tokens.last[start : start + batch]
        ids = tokens.ids[start : start + batch, : int(last.max()) + 1]
        own = None if prefix is None else prefix[start : start + batch].to(ids.device)
        answers.append(next_token_logits(model.network, Tokens(ids, last), weights, own).cpu())
    return torch.cat(answers).double().softmax(-1)


def read(
    model: LanguageModel,
    template: Template,
    demonstrations: Sequence[Labelled],
    texts: Sequence[str],
    *,
    reader: Reader | None = None,
    batch: int = 32,
) -> Answers:
    """What a model answers to every text after the demonstrations in the order given; none of them is zero-shot.

    Args:
        model: The model.
        template: How a text is put into words.
        demonstrations: What stands before each text.
        texts: What to ask about.
        reader: What reads, with whatever it has kept from reading before; a fresh one of the model if none.
        batch: How many sequences to read together.

    Raises:
        InputError: If a prompt is longer than what the model reads, a label has no word, or a word does not stand
            behind the prompt as tokens of its own.
    """
    questions = pose(model, template, [template.prompt(text, demonstrations) for text in texts])
    return (reader or Reader(model)).answers(questions, batch=batch)


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
    first = free.tokens[:, firsts]
    weighed = answers.tokens[:, firsts] / (first / first.sum(-1, keepdim=True)).mean(0)
    weighed = weighed * (answers.tokens[:, firsts].sum(-1) / weighed.sum(-1))[:, None]
    return Answers(answers.tokens.index_copy(1, torch.tensor(firsts), weighed), labels)


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

    With ``attention="prefix"`` the demonstrations see each other, as under the prefix mask of Ding et al. (2024).

    Raises:
        InputError: If a prompt is longer than what the model reads, or a label has no word.
    """
    require_one_of("in context", "attention", attention, get_args(Attention))
    if attention == "causal":
        return read(model, template, demonstrations, texts, batch=batch).tokens
    prompts = [template.prompt(text, demonstrations) for text in texts]
    prefix = prefix_lengths(model, template.stem(demonstrations), prompts)
    return next_token_distributions(model, prompts, prefix=prefix, batch=batch)
