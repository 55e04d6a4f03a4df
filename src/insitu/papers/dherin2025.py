"""Dherin, Munn, Mazzawi, Wunder, Gonzalvo: Learning without training: the implicit dynamics of in-context learning.

Each block of a transformer answers a query with a context as it answers it alone with changed weights: a change of rank
one, in closed form (:mod:`insitu.language.models.weight_patch`). The change is read off the query's own states, so it
says what the context does to this query; a control asks whether it says more.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Paper, Rule, Run, Study, line
from insitu.errors import InputError
from insitu.language import LanguageModel, load_corpus, load_language_model, missing_model
from insitu.language.measure.unfinished import Unfinished
from insitu.language.models.weight_patch import WeightPatch, last_states, patched, query_alone, weight_patches
from insitu.metrics import Estimate
from insitu.metrics.distributions import kl_divergence

__all__ = ["PAPER", "Patched", "Patches", "patched_answers"]

# The quantities that measurements estimate and rules decide.
DEVIATION = "largest deviation of a block's output"
RANK = "second singular value of a change over the first"
LEFT = "divergence left with another query's change"


@dataclass(frozen=True)
class Patches:
    """Which contexts are turned into changes of weights.

    Args:
        model: The model.
        corpus: Its first long enough texts are the contexts.
        contexts: How many.
        size: Tokens of a context, the query left out.
        queries: How many other queries each change is used on.
    """

    model: str
    corpus: str
    contexts: int
    size: int
    queries: int


@dataclass(frozen=True)
class Patched:
    """What the changes do, for each context.

    Args:
        blocks: The largest deviation of each block's output, relative to the largest number in it.
        ranks: The second singular value of a change over the first, the largest of all changes.
        without: The divergence from the answer with the context to that without, for each other query.
        borrowed: The same with the change that belongs to the context's own query.
        own: The same for that query itself.
    """

    blocks: Tensor
    ranks: Tensor
    without: Tensor
    borrowed: Tensor
    own: Tensor


Make = Callable[[LanguageModel, Sequence[int]], list[WeightPatch]]


def missing_patched(setting: Patches) -> str:
    """What keeps the model from being loaded."""
    return missing_model(setting.model)


def contexts_of(run: Run, model: LanguageModel) -> list[list[int]]:
    """Contexts, each with a query behind it: the beginnings of texts drawn from a corpus, no two with one query.

    Raises:
        InputError: If the corpus has too few.
    """
    s: Patches = run.setting
    encoded = [model.encode(row.text)[: s.size + 1] for row in load_corpus(s.corpus).train]
    long = [tokens for tokens in encoded if len(tokens) > s.size]
    drawn = [long[i] for i in (run.seed / "texts").permutation(len(long)).tolist()]
    chosen = list({tokens[-1]: tokens for tokens in drawn}.values())[: s.contexts]
    if len(chosen) < s.contexts or s.contexts <= s.queries:
        raise InputError(
            f"weight patches: {s.contexts} contexts with {s.queries} other queries each need as many texts that end "
            f"differently, one more than the queries; {s.corpus} has {len(chosen)}."
        )
    return chosen


def patched_answers(run: Run, make: Make = weight_patches) -> Patched:
    """Turn contexts into changes of weights, and ask the changed networks their own query and others."""
    s: Patches = run.setting
    model = load_language_model(s.model, device=run.device, dtype="float64")
    kept = Unfinished(run.folder)
    rows = [
        kept.piece(f"context {i}").once(tuple, functools.partial(one_context, model, tokens, others, make))
        for i, (tokens, others) in enumerate(with_others(contexts_of(run, model), s.queries))
    ]
    return Patched(*(torch.stack(column) for column in zip(*rows, strict=True)))


def with_others(texts: list[list[int]], queries: int) -> list[tuple[list[int], list[int]]]:
    """Each text with the queries of those that follow it, round and round.

    Example:
        >>> with_others([[1, 2], [3, 4], [5, 6]], 1)
        [([1, 2], [4]), ([3, 4], [6]), ([5, 6], [2])]
    """
    ends = [text[-1] for text in texts]
    return [(text, [*ends[i + 1 :], *ends[:i]][:queries]) for i, text in enumerate(texts)]


def one_context(model: LanguageModel, tokens: list[int], others: list[int], make: Make) -> tuple[Tensor, ...]:
    """The columns of :class:`Patched` for one context."""
    patches = make(model, tokens)
    twin = patched(model, patches)
    (alone, answer), (inside, right) = query_alone(twin, tokens), last_states(model, tokens)
    blocks = [(a.after - b.after).abs().max() / b.after.abs().max() for a, b in zip(alone, inside, strict=True)]
    rows = [divergences(model, twin, [*tokens[:-1], query]) for query in others]
    without, borrowed = (torch.stack(column) for column in zip(*rows, strict=True))
    own = kl_divergence(right.softmax(-1), answer.softmax(-1))
    return torch.stack(blocks), rank(patches), without, borrowed, own[None]


def divergences(model: LanguageModel, twin: LanguageModel, tokens: list[int]) -> tuple[Tensor, Tensor]:
    """From the answer with the context: of the model without it, and of the changed one."""
    right = last_states(model, tokens)[1].softmax(-1)
    alone, changed = (query_alone(network, tokens)[1].softmax(-1) for network in (model, twin))
    return kl_divergence(right, alone), kl_divergence(right, changed)


def rank(patches: Sequence[WeightPatch]) -> Tensor:
    """The largest second singular value over the first, of a few rows of each change."""
    changes = [change for patch in patches for change in patch.weights.values() if change.any()]
    sizes = [torch.linalg.svdvals(change[:32]) for change in changes]
    return torch.stack([size[1] / size[0] for size in sizes]).max()


ANSWERS = Study("dherin2025.patched_answers", patched_answers)


def studied(run: Run) -> Patched:
    """The results of the study."""
    return run.study


def measure_identity(run: Run, *, answers: Callable[[Run], Patched] = studied) -> Measurement:
    """The largest deviation of any block, over all contexts."""
    patched = answers(run)
    estimates = {
        DEVIATION: Estimate(patched.blocks.max().item()),
        RANK: Estimate(patched.ranks.max().item()),
    }
    return Measurement(estimates, draw(patched))


def measure_borrowed(run: Run, *, used: str = "borrowed") -> Measurement:
    """What is left of the divergence when the change of another query is used."""
    patched: Patched = run.study
    left, whole = getattr(patched, used).mean(1), patched.without.mean(1)
    note = (
        f"Divergence from the answer with the context, in nats: {whole.mean():.2f} without it, {left.mean():.2f} with "
        f"another query's change, {patched.own.mean():.2g} with its own."
    )
    estimates = {LEFT: Estimate.ratio(left, whole)}
    return Measurement(estimates, draw(patched), (note,))


def draw(patched: Patched) -> Figure:
    """Deviation by block, and the divergence of other queries."""
    places = range(1, patched.blocks.shape[1] + 1)
    smallest = torch.finfo(torch.float64).tiny
    worst = line("", places, patched.blocks.amax(0).clamp(min=smallest))
    numbers = range(1, len(patched.without) + 1)
    pairs = (("without the context", patched.without), ("with another query's change", patched.borrowed))
    points = [line(name, numbers, values.mean(1), look="points", colour=i) for i, (name, values) in enumerate(pairs)]
    return Figure(
        (
            Panel("block", "deviation of its output", (worst,), y_scale="log"),
            Panel("context", "divergence from the answer with the context (nats)", tuple(points)),
        ),
        "Left: with the change of weights in place of the context, each block's output deviates from that with the "
        "context by rounding alone. Right: other queries after the same context, answered with that change.",
        "Left, a curve over blocks near the precision of the numbers. Right, two groups of points over contexts.",
    )


CLAIMS = tuple(
    Claim(
        id=f"dherin2025.{name}",
        statement=statement,
        source=source,
        rules=rules,
        measure=measure,
        quick=Patches("smollm2", "mr", contexts=8, size=12, queries=2),
        full=Patches("smollm2", "mr", contexts=100, size=12, queries=10),
        quick_seconds=15.0,
        quick_gigabytes=2.1,
        full_hours=0.5,
        reduced="SmolLM2-135M-Instruct, 4-bit weights computed in float64, instead of networks trained on regression.",
        study=ANSWERS,
        missing=missing_patched,
    )
    for name, statement, source, rules, measure in (
        (
            "context-is-a-rank-one-patch",
            "Every block of a pretrained transformer gives on a query alone, after a change of rank one to the "
            "matrices of its perceptron and one of its bias, what it gives with the context.",
            "Theorem 2.2",
            (
                # float64, amplified by the depth of the network and the size of its states.
                Rule(DEVIATION, high=1e-10),
                Rule(RANK, high=1e-10),
            ),
            measure_identity,
        ),
        (
            "a-patch-serves-its-own-query",
            "The change of weights belongs to one query: used on another query after the same context it leaves more "
            "than half of the divergence that leaving the context out makes. (A control that the paper lacks).",
            "Theorem 2.2, a control",
            (Rule(LEFT, low=0.5),),
            measure_borrowed,
        ),
    )
)

PAPER = Paper(
    id="dherin2025",
    title="Learning without training: the implicit dynamics of in-context learning",
    authors="Benoit Dherin, Michael Munn, Hanna Mazzawi, Michael Wunder, Javier Gonzalvo",
    venue="arXiv 2507.16003, 2025",
    claims=CLAIMS,
)
