"""Reading sequences of tokens: what they begin with in common is read once and kept.

A causal network's states at a token depend on the tokens before it alone. So the keys and values of the demonstrations,
with which every question of a batch begins, are computed once; each question then reads only what is its own, and a
longer list of demonstrations that begins with a shorter one goes on from there. The numbers are those of the plain
forward pass up to rounding.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from insitu.errors import InputError, require_count
from insitu.language.pretrained import LanguageModel
from insitu.language.templates import Template

__all__ = ["Answers", "Question", "Reader", "Weights", "pose"]

Weights = Mapping[str, Tensor]
Work = TypeVar("Work")
# The shortest common beginning that is worth keeping.
WORTHWHILE = 8


@final
@dataclass(frozen=True)
class Question:
    """A prompt as tokens, and the tokens of every label's word behind it.

    Args:
        prompt: The tokens of the prompt.
        words: Label and the tokens of its word; the first tokens differ.
    """

    prompt: tuple[int, ...]
    words: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def firsts(self) -> list[int]:
        """The first token of every word."""
        return [tokens[0] for _, tokens in self.words]


@final
@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers to questions.

    Args:
        tokens: The distribution of the token behind each prompt, over the whole vocabulary.
        labels: The log-probability of each label's whole word, summed over its tokens.
    """

    tokens: Float[Tensor, "item token"]
    labels: Float[Tensor, "item label"]


def pose(model: LanguageModel, template: Template, prompts: Sequence[str]) -> list[Question]:
    """Prompts as questions.

    The words are taken from encoding prompt and word together, so that each stands behind the prompt as it would in a
    text.

    Raises:
        InputError: If there is no prompt, a word changes the tokens of its prompt or is not told apart by its first
            token, or prompt and word are longer than what the model reads.
    """
    if not prompts:
        raise InputError("next tokens: there is no prompt to read.")
    questions = []
    for i, prompt in enumerate(prompts):
        words = template.label_words(model.encode, prompt)
        question = Question(tuple(model.encode(prompt)), tuple((label, tuple(w)) for label, w in words.items()))
        longest = len(question.prompt) + max(len(w) for _, w in question.words) - 1
        if longest > model.window:
            raise InputError(
                f"next tokens: prompt {i} with its label word has {longest} tokens and {model.name} reads at most "
                f"{model.window}; it ends in {prompt[-60:]!r}. Use fewer demonstrations or shorter texts."
            )
        questions.append(question)
    return questions


