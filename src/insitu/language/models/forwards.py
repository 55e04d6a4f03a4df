"""Forward passes over questions, with such short cuts as a model allows.

A causal network's states at a token depend on the tokens before it alone. So the keys and values of the demonstrations,
with which every question of a batch begins, may be computed once; questions of different lengths may be padded on the
right; and label words of several tokens may be read side by side behind their question, as a tree in which words that
begin alike share their beginning, each blind to the others. Each of these is a short cut that some architectures
forbid: windows, recurrence, biases by distance and rotations that switch with the length see more than a mask and
positions. Without any, every sequence is read whole and alone.
"""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call

from insitu.errors import out_of_memory
from insitu.language.models.prefix_mask import prefix_attention
from insitu.language.models.pretrained import LanguageModel

__all__ = [
    "FAST",
    "WHOLE",
    "Answers",
    "Forwards",
    "Question",
    "Shortcuts",
    "Weights",
    "at_places",
    "distinct",
    "marked_places",
    "run",
]

Weights = Mapping[str, Tensor]
Work = TypeVar("Work")
# The shortest common beginning that is worth keeping.
WORTHWHILE = 8


@final
@dataclass(frozen=True)
class Shortcuts:
    """The short cuts that a reading takes.

    Args:
        branches: Label words of several tokens stand side by side in one sequence.
        reuse: Keys and values of a common beginning are computed once.
        padding: Sequences of different lengths are read together, padded on the right.

    Example:
        >>> print(Shortcuts(padding=True))
        every label word in a sequence of its own; every prompt from its first token
    """

    branches: bool = False
    reuse: bool = False
    padding: bool = False

    def __str__(self) -> str:
        missing = [words for flag, words in INSTEAD.items() if not getattr(self, flag)]
        return "; ".join(missing) or "every short cut"


INSTEAD = {
    "branches": "every label word in a sequence of its own",
    "reuse": "every prompt from its first token",
    "padding": "one sequence at a time",
}
FAST = Shortcuts(branches=True, reuse=True, padding=True)
WHOLE = Shortcuts()


@final
@dataclass(frozen=True)
class Question:
    """A prompt as tokens, and the tokens of every label's word behind it.

    Args:
        prompt: The tokens of the prompt.
        words: Label and the tokens of its word.
    """

    prompt: tuple[int, ...]
    words: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def firsts(self) -> list[int]:
        """The first token of every word."""
        return [tokens[0] for _, tokens in self.words]

    @property
    def length(self) -> int:
        """How many tokens are read at most: the prompt and its longest word but for that word's last token."""
        return len(self.prompt) + max((len(tokens) for _, tokens in self.words), default=1) - 1


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

    def chosen(self, firsts: Int[Tensor, "item label"]) -> Int[Tensor, " item"]:
        """The label whose word the likeliest token begins, the likelier word where several do; -1 where none does.

        Args:
            firsts: The first token of every label's word, for each question.

        Example:
            >>> answers = Answers(torch.tensor([[0.1, 0.9]]), torch.tensor([[-2.0, -1.0, -0.5]]))
            >>> answers.chosen(torch.tensor([[1, 1, 0]])).tolist()
            [1]
        """
        begun = firsts == self.tokens.argmax(-1, keepdim=True)
        best = self.labels.masked_fill(~begun, -torch.inf).argmax(-1)
        return torch.where(begun.any(-1), best, -1)


def distinct(firsts: Int[Tensor, "item label"]) -> Bool[Tensor, "item label"]:
    """Where a first token is not that of an earlier label as well.

    Example:
        >>> distinct(torch.tensor([[7, 7, 5]])).tolist()
        [[True, False, True]]
    """
    same = firsts[:, :, None] == firsts[:, None]
    return ~same.tril(-1).any(-1)


@final
@dataclass(frozen=True)
class Branches:
    """A prompt and, behind it, words of labels but for their last tokens, side by side.

    Args:
        prompt: The tokens of the prompt.
        words: The tokens of words.
        places: Which labels they are of.
    """

    prompt: tuple[int, ...]
    words: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]

    @cached_property
    def nodes(self) -> dict[tuple[int, ...], int]:
        """What words begin with, short of their last tokens: each once, with its place behind the prompt.

        A beginning stands behind all that it goes on from.
        """
        beginnings = (word[:size] for word in self.words for size in range(1, len(word)))
        return {beginning: place for place, beginning in enumerate(dict.fromkeys(beginnings), start=1)}

    @property
    def tail(self) -> list[int]:
        """What is read behind the prompt."""
        return [beginning[-1] for beginning in self.nodes]

    @property
    def branching(self) -> bool:
        """Whether something that is read behind the prompt does not go on from all before it."""
        return any(len(beginning) != place for beginning, place in self.nodes.items())

    def score(self, logs: Float[Tensor, "place token"]) -> Float[Tensor, " word"]:
        """The log-probability of every word, from those behind the prompt and behind each token of the tail."""
        places = {(): 0, **self.nodes}
        steps = [(i, places[word[:k]], word[k]) for i, word in enumerate(self.words) for k in range(len(word))]
        owner, place, token = torch.tensor(steps).T
        return logs.new_zeros(len(self.words)).index_add_(0, owner, logs[place, token])


