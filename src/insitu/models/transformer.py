"""A softmax transformer over example tokens (x; y) and query tokens (x; 0)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import require_count, require_flag
from insitu.models.attention_network import stacked_tokens
from insitu.models.block import EVERY, Block, Dense, Norm, Scores, hidden, initialise_blocks, through
from insitu.models.mask import Mask, Prefix
from insitu.models.network import Lesson, Network
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed

__all__ = ["Transformer", "TransformerArchitecture", "initialise_transformer"]


@final
@dataclass(frozen=True)
class TransformerArchitecture:
    """The shape of a transformer; everything but its weights.

    Args:
        dim: The dimension d of an input.
        out: The number of outputs.
        width: The width of a token.
        layers: The number of blocks that a token passes.
        heads: Heads per block.
        head_width: The width of a head (default: ``width / heads``).
        mask: The attention mask.
        shared: Whether all layers are one block.
        positions: The longest context with learned position embeddings; all queries share one more,
            the same after a shorter context, as no other was trained on queries. 0 for no positions, so that a prefix
            mask does not see the order of examples.
        scores: The attention scores (see :class:`~insitu.models.block.Block`).
        norm: The position of the norms (see :class:`~insitu.models.block.Block`); *branch* also normalises
            before the read-out.

    Raises:
        InputError: If a size is not positive or does not fit.
    """

    dim: int
    out: int = 1
    width: int = 32
    layers: int = 4
    heads: int = 2
    head_width: int | None = None
    mask: Mask = field(default_factory=Prefix)
    shared: bool = False
    positions: int = 0
    scores: Scores = "product"
    norm: Norm = "branch"

    def __post_init__(self) -> None:
        for name in ("dim", "out", "layers"):
            require_count("TransformerArchitecture", name, getattr(self, name), least=1)
        require_count("TransformerArchitecture", "positions", self.positions)
        require_flag("TransformerArchitecture", "shared", self.shared)
        self.block()

    def block(self) -> Block:
        """One block, its matrices zero."""
        return Block(self.width, self.heads, self.head_width, scores=self.scores, norm=self.norm)


@final
class Transformer(Network):
    """Blocks of softmax attention over stacked tokens, with independent queries.

    References:
        Ding et al. (2024), section 5.2 and appendix E.2. The released code follows Akyurek et al. (2022) with
        departures that are options here: ``scores="distance"``, ``norm="stream"``, heads of half the usual width,
        learned positions.

    Example:
        >>> transformer = Transformer(TransformerArchitecture(dim=3, layers=2))
        >>> initialise_transformer(transformer, Seed(0))
        >>> prompt = Prompt(torch.zeros(5, 4, 3), torch.zeros(5, 4, 1), torch.zeros(5, 2, 3))
        >>> transformer.predict(prompt).shape
        torch.Size([5, 2, 1])
    """

    architecture_class: ClassVar[type[TransformerArchitecture]] = TransformerArchitecture
    architecture: TransformerArchitecture
    mask_is_input: ClassVar[bool] = True
    outputs_at_examples: ClassVar[bool] = True

    def __init__(self, architecture: TransformerArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        shape = architecture
        self.reading = Dense(shape.dim + shape.out, shape.width)
        self.positions = nn.Parameter(torch.zeros(shape.positions + 1, shape.width)) if shape.positions else None
        self.blocks = nn.ModuleList(shape.block() for _ in range(1 if shape.shared else shape.layers))
        self.norm = nn.LayerNorm(shape.width) if shape.norm == "branch" else nn.Identity()
        self.readout = Dense(shape.width, shape.out)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        unseen: Float[Tensor, "token token"],
        context: int,
        first: int = 0,
    ) -> Float[Tensor, "batch asked out"]:
        """The output at every token from the ``first`` one on; the leading ``context`` tokens are examples.

        ``unseen`` is as :func:`~insitu.models.block.hidden` makes it. The mask comes as an argument, so that copies of
        one transformer with different masks run as one ensemble.
        """
        *_, last = self.through_blocks(tokens, unseen, context, slice(first, None))
        return self.readout(self.norm(last))

    @property
    def ordered(self) -> str:
        if self.architecture.positions:
            return "it has position embeddings"
        deep = self.architecture.layers > 1
        return "an example sees those before it" if deep and not self.architecture.mask.symmetric else ""

    @property
    def room(self) -> float:
        return self.architecture.positions or math.inf

    def states(self, prompt: Prompt) -> Iterator[Float[Tensor, "batch token width"]]:
        """The stream of a prompt before the first block and after each."""
        return self._states(prompt, EVERY)

    def query_states(self, prompt: Prompt) -> Iterator[Float[Tensor, "batch query width"]]:
        queries = slice(-prompt.queries.shape[1], None)
        return (state[:, queries] for state in self._states(prompt, queries))

    def _states(self, prompt: Prompt, asked: slice) -> Iterator[Float[Tensor, "batch token width"]]:
        tokens = self.encode(prompt)
        visible = self.architecture.mask.visible(prompt.points, prompt.queries.shape[1])
        return self.through_blocks(tokens, hidden(visible.to(tokens.device), tokens), prompt.points, asked)

    def encode(self, prompt: Prompt) -> Float[Tensor, "batch token width"]:
        """The prompt as tokens (x; y), then (x; 0)."""
        self.require_fit(prompt)
        return stacked_tokens(prompt).to(self.readout.weight)

    def answers(self, prompt: Prompt, state: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch query out"]:
        """Read the answers out of a state."""
        return self.read_out(state[:, -prompt.queries.shape[1] :]).to(prompt.ys)

    def lesson(self, episode: Episode) -> Lesson:
        tokens, context = self.encode(episode.prompt), episode.prompt.points
        visible = self.architecture.mask.visible(context, episode.answers.shape[1])
        unseen = hidden(visible.to(tokens.device), tokens)
        targets = nn.functional.pad(episode.answers, (0, 0, context, 0))
        return Lesson((tokens, unseen), targets, context, {"context": context}, {"first": context})

    def read_out(self, state: Float[Tensor, "batch query width"]) -> Float[Tensor, "batch query out"]:
        return self.readout(self.norm(state))

    def initialise(self, seed: Seed, std: float = 0.5) -> None:
        initialise_blocks(self, seed, self.architecture.layers, positions=std)

    def through_blocks(
        self,
        tokens: Float[Tensor, "batch token inner"],
        unseen: Float[Tensor, "token token"],
        context: int,
        asked: slice = EVERY,
    ) -> Iterator[Float[Tensor, "batch token width"]]:
        """The stream before the first block and after each; after the last at the tokens asked for alone."""
        stream = self.reading(tokens)
        if self.positions is not None:
            place = torch.arange(tokens.shape[1], device=tokens.device)
            stream = stream + self.positions[torch.where(place < context, place, self.architecture.positions)]
        blocks = list(self.blocks) * (self.architecture.layers if self.architecture.shared else 1)
        return through(blocks, stream, unseen, asked)


def initialise_transformer(transformer: Transformer, seed: Seed, positions: float = 0.02) -> None:
    """Fill the weights as :func:`~insitu.models.block.initialise_blocks` does."""
    initialise_blocks(transformer, seed, transformer.architecture.layers, positions)
