r"""Networks that read a sequence and predict its next entry at every place, as in the experiments of Sander et al.

Both read :math:`s_1, \dots, s_n` and answer at every T with a prediction of :math:`s_{T+1}` from what stands before.
Their attention has no softmax over the tokens unless asked for.
"""

import math
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError, require_count, require_one_of
from insitu.models.block import Dense, hidden
from insitu.models.mask import Causal
from insitu.seed import Seed

__all__ = ["AugmentedStack", "PositionedHeads", "SequenceAttention", "initialise_dense"]

Kind = Literal["linear", "softmax"]


@final
class SequenceAttention(nn.Module):
    """One head of causal attention with biases everywhere, its scores weighed linearly or by a softmax."""

    def __init__(self, width: int, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.maps = Dense(width, 3 * width)
        self.projection = Dense(width, width)

    def forward(self, tokens: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        """What every token gets from itself and those before it."""
        query, key, value = self.maps(tokens).chunk(3, dim=-1)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        visible = Causal().visible(tokens.shape[1], 0).to(tokens.device)
        weights = (scores + hidden(visible, scores)).softmax(-1) if self.kind == "softmax" else scores * visible
        return self.projection(weights @ value)


@final
class AugmentedStack(nn.Module):
    r"""Layers of causal attention on augmented tokens :math:`(0, s_t, s_{t-1})`, with a linear read-out.

    Each layer adds :math:`\mathrm{LN}(\mathrm{attention}(x))` to the residual stream.

    Args:
        dim: The dimension d of an entry; tokens have width 3 d.
        layers: The number of layers.
        kind: How scores become weights.
        normalised: Whether what attention writes is layer-normalised.

    Raises:
        InputError: If a size is below 1 or the kind is unknown.

    References:
        Sander et al. (2024), figure 5; the released code uses no positions and no feed-forward layers.

    Example:
        >>> AugmentedStack(dim=5, layers=2)(torch.zeros(3, 7, 5)).shape
        torch.Size([3, 7, 5])
    """

    def __init__(self, dim: int, layers: int = 1, kind: Kind = "linear", normalised: bool = True) -> None:
        super().__init__()
        require_count("AugmentedStack", "dim", dim, least=1)
        require_count("AugmentedStack", "layers", layers, least=1)
        require_one_of("AugmentedStack", "kind", kind, get_args(Kind))
        width = 3 * dim
        self.attention = nn.ModuleList(SequenceAttention(width, kind) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) if normalised else nn.Identity() for _ in range(layers))
        self.readout = Dense(width, dim)

    def forward(self, sequence: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """The prediction of the next entry at every place."""
        before = torch.cat([torch.zeros_like(sequence[:, :1]), sequence[:, :-1]], dim=1)
        stream = torch.cat([torch.zeros_like(sequence), sequence, before], dim=-1)
        for attention, norm in zip(self.attention, self.norms, strict=True):
            stream = stream + norm(attention(stream))
        return self.readout(stream)


@final
@dataclass(frozen=True)
class HeadsShape:
    """The sizes of :class:`PositionedHeads`."""

    dim: int
    length: int
    heads: int
    copies: int

    def __post_init__(self) -> None:
        for name in ("dim", "length", "heads", "copies"):
            require_count("PositionedHeads", name, getattr(self, name), least=1)


@final
class PositionedHeads(nn.Module):
    r"""One layer of heads on plain tokens, whose scores are products of contents and of a softmax of positions.

    .. math:: u_i = \mathrm{LN}\Big(\sum_h O_h \sum_{t \le i} \frac{\langle q_i, k_t \rangle_h}{\sqrt w}\,
        \mathrm{softmax}_{t \le i}\Big(\frac{\langle q(\pi_i), k(\pi_t) \rangle_h}{\sqrt w}\Big)\, v_t\Big),

    where the maps of queries and keys are shared by contents and positions :math:`\pi`, and the query is the token
    :math:`s_i` itself. There is no residual connection.

    Args:
        dim: The dimension d of an entry.
        length: The longest sequence.
        heads: The number of heads, each of the whole width.
        copies: How often an entry is repeated in its token, whose width is w = copies d.

    Raises:
        InputError: If a size is below 1, or a sequence is longer than ``length``.

    References:
        Sander et al. (2024), figure 7, as in the released code.

    Example:
        >>> PositionedHeads(dim=5, length=9, heads=2)(torch.zeros(3, 7, 5)).shape
        torch.Size([3, 7, 5])
    """

    def __init__(self, dim: int, length: int, heads: int = 1, copies: int = 2) -> None:
        super().__init__()
        self.shape = HeadsShape(dim, length, heads, copies)
        width = copies * dim
        self.places = nn.Parameter(torch.zeros(length, width))
        self.query, self.key, self.value = (Dense(width, heads * width) for _ in range(3))
        self.projection = Dense(heads * width, width)
        self.norm = nn.LayerNorm(width)
        self.readout = Dense(width, dim)

    def forward(self, sequence: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """The prediction of the next entry at every place."""
        time = sequence.shape[1]
        if time > self.shape.length:
            raise InputError(
                f"PositionedHeads: built for sequences of at most {self.shape.length} entries; got {time}."
            )
        tokens = sequence.repeat(1, 1, self.shape.copies)
        by_place = self.scores(self.places[:time][None])
        by_place = by_place + hidden(Causal().visible(time, 0).to(tokens.device), by_place)
        weights = self.scores(tokens) * by_place.softmax(-1)
        mixed = weights @ self.split(self.value(tokens))
        return self.readout(self.norm(self.projection(mixed.transpose(1, 2).flatten(2))))

    def scores(self, tokens: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch head time time"]:
        query, key = self.split(self.query(tokens)), self.split(self.key(tokens))
        return query @ key.mT / math.sqrt(query.shape[-1])

    def split(self, wide: Float[Tensor, "batch time wide"]) -> Float[Tensor, "batch head time width"]:
        return wide.unflatten(-1, (self.shape.heads, -1)).transpose(1, 2)


def initialise_dense(network: nn.Module, seed: Seed) -> None:
    r"""Fill maps and biases with uniform numbers in :math:`\pm 1/\sqrt{inputs}`, places with normal ones; norms one.

    What PyTorch's linear layers and embeddings start with, drawn from a seed.
    """
    parameters = dict(network.named_parameters())
    for name, parameter in parameters.items():
        with torch.no_grad():
            if name == "places":
                parameter.copy_((seed / name).normal(*parameter.shape))
            elif "norm" in name:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                inputs = parameters[name.removesuffix("bias") + "weight" if name.endswith("bias") else name].shape[1]
                parameter.copy_((2 * (seed / name).uniform(*parameter.shape) - 1) / math.sqrt(inputs))