def branches_of(question: Question, together: bool) -> list[Branches]:
    """The sequences that answer a question: one with every word, or the prompt alone and one for each longer word."""
    words = [tokens for _, tokens in question.words]
    alone = [] if together else [i for i, word in enumerate(words) if len(word) > 1]
    first = [i for i in range(len(words)) if i not in alone]
    return [
        Branches(question.prompt, tuple(words[i] for i in places), tuple(places))
        for places in (first, *([i] for i in alone))
    ]


def branch_mask(requests: Sequence[Branches], common: int, size: int) -> tuple[Tensor, Tensor]:
    """Who sees whom where words stand side by side, ``(row, token, seen)``, and every token's position.

    A token of a word sees the prompt and what precedes it in the word, and stands where it would behind the prompt.
    """
    seen = torch.ones(size, size).tril().bool().repeat(len(requests), 1, 1)
    positions = (torch.arange(size) + common).repeat(len(requests), 1)
    for row, branches in enumerate(requests):
        start = len(branches.prompt) - common
        end = start + len(branches.nodes)
        seen[row, start:end, start:] = False
        for beginning, place in branches.nodes.items():
            own = [branches.nodes[beginning[:k]] + start - 1 for k in range(1, len(beginning) + 1)]
            seen[row, start + place - 1, own] = True
            positions[row, start + place - 1] = len(branches.prompt) + len(beginning) - 1
        positions[row, end:] = 0  # padding
    return torch.cat([torch.ones(len(requests), size, common, dtype=torch.bool), seen], dim=-1), positions


def run(network: Any, ids: Tensor, kept: Tensor, weights: Weights | None = None, **inputs: Any) -> tuple[Tensor, Any]:
    """One forward pass: the logits at the places that are kept, and the whole output.

    Args:
        network: A causal language model of transformers.
        ids: The tokens, ``(row, place)``.
        kept: The places whose logits are wanted, those of every row or one list for all; over a large vocabulary others
            would be most of the work and of the memory.
        weights: Weights in place of the network's own.
        inputs: What else the network is given, where its code knows the word.
    """
    known = inspect.signature(network.forward).parameters
    given = {"input_ids": ids, "use_cache": False, **inputs}
    given = {name: value for name, value in given.items() if name in known}
    kept = kept.expand(len(ids), -1)
    with unembedded_at(network, ids.shape, kept) as chosen:
        output = network(**given) if weights is None else functional_call(network, dict(weights), (), given)
    return (output.logits if chosen else at_places(output.logits, kept)), output


def cache_name(network: Any) -> str:
    """What a network calls the keys and values of what it has read: another word from transformers 5.24 on."""
    return "cache" if "cache" in inspect.signature(network.forward).parameters else "past_key_values"


