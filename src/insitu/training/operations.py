"""Operations and memory traffic of networks, counted from their sizes: the cost of a training before it is run.

Operations are those of matrix products alone, two for every product of two numbers; all else in these networks grows
with a lower power of the sizes. In small networks that takes as long as the products, and what it takes goes with the
numbers that are written.
"""

import functools
from collections.abc import Callable
from typing import Any

from insitu.errors import InputError
from insitu.models import (
    Architecture,
    AugmentedArchitecture,
    DecoderArchitecture,
    HeadsArchitecture,
    TransformerArchitecture,
)
from insitu.models.block import SHORT

__all__ = ["forward_numbers", "forward_operations", "training_hours"]

SPEED = 0.2 * 67e12
"""Operations in a second: a fifth of the peak of an NVIDIA H100 (SXM) in float32, 67 TFLOP/s by its data sheet."""
SHORTEST_STEP = 5e-3
"""The least seconds of a step: a thousand kernel launches at 5 microseconds each."""
BACKWARD = 2
"""The backward pass over the forward pass: a product for the inputs and one for the weights of each product."""


def training_hours(operations: int, steps: int) -> float:
    r"""The hours of a training on an H100, to two significant digits.

    .. math:: \text{steps} \cdot \max(3 \cdot \text{operations} / \text{speed}, \text{shortest step})

    Args:
        operations: Those of the forward passes of one step, all copies together.
        steps: The number of updates.

    Example:
        >>> training_hours(10**12, 100_000), training_hours(10**6, 100_000)
        (6.2, 0.14)
    """
    step = max((1 + BACKWARD) * operations / SPEED, SHORTEST_STEP)
    return float(f"{steps * step / 3600:.2g}")


@functools.singledispatch
def forward_operations(architecture: Any, *, batch: int, context: int, queries: int = 1, alone: bool = False) -> int:
    """The operations of a forward pass with an answer at every token.

    Args:
        architecture: The shape of the network.
        batch: Prompts, or sequences.
        context: Examples in a prompt; a sequence holds the query as one input more.
        queries: Queries in a prompt.
        alone: Whether the queries alone are answered, which leaves out part of the last block of a transformer.

    Returns:
        The operations in matrix products; for linear attention under a mask that is causal on more than two blocks of
        64 tokens an upper bound.

    Raises:
        InputError: If the operations of this kind of network are not known.

    Example:
        >>> forward_operations(TransformerArchitecture(dim=3, layers=2), batch=8, context=20)
        9214464
    """
    kinds = ", ".join(sorted(kind.__name__ for kind in forward_operations.registry if kind is not object))
    raise InputError(
        f"forward_operations: the operations of {type(architecture).__name__} are not known; they are for {kinds}."
    )


def product(rows: int, inner: int, columns: int) -> int:
    """The operations of a matrix product."""
    return 2 * rows * inner * columns


def mixing(batch: int, rows: int, keys: int, width: int) -> int:
    """Scores of all rows with all keys, and the mean of as many values."""
    return batch * (product(rows, width, keys) + product(rows, keys, width))


def block(batch: int, tokens: int, asked: int, width: int, heads: int, head_width: int | None) -> int:
    """A transformer block, whose network is four times as wide as its stream; only some tokens are asked for."""
    head = head_width or width // heads
    maps = product(batch * tokens, width, 3 * heads * head) + product(batch * asked, heads * head, width)
    network = 2 * product(batch * asked, width, 4 * width)
    return maps + mixing(batch * heads, asked, max(tokens, SHORT), head) + network


def blocks(count: Callable[..., int], layers: int, batch: int, tokens: int, asked: int, *sizes: int | None) -> int:
    """What a count says of blocks of which the last computes the tokens that are asked for alone."""
    return (layers - 1) * count(batch, tokens, tokens, *sizes) + count(batch, tokens, asked, *sizes)


@forward_operations.register
def transformer(
    shape: TransformerArchitecture, *, batch: int, context: int, queries: int = 1, alone: bool = False
) -> int:
    tokens = context + queries
    asked = queries if alone else tokens
    ends = product(batch * tokens, shape.dim + shape.out, shape.width) + product(batch * asked, shape.width, shape.out)
    sizes = shape.width, shape.heads, shape.head_width
    return ends + blocks(block, shape.layers, batch, tokens, asked, *sizes)


