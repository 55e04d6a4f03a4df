r"""A context as a change of weights: the rank-one patch after which a network answers one query as if it had read it.

A block adds to its state :math:`z`, which attention makes of the query token and of all tokens before it, what a
multilayer perceptron makes of the scaled state :math:`n(z)`. With the context the state is :math:`z_C`. For every
matrix :math:`W` that the perceptron applies to its input,

.. math:: \Delta W = \frac{W \big(n(z_C) - n(z)\big)\, n(z)^\top}{|n(z)|^2}, \qquad \Delta b = z_C - z,

with :math:`\Delta b` added to the bias of the perceptron's output, makes the block give on the query alone what it
gives with the context. Block after block, the whole network answers alike. The change has rank one and belongs to one
query: it is no model of the task.

References:
    Dherin, Munn, Mazzawi, Wunder, Gonzalvo, "Learning without training: the implicit dynamics of in-context learning"
    (2025); gated perceptrons and scaled states: "Equivalence of context and parameter updates in modern transformer
    blocks" (2025).
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.language.models.pretrained import LanguageModel

__all__ = ["States", "WeightPatch", "last_states", "patched", "query_alone", "weight_patches"]

BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)$")
# What a perceptron applies to its input, and to what it gives back; in OPT they have no module of their own.
INNER = re.compile(r"^(?:mlp\.)?(?:gate_proj|up_proj|c_fc|dense_h_to_4h|fc1)$")
OUTER = re.compile(r"^(?:mlp\.c_proj|(?:mlp\.)?(?:down_proj|dense_4h_to_h|fc2))$")


@final
@dataclass(frozen=True, eq=False)
class States:
    """What a block computes at a sequence's last token.

    Args:
        scaled: What the perceptron gets, :math:`n(z)`.
        before: The state before the perceptron's output is added, :math:`z`.
        after: The block's output.
    """

    scaled: Float[Tensor, " width"]
    before: Float[Tensor, " width"]
    after: Float[Tensor, " width"]


@final
@dataclass(frozen=True, eq=False)
class WeightPatch:
    """The change of one block's weights that stands in for a context.

    Args:
        weights: The change of each matrix by its name, of rank one, as the matrix acts on a column.
        bias: The change of the output's bias.
    """

    weights: dict[str, Float[Tensor, "out width"]]
    bias: Float[Tensor, " width"]


@final
@dataclass(frozen=True)
class LanguageBlock:
    """A block and the linear maps of its perceptron.

    Args:
        module: The block.
        inner: The maps of the perceptron's input, by name.
        outer: The map that gives its output.
    """

    module: Any
    inner: dict[str, Any]
    outer: Any


def blocks_of(model: LanguageModel) -> list[LanguageBlock]:
    """The blocks in their order.

    Raises:
        InputError: If there are none, or a block has no perceptron that is known here.
    """
    found = [module for name, module in model.network.named_modules() if BLOCK.search(name)]
    blocks = []
    for module in found:
        named = dict(module.named_modules())
        inner = {name: part for name, part in named.items() if INNER.match(name)}
        outer = [part for name, part in named.items() if OUTER.match(name)]
        if not inner or len(outer) != 1:
            raise InputError(f"weight patch: a block of {model.name} has no perceptron of a known kind.")
        blocks.append(LanguageBlock(module, inner, outer[0]))
    if not blocks:
        raise InputError(f"weight patch: no blocks are found in {model.name}.")
    return blocks


@contextmanager
def watched(block: LanguageBlock) -> Iterator[dict[str, Tensor]]:
    """Inside, what the block computes at the last token is kept: the perceptron's input and output, and its own."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Any) -> None:
        seen[name] = (value[0] if isinstance(value, tuple) else value).detach().flatten(0, -2)[-1].clone()

    first = next(iter(block.inner.values()))
    handles = [
        first.register_forward_pre_hook(lambda _, inputs: keep("scaled", inputs)),
        block.outer.register_forward_hook(lambda _, inputs, output: keep("added", output)),
        block.module.register_forward_hook(lambda _, inputs, output: keep("after", output)),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def last_states(model: LanguageModel, tokens: Sequence[int], position: int = 0) -> tuple[list[States], Tensor]:
    """Every block's states at the last token of a sequence, and the logits behind it.

    Args:
        model: The model.
        tokens: The sequence.
        position: Where its first token stands.
    """
    with run_watched(model, tokens, position) as (seen, logits):
        return [States(s["scaled"], s["after"] - s["added"], s["after"]) for s in seen], logits


@contextmanager
def run_watched(model: LanguageModel, tokens: Sequence[int], position: int) -> Iterator[tuple[list[Any], Tensor]]:
    with ExitStack() as stack:
        seen = [stack.enter_context(watched(block)) for block in blocks_of(model)]
        ids = torch.tensor([tokens], device=model.device)
        places = torch.arange(position, position + len(tokens), device=model.device)[None]
        output = model.network(input_ids=ids, position_ids=places, use_cache=False)
        yield seen, output.logits[0, -1]


def query_alone(model: LanguageModel, tokens: Sequence[int]) -> tuple[list[States], Tensor]:
    """The states and logits of a sequence's last token without what precedes it, where it stands all the same."""
    return last_states(model, tokens[-1:], len(tokens) - 1)


@torch.no_grad()
def weight_patches(model: LanguageModel, tokens: Sequence[int]) -> list[WeightPatch]:
    """The change of every block that stands in for all tokens before the last one.

    Args:
        model: The model; it stays as it is.
        tokens: The context and, as its last token, the query.

    Raises:
        InputError: If there is no context, the network's blocks are not of a known kind or do not allow a patch, or the
            context changes nothing.
    """
    if len(tokens) < 2:
        raise InputError(f"weight patch: a context and a query need at least two tokens; got {len(tokens)}.")
    targets, _ = last_states(model, tokens)
    with ExitStack() as stack:
        blocks = blocks_of(model)
        replaced = [stack.enter_context(replacing(b, t)) for b, t in zip(blocks, targets, strict=True)]
        query_alone(model, tokens)
    patches = [patch_of(*row) for row in zip(blocks, replaced, targets, strict=True)]
    for place, patch in enumerate(patches):
        if not any(change.any() for change in (*patch.weights.values(), patch.bias)):
            raise InputError(f"weight patch: the context changes nothing in block {place} of {model.name}.")
    alone, _ = query_alone(patched(model, patches), tokens)
    for place, (found, target) in enumerate(zip(alone, targets, strict=True)):
        require_equal(model.name, place, found.after, target.after)
    return patches


@contextmanager
def replacing(block: LanguageBlock, target: States) -> Iterator[dict[str, Tensor]]:
    """Inside, the block gives what it gives with the context; what it would compute on the query alone is kept."""

    def give(module: object, inputs: object, output: Any) -> Any:
        wanted = target.after.expand_as(output[0] if isinstance(output, tuple) else output)
        return (wanted, *output[1:]) if isinstance(output, tuple) else wanted

    with watched(block) as seen:
        handle = block.module.register_forward_hook(give)
        try:
            yield seen
        finally:
            handle.remove()


def patch_of(block: LanguageBlock, alone: Mapping[str, Tensor], target: States) -> WeightPatch:
    """The change that makes a block give with the query alone what it gives with the context."""
    scaled, state = alone["scaled"], alone["after"] - alone["added"]
    across = scaled / scaled.square().sum()
    moved = target.scaled - scaled
    changes = {name: torch.outer(matrix(part) @ moved, across) for name, part in block.inner.items()}
    return WeightPatch(changes, target.before - state)


def matrix(part: Any) -> Float[Tensor, "out width"]:
    """The weight of a linear map as it acts on a column; GPT-2 stores the transpose."""
    weight: Tensor = part.weight
    return weight.T if type(part).__name__ == "Conv1D" else weight


def apply(block: LanguageBlock, patch: WeightPatch) -> None:
    """Change a block's weights in place."""
    for name, change in patch.weights.items():
        matrix(block.inner[name]).add_(change)
    bias = getattr(block.outer, "bias", None)
    grown = patch.bias if bias is None else bias + patch.bias
    block.outer.bias = torch.nn.Parameter(grown, requires_grad=False)


def require_equal(name: str, place: int, found: Tensor, wanted: Tensor) -> None:
    """Refuse a block whose output is no sum of its state and its perceptron's output.

    Rounding grows with the numbers that are added; a thousand times their precision is far above it, and far below what
    a patch in the wrong place leaves.
    """
    allowed = 1e3 * torch.finfo(wanted.dtype).eps * wanted.abs().max()
    if (found - wanted).abs().max() > allowed:
        raise InputError(
            f"weight patch: block {place} of {name} does not allow it: with the patch its output differs from that "
            f"with the context by {(found - wanted).abs().max():.2g}. What its perceptron gives is not added to the "
            "state as it is, for example because a norm follows it."
        )


@torch.no_grad()
def patched(model: LanguageModel, patches: Sequence[WeightPatch]) -> LanguageModel:
    """The model with changed weights; an ordinary model of the same kind, which takes any prompt.

    What is not changed is shared with the model.
    """
    own = {id(part.weight) for block in blocks_of(model) for part in block.inner.values()}
    kept = {id(t): t for t in (*model.network.parameters(), *model.network.buffers()) if id(t) not in own}
    network = copy.deepcopy(model.network, kept)
    twin = replace(model, network=network)
    for block, patch in zip(blocks_of(twin), patches, strict=True):
        apply(block, patch)
    return twin