@contextlib.contextmanager
def unembedded_at(network: Any, size: Sequence[int], kept: Int[Tensor, "row some"]) -> Iterator[list[torch.Size]]:
    """Inside, only the states at the places that are kept reach the network's unembedding, if all reach it at once.

    Yields:
        The shapes of the states of which some were chosen; empty for a network that unembeds in another way.
    """
    chosen: list[torch.Size] = []

    def choose(module: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states, *rest = inputs
        if states.shape[:-1] != size:
            return inputs
        chosen.append(states.shape)
        return (at_places(states, kept), *rest)

    unembedding = network.get_output_embeddings()
    handle = unembedding.register_forward_pre_hook(choose) if unembedding is not None else None
    try:
        yield chosen
    finally:
        if handle is not None:
            handle.remove()


def at_places(values: Float[Tensor, "row place entry"], kept: Int[Tensor, "row some"]) -> Tensor:
    """What stands at some places of every row."""
    return values.gather(1, kept.to(values.device)[..., None].expand(-1, -1, values.shape[-1]))


def marked_places(marked: Bool[Tensor, "*rows place"]) -> Int[Tensor, "*rows some"]:
    """The places that are marked, in rising order, followed in rows with fewer of them by places that are not.

    Example:
        >>> marked_places(torch.tensor([[False, True, False], [True, False, True]])).tolist()
        [[1, 0], [0, 2]]
    """
    most = int(marked.sum(-1).max())
    return marked.int().argsort(dim=-1, descending=True, stable=True)[..., :most]


@final
class Forwards:
    """Reads questions with a model, and keeps the keys and values of what all of the last ones began with.

    Answers do not depend on what was read before, to the last bit.

    Args:
        model: The model.
        weights: Weights in place of the model's own.
    """

    def __init__(self, model: LanguageModel, weights: Weights | None = None) -> None:
        self.model = model
        self.weights = weights
        self.held: tuple[int, ...] = ()
        self.states: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def answers(
        self,
        questions: Sequence[Question],
        shortcuts: Shortcuts,
        batch: int = 32,
        prefix: Int[Tensor, " question"] | None = None,
    ) -> Answers:
        """What the model answers, its softmax in float64 on the CPU.

        Where memory runs out, the batch is halved, with a warning.

        Args:
            questions: What to read.
            shortcuts: Which short cuts to take.
            batch: How many sequences to read together, where they may be padded.
            prefix: How many leading tokens of each prompt see each other, in sequences read from their first token and
                with one word behind them; none where it is not given.
        """
        size = batch if shortcuts.padding else 1
        return halving(lambda size: self._answers(questions, shortcuts, size, prefix), size)

    def _answers(
        self, questions: Sequence[Question], shortcuts: Shortcuts, batch: int, prefix: Tensor | None
    ) -> Answers:
        requests = [(i, own) for i, q in enumerate(questions) for own in branches_of(q, shortcuts.branches)]
        common = self._prefill([q.prompt for q in questions]) if shortcuts.reuse else 0
        tokens: dict[int, Tensor] = {}
        labels = torch.empty(len(questions), len(questions[0].words), dtype=torch.float64)
        # The prompt itself is read before the prompt with a word behind it.
        ranked = sorted(requests, key=lambda pair: (len(pair[1].prompt), len(pair[1].tail)))
        for start in range(0, len(ranked), batch):
            part = ranked[start : start + batch]
            masked: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if prefix is not None:
                masked = prefix_attention(self.model.network, prefix[[i for i, _ in part]].to(self.model.device))
            with masked:
                read = self._read(common, [own for _, own in part])
            for (i, own), logits in zip(part, read, strict=True):
                logs = logits.double().log_softmax(-1)
                tokens.setdefault(i, logs[0].exp())
                if own.words:
                    labels[i, list(own.places)] = own.score(logs)
        return Answers(torch.stack([tokens[i] for i in range(len(questions))]), labels)

    def _read(self, common: int, requests: Sequence[Branches]) -> list[Tensor]:
        """The logits behind each prompt, and behind every token that the words have but their last ones."""
        size = max(len(branches.prompt) + len(branches.tail) for branches in requests) - common
        ids = torch.zeros(len(requests), size, dtype=torch.long)
        for row, branches in zip(ids, requests, strict=True):
            own = [*branches.prompt[common:], *branches.tail]
            row[: len(own)] = torch.tensor(own)
        spans = [range(len(b.prompt) - common - 1, len(b.prompt) - common + len(b.tail)) for b in requests]
        longest = max(len(span) for span in spans)
        kept = torch.tensor([[*span, *[span[-1]] * (longest - len(span))] for span in spans])
        # Without branches every token sees all before it, which needs no mask.
        branching = any(branches.branching for branches in requests)
        inputs = self._branched(branch_mask(requests, common, size)) if branching else {}
        inputs |= self._past(common, len(requests))
        device = self.model.device
        logits = run(self.model.network, ids.to(device), kept.to(device), self.weights, **inputs)[0].cpu()
        return [own[: len(span)] for own, span in zip(logits, spans, strict=True)]

    def _branched(self, seen: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        # Numbers that are added to the scores: a mask of truth values is silently wrong for the kernel eager.
        kind, device = self.model.network.dtype, self.model.device
        # Filled: torch.where takes numbers for single precision, in which the least double is infinite.
        mask = torch.zeros(seen[0].shape, dtype=kind).masked_fill(~seen[0], torch.finfo(kind).min)[:, None]
        return {"attention_mask": mask.to(device), "position_ids": seen[1].to(device)}

    def _past(self, common: int, rows: int) -> dict[str, Any]:
        """The first states that are held, for so many rows."""
        from transformers import DynamicCache

        if not common:
            return {}
        layers = [tuple(t[:, :, :common].expand(rows, -1, -1, -1) for t in layer) for layer in self.states]
        return {cache_name(self.model.network): DynamicCache(ddp_cache_data=layers)}

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> int:
        """Read what all prompts begin with; how many tokens that are, or 0 if each must be read whole."""
        from transformers import DynamicCache

        shortest = min(prompts, key=len)
        most = len(shortest) - 1
        common = next(
            (i for i, token in enumerate(shortest[:most]) if any(other[i] != token for other in prompts)), most
        )
        if common < WORTHWHILE or len(prompts) == 1:
            return 0
        wanted = shortest[:common]
        # States that go on from others are rounded otherwise: answers would depend on what was read before.
        if self.held != wanted:
            ids, last = torch.tensor([wanted], device=self.model.device), torch.tensor([0], device=self.model.device)
            # A cache of the plain kind: one of the model's own might keep no more than its window.
            name = cache_name(self.model.network)
            cache = {name: DynamicCache(), "use_cache": True}
            _, output = run(self.model.network, ids, last, self.weights, **cache)
            self.states = [(layer.keys, layer.values) for layer in getattr(output, name).layers]
            self.held = wanted
        return common


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
