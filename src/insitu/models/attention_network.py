"""A stack of attention layers on a residual stream."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError, require_count, require_flag, require_one_of
from insitu.models.attention import LinearAttention, MergedMaps, Normaliser, SeparateMaps, SoftmaxAttention
from insitu.models.mask import Mask, Prefix
from insitu.models.network import Lesson, Network, initialise
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed

__all__ = ["Architecture", "AttentionNetwork"]

Encoding = Literal["stacked", "augmented", "carried"]
Attention = Literal["linear", "softmax"]


@final
@dataclass(frozen=True)
class Architecture:
    r"""The shape of an attention network; everything but its weights.

    Args:
        dim: The dimension d of an input.
        out: The number of outputs.
        layers: The number of layers.
        mask: The attention mask.
        attention: Linear or softmax.
        heads: Heads per layer.
        head_width: The width of a head, for separate maps (default: the token's width).
        merged: Whether key and query, and value and projection, are merged into one matrix each.
        normaliser: The divisor of linear attention (see :class:`LinearAttention`).
        shared: Whether all layers share one set of weights.
        encoding: The tokens of a prompt: *stacked* is (x; y) for an example and (x; 0) for a query, of
            width d + out; *augmented* is (0; s_t; s_{t-1}) for a sequence, of width 3 d; *carried* is
            (0; s_t; s_{t-1}; s_t), of width 4 d, with room for a residual beside the entry itself.

    Raises:
        InputError: If a size is not positive, or the encoding does not fit the sizes.
    """

    dim: int
    out: int = 1
    layers: int = 1
    mask: Mask = field(default_factory=Prefix)
    attention: Attention = "linear"
    heads: int = 1
    head_width: int | None = None
    merged: bool = True
    normaliser: Normaliser = "context"
    shared: bool = False
    encoding: Encoding = "stacked"

    def __post_init__(self) -> None:
        for name in ("dim", "out", "layers", "heads"):
            require_count("Architecture", name, getattr(self, name), least=1)
        words = {"attention": Attention, "normaliser": Normaliser, "encoding": Encoding}
        for name, known in words.items():
            require_one_of("Architecture", name, getattr(self, name), get_args(known))
        for name in ("merged", "shared"):
            require_flag("Architecture", name, getattr(self, name))
        if self.encoding != "stacked" and self.out != self.dim:
            raise InputError(
                f"Architecture: {self.encoding} tokens answer with a next entry, so out must be dim; got "
                f"out={self.out} and dim={self.dim}."
            )

    @property
    def width(self) -> int:
        """The width of a token."""
        return {"stacked": self.dim + self.out, "augmented": 3 * self.dim, "carried": 4 * self.dim}[self.encoding]

    def layer(self) -> LinearAttention | SoftmaxAttention:
        """One layer, its weights zero."""
        if self.merged:
            maps: MergedMaps | SeparateMaps = MergedMaps(self.width, self.heads)
        else:
            maps = SeparateMaps(self.width, self.heads, self.head_width)
        return LinearAttention(maps, self.normaliser) if self.attention == "linear" else SoftmaxAttention(maps)


@final
class AttentionNetwork(Network):
    r"""A stack of attention layers on a residual stream, :math:`z \leftarrow z + u(z)`, with a linear read-out.

    The answer to a query is :math:`R z_q`, with :math:`R` of shape ``(out, width)`` a weight like any other: the
    sign convention of a paper (Ding et al. read the label coordinate negated, Zhang et al. plain) is a value of
    :math:`R`. Weights start at zero; see :meth:`initialise` and :mod:`insitu.models.constructed`.

    Example:
        >>> network = AttentionNetwork(Architecture(dim=3, layers=2)).double()
        >>> sum(p.numel() for p in network.parameters())
        68
    """

    architecture_class: ClassVar[type[Architecture]] = Architecture
    architecture: Architecture
    outputs_at_examples: ClassVar[bool] = True

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        count = 1 if architecture.shared else architecture.layers
        self.layers = nn.ModuleList(architecture.layer() for _ in range(count))
        self.readout = nn.Parameter(torch.zeros(architecture.out, architecture.width))

    def forward(self, tokens: Float[Tensor, "batch token width"], context: int) -> Float[Tensor, "batch token out"]:
        """The output at every token, the first ``context`` of which are examples."""
        *_, last = self.through_layers(tokens, context)
        return self.read_out(last)

    def states(self, prompt: Prompt) -> Iterator[Float[Tensor, "batch token width"]]:
        """The tokens of a prompt before the first layer and after each."""
        tokens = self.encode(prompt)
        return self.through_layers(tokens, tokens.shape[1] - prompt.queries.shape[1])

    def query_states(self, prompt: Prompt) -> Iterator[Float[Tensor, "batch query width"]]:
        return (state[:, -prompt.queries.shape[1] :] for state in self.states(prompt))

    def through_layers(
        self, tokens: Float[Tensor, "batch token width"], context: int
    ) -> Iterator[Float[Tensor, "batch token width"]]:
        """Tokens before the first layer and after each."""
        yield tokens
        for index in range(self.architecture.layers):
            layer = self.layers[0 if self.architecture.shared else index]
            tokens = tokens + layer(tokens, self.architecture.mask, context)
            yield tokens

    def encode(self, prompt: Prompt) -> Float[Tensor, "batch token width"]:
        """The prompt as tokens, those of the queries last."""
        self.require_fit(prompt)
        return ENCODINGS[self.architecture.encoding](prompt).to(self.readout.dtype)

    def answers(self, prompt: Prompt, state: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch query out"]:
        """Read the answers out of a state."""
        return self.read_out(state[:, -prompt.queries.shape[1] :]).to(prompt.ys)

    @property
    def ordered(self) -> str:
        if self.prompts == "sequence":
            return "it reads the examples as the entries of a sequence"
        # One layer answers a query from all examples alike; deeper ones have let the examples see each other.
        deep = self.architecture.layers > 1
        return "an example sees those before it" if deep and not self.architecture.mask.symmetric else ""

    @property
    def prompts(self) -> Literal["regression", "sequence"]:
        return "regression" if self.architecture.encoding == "stacked" else "sequence"

    def lesson(self, episode: Episode) -> Lesson:
        tokens = self.encode(episode.prompt)
        context = tokens.shape[1] - episode.answers.shape[1]
        return Lesson((tokens,), nn.functional.pad(episode.answers, (0, 0, context, 0)), context, {"context": context})

    def read_out(self, state: Float[Tensor, "batch query width"]) -> Float[Tensor, "batch query out"]:
        return state @ self.readout.T

    def initialise(self, seed: Seed, std: float = 0.02) -> None:
        initialise(self, seed, std)


def stacked_tokens(prompt: Prompt) -> Float[Tensor, "batch token width"]:
    """(x_i; y_i) for each example, then (x_q; 0) for each query."""
    unknown = prompt.ys.new_zeros(prompt.batch, prompt.queries.shape[1], prompt.out)
    examples = torch.cat([prompt.xs, prompt.ys], dim=-1)
    return torch.cat([examples, torch.cat([prompt.queries, unknown], dim=-1)], dim=1)


def augmented_tokens(prompt: Prompt) -> Float[Tensor, "batch token width"]:
    """(0; s_t; s_{t-1}) for t = 1..T with s_0 = 0, then the query (0; s_T; s_{T-1}) once more.

    The last context token and the query are the same: reading a query that sees the whole context is reading
    the sequence's own last token.
    """
    first, last = prompt.xs[:, :1], prompt.xs[:, -1:].expand_as(prompt.queries)
    now = torch.cat([first, prompt.ys, prompt.queries], dim=1)
    before = torch.cat([torch.zeros_like(first), prompt.xs, last], dim=1)
    return torch.cat([torch.zeros_like(now), now, before], dim=-1)


def carried_tokens(prompt: Prompt) -> Float[Tensor, "batch token width"]:
    """(0; s_t; s_{t-1}; s_t): augmented tokens with the entry once more, so that one copy may become a residual."""
    tokens = augmented_tokens(prompt)
    return torch.cat([tokens, tokens[..., prompt.dim : 2 * prompt.dim]], dim=-1)


ENCODINGS: dict[Encoding, Callable[[Prompt], Tensor]] = {
    "stacked": stacked_tokens,
    "augmented": augmented_tokens,
    "carried": carried_tokens,
}
