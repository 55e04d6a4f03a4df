"""A GPT-2-style decoder over x_1, y_1, x_2, y_2, ..., which answers at every x."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError, require_count
from insitu.models.block import Block, Dense, hidden, initialise_blocks, through
from insitu.models.network import Lesson, Network
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed

__all__ = ["Decoder", "DecoderArchitecture", "initialise_decoder"]


@final
@dataclass(frozen=True)
class DecoderArchitecture:
    """The shape of a decoder; everything but its weights.

    Args:
        dim: The dimension d of an input.
        points: The most inputs that one sequence holds, the query included: there are 2 ``points`` positions.
        width: The width of a token.
        layers: The number of blocks.
        heads: Heads per block.
        out: The number of outputs.

    Raises:
        InputError: If a size is not positive, the heads do not divide the width, or there are more outputs than
            inputs (a label is padded with zeros to the width of an input).

    Example:
        >>> garg = DecoderArchitecture(dim=20, points=101, width=256, layers=12, heads=8)
    """

    dim: int
    points: int
    width: int = 64
    layers: int = 3
    heads: int = 4
    out: int = 1

    def __post_init__(self) -> None:
        for name in ("dim", "points", "width", "layers", "heads", "out"):
            require_count("DecoderArchitecture", name, getattr(self, name), least=1)
        Block(self.width, self.heads)
        if self.out > self.dim:
            raise InputError(
                f"DecoderArchitecture: a label of {self.out} numbers does not fit a token of {self.dim}; out is at "
                "most dim."
            )


@final
class Decoder(Network):
    r"""A causal transformer over interleaved inputs and labels, with learned absolute positions.

    The sequence is :math:`x_1, y_1, x_2, y_2, \dots`, labels padded with zeros to the width of an input; a linear map
    reads it in, another reads an answer out at the position of every :math:`x_i`, where :math:`y_1, .., y_{i-1}` are
    visible. So one pass answers at every prefix of the context, and training uses all of them.

    References:
        Garg et al. (2022); Zhang, Frei and Bartlett (2024), figure 1 and appendix E. The blocks are those of GPT-2
        (Radford et al., 2019) without dropout and with the exact GELU, which on a CPU is four times as fast as the
        approximation by tanh and within 5e-4 of it.

    Example:
        >>> decoder = Decoder(DecoderArchitecture(dim=3, points=9, width=16, layers=2, heads=2))
        >>> initialise_decoder(decoder, Seed(0))
        >>> decoder(torch.zeros(5, 4, 3), torch.zeros(5, 4, 1)).shape
        torch.Size([5, 4, 1])
    """

    architecture_class: ClassVar[type[DecoderArchitecture]] = DecoderArchitecture
    one_query: ClassVar[bool] = True
    architecture: DecoderArchitecture

    def __init__(self, architecture: DecoderArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.reading = Dense(architecture.dim, architecture.width)
        self.positions = nn.Parameter(torch.zeros(2 * architecture.points, architecture.width))
        self.blocks = nn.ModuleList(Block(architecture.width, architecture.heads) for _ in range(architecture.layers))
        self.norm = nn.LayerNorm(architecture.width)
        self.readout = Dense(architecture.width, architecture.out)

    def forward(
        self, xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
    ) -> Float[Tensor, "batch point out"]:
        """The answer at every input from the examples before it.

        Raises:
            InputError: If there are more inputs than the decoder has positions for.
        """
        *_, last = self.through_blocks(xs, ys, slice(None, None, 2))
        return self.read_out(last)

    @property
    def ordered(self) -> str:
        return "it has position embeddings"

    @property
    def room(self) -> float:
        return self.architecture.points - 1

    def query_states(self, prompt: Prompt) -> Iterator[Float[Tensor, "batch query width"]]:
        self.require_fit(prompt)
        # One sequence per query, which is its last input.
        queries, weight = prompt.queries.shape[1], self.readout.weight
        xs, ys = (part[:, None].expand(-1, queries, -1, -1).flatten(0, 1) for part in (prompt.xs, prompt.ys))
        xs = torch.cat([xs, prompt.queries.flatten(0, 1)[:, None]], dim=1).to(weight)
        ys = torch.cat([ys, ys.new_zeros(len(ys), 1, prompt.out)], dim=1).to(weight)
        # The last token is the query.
        for stream in self.through_blocks(xs, ys, slice(-1, None)):
            yield stream[:, -1].unflatten(0, (-1, queries))

    def through_blocks(
        self, xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"], asked: slice
    ) -> Iterator[Float[Tensor, "batch token width"]]:
        """The residual stream before the first block and after each; after the last at the tokens asked for alone.

        The last label is no token, since no input sees it.
        """
        points = xs.shape[1]
        if points > self.architecture.points:
            raise InputError(
                f"Decoder: built for at most {self.architecture.points} inputs in a sequence, the query included; got "
                f"{points}. Shorten the context or build it with more points."
            )
        labels = nn.functional.pad(ys, (0, self.architecture.dim - self.architecture.out))
        tokens = torch.stack([xs, labels], dim=2).flatten(1, 2)[:, :-1]
        size = tokens.shape[1]
        stream = self.reading(tokens) + self.positions[:size]
        unseen = hidden(torch.ones(size, size, dtype=torch.bool, device=xs.device).tril(), stream)
        return through(list(self.blocks), stream, unseen, asked)

    def lesson(self, episode: Episode) -> Lesson:
        xs = torch.cat([episode.prompt.xs, episode.prompt.queries[:, :1]], dim=1)
        ys = torch.cat([episode.prompt.ys, episode.answers[:, :1]], dim=1)
        return Lesson((xs, ys), ys)

    @classmethod
    def sizes_for(cls, points: int) -> dict[str, int]:
        return {"points": points + 1}

    def read_out(self, state: Float[Tensor, "*place width"]) -> Float[Tensor, "*place out"]:
        return self.readout(self.norm(state))

    def initialise(self, seed: Seed, std: float = 0.5) -> None:
        initialise_blocks(self, seed, self.architecture.layers, positions=std)


def initialise_decoder(decoder: Decoder, seed: Seed, positions: float = 0.02, blocks: float | None = None) -> None:
    """Fill the weights as :func:`~insitu.models.block.initialise_blocks` does."""
    initialise_blocks(decoder, seed, decoder.architecture.layers, positions, blocks)
