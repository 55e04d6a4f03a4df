"""The transformer block, with its variants as options."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, final, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from insitu.errors import InputError, require_count, require_one_of
from insitu.seed import Seed

__all__ = ["EVERY", "Block", "Dense", "Norm", "Scores", "hidden", "initialise_blocks", "through"]

Scores = Literal["product", "distance"]
Norm = Literal["branch", "stream"]

# All tokens of a prompt.
EVERY = slice(None)
# PyTorch's softmax takes the numbers of a shorter row one by one on a CPU, at ten times the cost; such a row is
# padded with masked keys.
SHORT = 16


@final
class Dense(nn.Module):
    """An affine map that starts at zero: unlike ``nn.Linear`` it draws nothing from the global generator."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, tokens: Float[Tensor, "*place inputs"]) -> Float[Tensor, "*place outputs"]:
        return nn.functional.linear(tokens, self.weight, self.bias)


def hidden(visible: Bool[Tensor, "row column"], like: Tensor) -> Float[Tensor, "row column"]:
    """The additive mask: zero at visible tokens and minus infinity elsewhere."""
    return torch.where(visible, 0.0, -torch.inf).to(like)


@final
class Block(nn.Module):
    r"""Softmax attention, then a two-layer network with a GELU in between, each added to the residual stream.

    Args:
        width: The width of a token.
        heads: The number of heads.
        head_width: The width of a head's queries, keys and values (default: ``width / heads``).
        expansion: The width of the inner layer over that of the stream.
        scores: *product* attends by :math:`q \cdot k / \sqrt h`; *distance* subtracts :math:`\|k\|^2 / 2`, which with a
            term that softmax cancels is minus half the squared distance of k and a scaled q.
        norm: *branch* normalises the copy of the stream that a part reads (GPT-2); *stream* normalises the stream
            itself, and parts are added to the result.

    Raises:
        InputError: If a size is not positive, or the heads do not divide the width and no head width is given.

    References:
        Vaswani et al. (2017); Radford et al. (2019) for *branch*; the code released with Ding et al. (2024) for
        *distance* and *stream*.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int | None = None,
        expansion: int = 4,
        scores: Scores = "product",
        norm: Norm = "branch",
    ) -> None:
        super().__init__()
        for name, size in {"width": width, "heads": heads, "expansion": expansion}.items():
            require_count("Block", name, size, least=1)
        if head_width is not None:
            require_count("Block", "head_width", head_width, least=1)
        require_one_of("Block", "scores", scores, get_args(Scores))
        require_one_of("Block", "norm", norm, get_args(Norm))
        if head_width is None and width % heads:
            raise InputError(f"Block: {heads} heads do not divide a width of {width}; give a head_width.")
        inner = heads * (head_width or width // heads)
        self.heads, self.scores, self.norm = heads, scores, norm
        self.before_attention = nn.LayerNorm(width)
        self.attention = Dense(width, 3 * inner)
        self.projection = Dense(inner, width)
        self.before_network = nn.LayerNorm(width)
        self.expansion = Dense(width, expansion * width)
        self.contraction = Dense(expansion * width, width)

    def forward(
        self, stream: Float[Tensor, "batch token width"], unseen: Float[Tensor, "token token"], asked: slice = EVERY
    ) -> Float[Tensor, "batch asked width"]:
        """The stream after the block at the tokens that are asked for; ``unseen`` as :func:`hidden` makes it."""
        read = self.before_attention(stream)
        stream = (read if self.norm == "stream" else stream)[:, asked] + self.attend(read, unseen, asked)
        read = self.before_network(stream)
        inner = self.contraction(nn.functional.gelu(self.expansion(read)))
        return (read if self.norm == "stream" else stream) + inner

    def attend(
        self, read: Float[Tensor, "batch token width"], unseen: Float[Tensor, "token token"], asked: slice = EVERY
    ) -> Float[Tensor, "batch asked width"]:
        """The update of the stream by attention."""
        parts = self.attention(read).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        query, unseen = query[:, :, asked], unseen[asked]
        short = max(0, SHORT - key.shape[-2])
        if short:
            key, value = (nn.functional.pad(part, (0, 0, 0, short)) for part in (key, value))
            unseen = nn.functional.pad(unseen, (0, short), value=-torch.inf)
        # The scores are spelled out: the fused kernel has no rule for many copies of the weights at once. Queries are
        # scaled and not scores, as they are fewer numbers.
        scores = (query / math.sqrt(query.shape[-1])) @ key.mT + unseen
        if self.scores == "distance":
            scores = scores - key.square().sum(-1)[..., None, :] / 2
        return self.projection((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


def through(
    blocks: Sequence[nn.Module],
    stream: Float[Tensor, "batch token width"],
    unseen: Float[Tensor, "token token"],
    asked: slice = EVERY,
) -> Iterator[Float[Tensor, "batch some width"]]:
    """The stream before the first block and after each; after the last one at the tokens that are asked for alone."""
    *earlier, last = blocks
    yield stream
    for block in earlier:
        stream = block(stream, unseen)
        yield stream
    yield last(stream, unseen, asked)


def initialise_blocks(
    network: nn.Module, seed: Seed, layers: int, positions: float = 0.02, blocks: float | None = None
) -> None:
    r"""Fill the weights of a network of blocks, each from its own stream.

    Matrices get normal numbers of variance 1 / inputs, those that write into the residual stream 1 / (2 layers) of
    that; biases zero; norms one. GPT-2's own start, with 0.02 for ``positions`` and ``blocks``, suits widths of
    hundreds; below a hundred it leaves attention flat for most of a short training.

    Args:
        network: The network to initialise.
        seed: The seed of all weights.
        layers: The number of blocks that write into the stream.
        positions: The standard deviation of the position embeddings.
        blocks: The standard deviation of the blocks' matrices in place of :math:`1 / \sqrt{inputs}`.
    """
    for name, parameter in network.named_parameters():
        noise = (seed / name).normal(*parameter.shape)
        with torch.no_grad():
            if name == "positions":
                parameter.copy_(positions * noise)
            elif parameter.ndim == 1:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                fixed_std = blocks if name.startswith("blocks.") else None
                std = parameter.shape[1] ** -0.5 if fixed_std is None else fixed_std
                writes = name.endswith(("projection.weight", "contraction.weight"))
                parameter.copy_(noise * std / math.sqrt(2 * layers if writes else 1))