@final
class Reader:
    """Reads with a model, and keeps the keys and values of what it read last.

    Args:
        model: The model.
        weights: Weights in place of the model's own.
        keep: Whether to keep anything; without, every sequence is read whole.
    """

    def __init__(self, model: LanguageModel, weights: Weights | None = None, *, keep: bool = True) -> None:
        self.model = model
        self.weights = weights
        self.keep = keep
        self.held: list[int] = []
        self.states: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def answers(self, questions: Sequence[Question], *, batch: int = 32) -> Answers:
        """What the model answers, its softmax in float64 on the CPU.

        Where memory runs out, the batch is halved, with a warning.

        Args:
            questions: What to read.
            batch: How many sequences to read together.
        """
        require_count("next tokens", "batch", batch, least=1)
        single = all(len(word) == 1 for question in questions for _, word in question.words)
        labels = range(1 if single else len(questions[0].words))
        # A question is read once with each word behind it, but for the word's last token.
        asked = [(list(q.prompt), list(q.words[label][1])) for q in questions for label in labels]
        return halving(lambda size: self._answers(questions, asked, single, size), batch)

    def _answers(
        self, questions: Sequence[Question], asked: list[tuple[list[int], list[int]]], single: bool, batch: int
    ) -> Answers:
        common = self._prefill([prompt + word[:-1] for prompt, word in asked], min(len(p) for p, _ in asked) - 1)
        distributions: list[Tensor] = [torch.empty(0)] * len(questions)
        words = torch.zeros(len(questions), len(questions[0].words), dtype=torch.float64)
        ranked = sorted(range(len(asked)), key=lambda i: len(asked[i][0]) + len(asked[i][1]))
        for start in range(0, len(ranked), batch):
            rows = ranked[start : start + batch]
            for i, logits in zip(rows, self._read(common, [asked[i] for i in rows]), strict=True):
                item, label = (i, 0) if single else divmod(i, len(questions[0].words))
                logs = logits.double().log_softmax(-1)
                if label == 0:
                    distributions[item] = logs[0].exp()
                if single:
                    words[item] = logs[0, questions[item].firsts]
                else:
                    words[item, label] = sum(row[token] for row, token in zip(logs, asked[i][1], strict=True))
        return Answers(torch.stack(distributions), words)

    def _read(self, common: int, asked: Sequence[tuple[list[int], list[int]]]) -> list[Tensor]:
        """The logits behind a prompt and behind every token of the word but its last, for each."""
        own = [(prompt + word[:-1])[common:] for prompt, word in asked]
        ids = torch.zeros(len(own), max(map(len, own)), dtype=torch.long)
        for row, tokens in zip(ids, own, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        places = [torch.arange(len(prompt) - 1, len(prompt) + len(word) - 1) - common for prompt, word in asked]
        kept, index = torch.cat(places).unique(return_inverse=True)
        logits = self._forward(ids, kept, common, use_cache=False).logits.cpu()
        ends = torch.tensor([len(place) for place in places]).cumsum(0).tolist()
        return [
            logits[row, index[end - len(place) : end]]
            for row, (place, end) in enumerate(zip(places, ends, strict=True))
        ]

    def _forward(self, ids: Tensor, kept: Tensor, common: int, *, use_cache: bool) -> Any:
        from transformers import DynamicCache

        # Right padding stands behind all that counts, where a causal network does not look.
        inputs: dict[str, Any] = {"input_ids": ids.to(self.model.device), "use_cache": use_cache}
        inputs["logits_to_keep"] = kept.to(self.model.device)
        if common:
            size = len(ids)
            inputs["past_key_values"] = DynamicCache(
                ddp_cache_data=[
                    tuple(t[:, :, :common].expand(size, -1, -1, -1) for t in layer) for layer in self.states
                ]
            )
        network = self.model.network
        return network(**inputs) if self.weights is None else functional_call(network, dict(self.weights), (), inputs)

    def _prefill(self, sequences: Sequence[Sequence[int]], most: int) -> int:
        """Read what all sequences begin with; how many tokens that are, or 0 if each must be read whole."""
        shortest, *_ = sorted(sequences, key=len)
        common = next(
            (i for i, token in enumerate(shortest[:most]) if any(other[i] != token for other in sequences)), most
        )
        if not self.keep or common < WORTHWHILE or len(sequences) == 1:
            return 0
        wanted = list(shortest[:common])
        known = next((i for i, (a, b) in enumerate(zip(self.held, wanted, strict=False)) if a != b), None)
        known = min(len(self.held), common) if known is None else known
        if known == common:
            return common
        output = self._forward(torch.tensor([wanted[known:]]), torch.tensor([0]), known, use_cache=True)
        states = layers_of(output.past_key_values)
        if states is None:
            self.keep = False
            return 0
        self.held, self.states = wanted, states
        return common


def layers_of(cache: Any) -> list[tuple[Tensor, Tensor]] | None:
    """The keys and values of a cache; none where a layer keeps something else, such as a sliding window."""
    from transformers.cache_utils import DynamicLayer

    if not all(type(layer) is DynamicLayer for layer in getattr(cache, "layers", [None])):
        return None
    return [(layer.keys, layer.values) for layer in cache.layers]


def halving(work: Callable[[int], Work], size: int) -> Work:
    """Do work in parts of a size; where memory runs out, in parts of half of it, with a warning."""
    while True:
        try:
            return work(size)
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not out_of_memory(error):
                raise
            size //= 2
            warnings.warn(f"memory ran out; going on with {size} at a time.", RuntimeWarning, stacklevel=3)


def out_of_memory(error: BaseException) -> bool:
    told = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or ("memory" in told and "alloc" in told)
