"""The network interface: a predictor that answers after every layer and can be stored.

A new kind is one file: a frozen dataclass for its architecture and a final class below :class:`Network`, named in
``models/__init__.py``. Checkpoints, training files, identification and the laws find it there.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError
from insitu.kinds import kinds_below
from insitu.predictor import Predictor
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed

__all__ = ["Lesson", "Network", "initialise", "kind_of", "network_kinds"]


@final
@dataclasses.dataclass(frozen=True)
class Lesson:
    """The inputs and the targets of a network's forward pass for an episode.

    Args:
        inputs: The tensors that ``forward`` takes.
        targets: The target output at every position.
        context: The number of leading positions that are examples, whose target is zero.
        fixed: Further arguments of ``forward``, the same for all copies of an ensemble.
        alone: Arguments with which ``forward`` leaves out the outputs at examples; empty where it cannot.
    """

    inputs: tuple[Tensor, ...]
    targets: Float[Tensor, "batch place out"]
    context: int = 0
    fixed: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alone: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Network(nn.Module, Predictor):
    """A network that reads prompts and answers after every layer.

    Every kind has an architecture, a frozen dataclass with ``dim``, ``out``, ``layers`` and ``width``, and is built
    from it alone, with all weights zero.
    """

    architecture_class: ClassVar[type[Any]]
    """The class of this kind's architectures."""
    architecture: Any
    """Everything but the weights."""
    mask_is_input: ClassVar[bool] = False
    """Whether the mask is an input of ``forward``, so that copies with different masks run as one ensemble."""
    outputs_at_examples: ClassVar[bool] = False
    """Whether it has outputs at the examples, which a loss may penalise."""
    one_query: ClassVar[bool] = False
    """Whether a forward pass reads one query alone: it learns from the first, and others are sequences of their own."""
    origin: str = ""
    """The algorithm that weights set by hand run; empty for other weights."""

    @abc.abstractmethod
    def query_states(self, prompt: Prompt) -> Iterator[Float[Tensor, "batch query width"]]:
        """The states of the queries before the first layer and after each.

        Raises:
            InputError: If the prompt does not fit, see :meth:`require_fit`.
        """

    @abc.abstractmethod
    def read_out(self, state: Float[Tensor, "batch query width"]) -> Float[Tensor, "batch query out"]:
        """The answers that a state of the queries holds, in the network's own precision."""

    @abc.abstractmethod
    def lesson(self, episode: Episode) -> Lesson:
        """The inputs and targets of an episode for training."""

    @classmethod
    def sizes_for(cls, points: int) -> dict[str, int]:
        """The fields of an architecture for so many examples and a query; empty if any number fits."""
        return {}

    @abc.abstractmethod
    def initialise(self, seed: Seed, std: float = 0.02) -> None:
        """Fill the weights as training starts from them; ``std`` is for those whose kind sets no size itself."""

    @property
    def prompts(self) -> Literal["regression", "sequence"]:
        """The kind of its prompts: labelled inputs, or sequences whose labels are the next entries."""
        return "regression"

    @property
    def room(self) -> float:
        """The largest number of examples; infinite for a network without positions."""
        return math.inf

    @final
    def predict(self, prompt: Prompt) -> Float[Tensor, "batch query out"]:
        *_, last = self.query_states(prompt)
        return self.read_out(last).to(prompt.ys)

    @final
    def predict_layers(self, prompt: Prompt) -> Float[Tensor, "layer batch query out"]:
        """The answers read out before the first layer and after each."""
        return torch.stack([self.read_out(state).to(prompt.ys) for state in self.query_states(prompt)])

    @final
    def require_fit(self, prompt: Prompt) -> None:
        """Refuse prompts of other sizes than the network was built for, or longer than it has positions for.

        Raises:
            InputError: If the prompt does not fit.
        """
        name, shape = type(self).__name__, self.architecture
        if (prompt.dim, prompt.out) != (shape.dim, shape.out):
            raise InputError(
                f"{name}: built for dim={shape.dim} and out={shape.out}; got a prompt with dim={prompt.dim} and "
                f"out={prompt.out}."
            )
        if prompt.points > self.room:
            raise InputError(
                f"{name}: built with positions for {self.room} examples; got {prompt.points}. Shorten the context or "
                "build the network with more."
            )

    @final
    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        weights = f"set by hand: {self.origin}" if self.origin else f"{count:,} weights"
        return f"{type(self).__name__}({', '.join(settings(self.architecture))}; {weights})"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{word.replace('=', '</th><td>', 1)}</td></tr>" for word in settings(self.architecture))
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


def settings(architecture: Any) -> list[str]:
    """The fields of an architecture that differ from their defaults, with the mask.

    Example:
        >>> from insitu.models import Causal, TransformerArchitecture
        >>> settings(TransformerArchitecture(dim=3, layers=2, mask=Causal()))
        ['dim=3', 'layers=2', 'mask=Causal()']
    """
    fields = dataclasses.fields(architecture)
    return [
        f"{f.name}={getattr(architecture, f.name)!r}"
        for f in fields
        if f.name in ("dim", "layers", "mask") or getattr(architecture, f.name) != f.default
    ]


def network_kinds() -> dict[str, type[Network]]:
    """Every kind of network by its name."""
    return kinds_below(Network)


def kind_of(architecture: Any) -> type[Network]:
    """The kind of network that an architecture describes."""
    return next(kind for kind in network_kinds().values() if kind.architecture_class is type(architecture))


def initialise(network: nn.Module, seed: Seed, std: float) -> None:
    """Fill every weight with independent normal numbers of standard deviation ``std``, each from its own stream."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(std * (seed / name).normal(*parameter.shape))
