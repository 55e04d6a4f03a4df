r"""Networks that predict the next entry at every position of a sequence, as in the experiments of Sander et al.

Both read :math:`s_1, \dots, s_n` and answer at every T with a prediction of :math:`s_{T+1}` from what stands before.
Their attention has no softmax over the tokens unless asked for.
"""

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError, require_count, require_flag, require_one_of
from insitu.models.block import Dense, hidden
from insitu.models.mask import Causal
from insitu.models.network import Lesson, Network
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed

__all__ = [
    "AugmentedArchitecture",
    "AugmentedStack",
    "HeadsArchitecture",
    "PositionedHeads",
    "SequenceAttention",
    "initialise_dense",
    "sequences_of",
]

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
        """The update of every token, from itself and earlier ones."""
        query, key, value = self.maps(tokens).chunk(3, dim=-1)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        visible = Causal().visible(tokens.shape[1], 0).to(tokens.device)
        weights = (scores + hidden(visible, scores)).softmax(-1) if self.kind == "softmax" else scores * visible
        return self.projection(weights @ value)


def sequences_of(prompt: Prompt) -> Float[Tensor, "sequence time dim"]:
    """The sequences s_1, ..., s_T of a prompt whose examples are (s_t, s_{t+1}), one for every query s_T."""
    before = torch.cat([prompt.xs[:, :1], prompt.ys[:, :-1]], dim=1)
    before = before[:, None].expand(-1, prompt.queries.shape[1], -1, -1)
    return torch.cat([before, prompt.queries[:, :, None]], dim=2).flatten(0, 1)


class SequenceNetwork(Network):
    """A network that reads a sequence and answers with its next entry at every position."""

    readout: Dense

    @abc.abstractmethod
    def through_layers(self, sequence: Float[Tensor, "batch time dim"]) -> Iterator[Float[Tensor, "batch time width"]]:
        """The states of all entries before the first layer and after each."""

    @final
    def query_states(self, prompt: Prompt) -> Iterator[Float[Tensor, "batch query width"]]:
        self.require_fit(prompt)
        sequences = sequences_of(prompt).to(self.readout.weight)
        return (state[:, -1].unflatten(0, (prompt.batch, -1)) for state in self.through_layers(sequences))

    @final
    def read_out(self, state: Float[Tensor, "*place width"]) -> Float[Tensor, "*place out"]:
        return self.readout(state)

    @final
    @property
    def ordered(self) -> str:
        return "it reads the examples as the entries of a sequence"

    @final
    @property
    def prompts(self) -> Literal["regression", "sequence"]:
        return "sequence"

    @final
    def lesson(self, episode: Episode) -> Lesson:
        # Every entry with the next one, the answer last.
        targets = torch.cat([episode.prompt.ys, episode.answers[:, :1]], dim=1)
        first = Prompt(episode.prompt.xs, episode.prompt.ys, episode.prompt.queries[:, :1])
        return Lesson((sequences_of(first),), targets)


@final
@dataclass(frozen=True)
class AugmentedArchitecture:
    """The shape of an :class:`AugmentedStack`.

    Args:
        dim: The dimension d of an entry; tokens have width 3 d.
        layers: The number of layers.
        attention: *linear* or *softmax* attention weights.
        normalised: Whether what attention writes is layer-normalised.

    Raises:
        InputError: If a size is below 1 or the attention is unknown.
    """

    dim: int
    layers: int = 1
    attention: Kind = "linear"
    normalised: bool = True

    def __post_init__(self) -> None:
        for name in ("dim", "layers"):
            require_count("AugmentedArchitecture", name, getattr(self, name), least=1)
        require_one_of("AugmentedArchitecture", "attention", self.attention, get_args(Kind))
        require_flag("AugmentedArchitecture", "normalised", self.normalised)

    @property
    def out(self) -> int:
        """The number of outputs: the next entry."""
        return self.dim

    @property
    def width(self) -> int:
        """The width of a token."""
        return 3 * self.dim