@forward_operations.register
def decoder(shape: DecoderArchitecture, *, batch: int, context: int, queries: int = 1, alone: bool = False) -> int:
    # An input and a label are a token each, but for the last label; answers are read out of the inputs.
    points = context + queries
    tokens, asked = 2 * points - 1, queries if alone else points
    ends = product(batch * tokens, shape.dim, shape.width) + product(batch * asked, shape.width, shape.out)
    return ends + blocks(block, shape.layers, batch, tokens, asked, shape.width, shape.heads, None)


@forward_operations.register
def attention_network(shape: Architecture, *, batch: int, context: int, queries: int = 1, alone: bool = False) -> int:
    tokens = context + queries
    inner = shape.head_width or shape.width
    maps = (2 if shape.merged else 4) * product(batch * tokens, shape.width, shape.heads * inner)
    if shape.attention == "softmax":
        attention = mixing(batch * shape.heads, tokens, tokens, inner)
    else:
        attention = batch * shape.heads * moments(tokens, context, shape.mask.span(context), inner)
    return shape.layers * (maps + attention) + product(batch * tokens, shape.width, shape.out)


def moments(tokens: int, context: int, span: int, inner: int) -> int:
    """Linear attention: a moment of what all see, read by all, and scores for what follows."""
    shared = product(inner, span, inner) + product(tokens, inner, inner) if span else 0
    return shared + mixing(1, tokens - span, context - span, inner)


@forward_operations.register
def augmented_stack(
    shape: AugmentedArchitecture, *, batch: int, context: int, queries: int = 1, alone: bool = False
) -> int:
    time = context + queries
    maps = product(batch * time, shape.width, 4 * shape.width)
    layers = shape.layers * (maps + mixing(batch, time, time, shape.width))
    return layers + product(batch * time, shape.width, shape.dim)


@forward_operations.register
def positioned_heads(
    shape: HeadsArchitecture, *, batch: int, context: int, queries: int = 1, alone: bool = False
) -> int:
    time, width, heads = context + queries, shape.width, shape.heads
    # Positions have queries, keys and scores like a sequence more, and no values.
    scores = 2 * product((batch + 1) * time, width, heads * width) + (batch + 1) * heads * product(time, width, time)
    values = product(batch * time, width, heads * width) + batch * heads * product(time, time, width)
    return scores + values + product(batch * time, heads * width, width) + product(batch * time, width, shape.dim)


@functools.singledispatch
def forward_numbers(shape: Any, *, batch: int, context: int, queries: int = 1, alone: bool = False) -> int:
    """The numbers that the layers of a forward pass write, about: those of every intermediate result.

    Args:
        shape: The shape of the network. Of a kind that has no blocks, a layer counts as four maps of the stream.
        batch: Prompts, or sequences.
        context: Examples in a prompt.
        queries: Queries in a prompt.
        alone: Whether the queries alone are answered.

    Example:
        >>> forward_numbers(TransformerArchitecture(dim=3, layers=2), batch=8, context=20)
        278880
    """
    return 8 * shape.layers * batch * (context + queries) * shape.width


def block_numbers(batch: int, tokens: int, asked: int, width: int, heads: int, head_width: int | None) -> int:
    """The stream's norm, queries, keys and values and their layout by heads; then, for tokens that are asked for, sums,
    the inner layer before and after its GELU, and scores, which are masked and turned into shares.
    """
    inner = heads * (head_width or width // heads)
    later = 13 * width + 2 * inner + 3 * heads * max(tokens, SHORT)
    return batch * (tokens * (width + 6 * inner) + asked * later)


@forward_numbers.register
def transformer_numbers(
    shape: TransformerArchitecture, *, batch: int, context: int, queries: int = 1, alone: bool = False
) -> int:
    tokens, sizes = context + queries, (shape.width, shape.heads, shape.head_width)
    return blocks(block_numbers, shape.layers, batch, tokens, queries if alone else tokens, *sizes)


@forward_numbers.register
def decoder_numbers(
    shape: DecoderArchitecture, *, batch: int, context: int, queries: int = 1, alone: bool = False
) -> int:
    points = context + queries
    tokens, asked = 2 * points - 1, queries if alone else points
    return blocks(block_numbers, shape.layers, batch, tokens, asked, shape.width, shape.heads, None)
