"""Reading sequences of tokens: what they begin with in common is read once and kept.

A causal network's states at a token depend on the tokens before it alone. So the keys and values of the demonstrations,
with which every question of a batch begins, are computed once; each question then reads only what is its own, and a
longer list of demonstrations that begins with a shorter one goes on from there. Label words of several tokens are read
side by side behind their question, each blind to the others. The numbers are those of plain forward passes up to
rounding.
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
from insitu.language.models.prefix_mask import added_to_scores
from insitu.language.models.pretrained import LanguageModel
from insitu.language.texts.templates import Template

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
        context, words = template.label_words(model.encode, prompt)
        question = Question(tuple(context), tuple((label, tuple(w)) for label, w in words.items()))
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
        return halving(lambda size: self._answers([Branches.of(q) for q in questions], size), batch)

    def _answers(self, asked: Sequence["Branches"], batch: int) -> Answers:
        common = self._prefill([branches.prompt for branches in asked])
        tokens: list[Tensor] = [torch.empty(0)] * len(asked)
        labels: list[Tensor] = [torch.empty(0)] * len(asked)
        ranked = sorted(range(len(asked)), key=lambda i: len(asked[i].prompt))
        for start in range(0, len(ranked), batch):
            rows = ranked[start : start + batch]
            for i, logits in zip(rows, self._read(common, [asked[i] for i in rows]), strict=True):
                logs = logits.double().log_softmax(-1)
                tokens[i], labels[i] = logs[0].exp(), asked[i].score(logs)
        return Answers(torch.stack(tokens), torch.stack(labels))

    def _read(self, common: int, asked: Sequence["Branches"]) -> list[Tensor]:
        """The logits behind each prompt, and behind every token that the words have but their last ones."""
        size = max(len(branches.prompt) + len(branches.tail) for branches in asked) - common
        ids = torch.zeros(len(asked), size, dtype=torch.long)
        for row, branches in zip(ids, asked, strict=True):
            own = [*branches.prompt[common:], *branches.tail]
            row[: len(own)] = torch.tensor(own)
        spans = [range(len(b.prompt) - common - 1, len(b.prompt) - common + len(b.tail)) for b in asked]
        kept, index = torch.tensor([place for span in spans for place in span]).unique(return_inverse=True)
        # Without branches every token sees all before it, which needs no mask.
        branching = any(branches.tail for branches in asked)
        seen = branch_mask(asked, common, size) if branching else None
        logits = self._forward(ids, kept, common, seen, use_cache=False).logits.cpu()
        ends = torch.tensor([len(span) for span in spans]).cumsum(0).tolist()
        return [
            logits[row, index[end - len(span) : end]] for row, (span, end) in enumerate(zip(spans, ends, strict=True))
        ]

    def _forward(
        self, ids: Tensor, kept: Tensor, common: int, seen: tuple[Tensor, Tensor] | None = None, *, use_cache: bool
    ) -> Any:
        from transformers import DynamicCache

        # Right padding stands behind all that counts, where a causal network does not look.
        device = self.model.device
        inputs: dict[str, Any] = {"input_ids": ids.to(device), "use_cache": use_cache}
        inputs["logits_to_keep"] = kept.to(device)
        if seen is not None:
            # Numbers that are added to the scores: a mask of truth values is silently wrong for the kernel eager.
            inputs["attention_mask"] = added_to_scores(seen[0], self.model.network.dtype)[:, None].to(device)
            inputs["position_ids"] = seen[1].to(device)
        if common:
            size = len(ids)
            inputs["past_key_values"] = DynamicCache(
                ddp_cache_data=[
                    tuple(t[:, :, :common].expand(size, -1, -1, -1) for t in layer) for layer in self.states
                ]
            )
        network = self.model.network
        return network(**inputs) if self.weights is None else functional_call(network, dict(self.weights), (), inputs)

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> int:
        """Read what all prompts begin with; how many tokens that are, or 0 if each must be read whole."""
        shortest, *_ = sorted(prompts, key=len)
        most = len(shortest) - 1
        common = next(
            (i for i, token in enumerate(shortest[:most]) if any(other[i] != token for other in prompts)), most
        )
        if not self.keep or common < WORTHWHILE or len(prompts) == 1:
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


@final
@dataclass(frozen=True)
class Branches:
    """A prompt and, behind it, the words of its labels but for their last tokens, side by side.

    Args:
        prompt: The tokens of the prompt.
        words: The tokens of every label's word.
    """

    prompt: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, question: Question) -> "Branches":
        """The branches of a question."""
        return cls(question.prompt, tuple(word for _, word in question.words))

    @property
    def tail(self) -> list[int]:
        """What is read behind the prompt."""
        return [token for word in self.words for token in word[:-1]]

    def score(self, logs: Float[Tensor, "place token"]) -> Float[Tensor, " label"]:
        """The log-probability of every word, from those behind the prompt and behind each token of the tail."""
        found, place = [], 1
        for word in self.words:
            inner = sum((logs[place + i, token] for i, token in enumerate(word[1:])), torch.zeros((), dtype=logs.dtype))
            found.append(logs[0, word[0]] + inner)
            place += len(word) - 1
        return torch.stack(found)


def branch_mask(asked: Sequence[Branches], common: int, size: int) -> tuple[Tensor, Tensor]:
    """Who sees whom where words stand side by side, ``(row, token, seen)``, and every token's position.

    A token of a word sees the prompt and what precedes it in the word, and stands where it would behind the prompt.
    """
    seen = torch.ones(size, size).tril().bool().repeat(len(asked), 1, 1)
    positions = (torch.arange(size) + common).repeat(len(asked), 1)
    for row, branches in enumerate(asked):
        start = first = len(branches.prompt) - common
        for word in branches.words:
            end = first + len(word) - 1
            seen[row, first:end, start:first] = False
            positions[row, first:end] = torch.arange(len(word) - 1) + len(branches.prompt)
            first = end
        positions[row, first:] = 0  # padding
    return torch.cat([torch.ones(len(asked), size, common, dtype=torch.bool), seen], dim=-1), positions


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