@final
class AugmentedStack(SequenceNetwork):
    r"""Layers of causal attention on augmented tokens :math:`(0, s_t, s_{t-1})`, with a linear read-out.

    Each layer adds :math:`\mathrm{LN}(\mathrm{attention}(x))` to the residual stream.

    References:
        Sander et al. (2024), figure 5; the released code uses no positions and no feed-forward layers.

    Example:
        >>> AugmentedStack(AugmentedArchitecture(dim=5, layers=2))(torch.zeros(3, 7, 5)).shape
        torch.Size([3, 7, 5])
    """

    architecture_class: ClassVar[type[AugmentedArchitecture]] = AugmentedArchitecture
    architecture: AugmentedArchitecture

    def __init__(self, architecture: AugmentedArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        width, layers = architecture.width, range(architecture.layers)
        self.attention = nn.ModuleList(SequenceAttention(width, architecture.attention) for _ in layers)
        self.norms = nn.ModuleList(nn.LayerNorm(width) if architecture.normalised else nn.Identity() for _ in layers)
        self.readout = Dense(width, architecture.dim)

    def forward(self, sequence: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """The prediction of the next entry at every position."""
        *_, last = self.through_layers(sequence)
        return self.read_out(last)

    def through_layers(self, sequence: Float[Tensor, "batch time dim"]) -> Iterator[Float[Tensor, "batch time width"]]:
        """The residual stream before the first layer and after each."""
        before = torch.cat([torch.zeros_like(sequence[:, :1]), sequence[:, :-1]], dim=1)
        stream = torch.cat([torch.zeros_like(sequence), sequence, before], dim=-1)
        yield stream
        for attention, norm in zip(self.attention, self.norms, strict=True):
            stream = stream + norm(attention(stream))
            yield stream

    def initialise(self, seed: Seed, std: float = 0.0) -> None:
        initialise_dense(self, seed)


@final
@dataclass(frozen=True)
class HeadsArchitecture:
    """The shape of :class:`PositionedHeads`.

    Args:
        dim: The dimension d of an entry.
        length: The longest sequence.
        heads: The number of heads, each of the whole width.
        copies: The copies of an entry in its token, whose width is w = copies d.

    Raises:
        InputError: If a size is below 1.
    """

    dim: int
    length: int
    heads: int = 1
    copies: int = 2

    def __post_init__(self) -> None:
        for name in ("dim", "length", "heads", "copies"):
            require_count("HeadsArchitecture", name, getattr(self, name), least=1)

    @property
    def out(self) -> int:
        """The number of outputs: the next entry."""
        return self.dim

    @property
    def layers(self) -> int:
        """The number of layers."""
        return 1

    @property
    def width(self) -> int:
        """The width of a token."""
        return self.copies * self.dim


@final
class PositionedHeads(SequenceNetwork):
    r"""One layer of heads on plain tokens, whose scores are products of contents and of a softmax of positions.

    .. math:: u_i = \mathrm{LN}\Big(\sum_h O_h \sum_{t \le i} \frac{\langle q_i, k_t \rangle_h}{\sqrt w}\,
        \mathrm{softmax}_{t \le i}\Big(\frac{\langle q(\pi_i), k(\pi_t) \rangle_h}{\sqrt w}\Big)\, v_t\Big),

    where the maps of queries and keys are shared by contents and positions :math:`\pi`, and the query is the token
    :math:`s_i` itself. There is no residual connection.

    References:
        Sander et al. (2024), figure 7, as in the released code.

    Example:
        >>> PositionedHeads(HeadsArchitecture(dim=5, length=9, heads=2))(torch.zeros(3, 7, 5)).shape
        torch.Size([3, 7, 5])
    """

    architecture_class: ClassVar[type[HeadsArchitecture]] = HeadsArchitecture
    architecture: HeadsArchitecture

    def __init__(self, architecture: HeadsArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        width, heads = architecture.width, architecture.heads
        self.places = nn.Parameter(torch.zeros(architecture.length, width))
        self.query, self.key, self.value = (Dense(width, heads * width) for _ in range(3))
        self.projection = Dense(heads * width, width)
        self.norm = nn.LayerNorm(width)
        self.readout = Dense(width, architecture.dim)

    @property
    def room(self) -> float:
        return self.architecture.length - 1

    def forward(self, sequence: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """The prediction of the next entry at every position.

        Raises:
            InputError: If the sequence is longer than ``length``.
        """
        if sequence.shape[1] > self.architecture.length:
            raise InputError(
                f"PositionedHeads: built for sequences of at most {self.architecture.length} entries; got "
                f"{sequence.shape[1]}."
            )
        *_, last = self.through_layers(sequence)
        return self.read_out(last)

    def through_layers(self, sequence: Float[Tensor, "batch time dim"]) -> Iterator[Float[Tensor, "batch time width"]]:
        """The tokens before the layer, and what it makes of them."""
        time = sequence.shape[1]
        tokens = sequence.repeat(1, 1, self.architecture.copies)
        yield tokens
        by_place = self.scores(self.places[:time][None])
        by_place = by_place + hidden(Causal().visible(time, 0).to(tokens.device), by_place)
        weights = self.scores(tokens) * by_place.softmax(-1)
        mixed = weights @ self.split(self.value(tokens))
        yield self.norm(self.projection(mixed.transpose(1, 2).flatten(2)))

    @classmethod
    def sizes_for(cls, points: int) -> dict[str, int]:
        return {"length": points + 1}

    def initialise(self, seed: Seed, std: float = 0.0) -> None:
        initialise_dense(self, seed)

    def scores(self, tokens: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch head time time"]:
        query, key = self.split(self.query(tokens)), self.split(self.key(tokens))
        return query @ key.mT / math.sqrt(query.shape[-1])

    def split(self, wide: Float[Tensor, "batch time wide"]) -> Float[Tensor, "batch head time width"]:
        return wide.unflatten(-1, (self.architecture.heads, -1)).transpose(1, 2)


def initialise_dense(network: nn.Module, seed: Seed) -> None:
    r"""Fill maps and biases with uniform numbers in :math:`\pm 1/\sqrt{inputs}`, positions with normal ones; norms one.

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
