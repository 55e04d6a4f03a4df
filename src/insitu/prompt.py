"""Prompts, and episodes: prompts with their noise-free answers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from insitu.errors import InputError

__all__ = ["Episode", "Prompt"]


@dataclass(frozen=True, eq=False)
class Prompt:
    """Examples of an unknown function, and the inputs at which to predict it.

    Args:
        xs: Inputs of the examples.
        ys: Their labels; one-hot rows for classes.
        queries: Inputs to predict at, independently of one another.

    Raises:
        InputError: If an array is not a tensor, the shapes disagree, an axis is empty, the arrays are not of one
            floating dtype and one device, or a number is NaN or infinite.

    Example:
        >>> prompt = Prompt(torch.ones(2, 5, 3), torch.ones(2, 5, 1), torch.ones(2, 4, 3))
        >>> prompt
        Prompt(batch=2, points=5, dim=3, out=1, queries=4)
        >>> prompt.prefix(2)
        Prompt(batch=2, points=2, dim=3, out=1, queries=4)
    """

    xs: Float[Tensor, "batch point dim"]
    ys: Float[Tensor, "batch point out"]
    queries: Float[Tensor, "batch query dim"]

    def __post_init__(self) -> None:
        for name in ("xs", "ys", "queries"):
            if not isinstance(getattr(self, name), Tensor):
                raise InputError(
                    f"Prompt: {name} must be a torch tensor; got {type(getattr(self, name)).__name__}. Convert a NumPy "
                    f"array by torch.from_numpy({name}), and lists of numbers by torch.tensor({name})."
                )
        shapes = [tuple(t.shape) for t in (self.xs, self.ys, self.queries)]
        got = "got xs {}, ys {}, queries {}".format(*shapes)
        if [len(s) for s in shapes] != [3, 3, 3]:
            raise InputError(
                "Prompt: xs, ys and queries need three axes each, (batch, point, dim), (batch, point, out) and "
                f"(batch, query, dim); {got}. A single output is a last axis of size 1."
            )
        (batch, points, dim), (*y_axes, out), (q_batch, queries, q_dim) = shapes
        if [batch, points] != y_axes or (batch, dim) != (q_batch, q_dim):
            raise InputError(f"Prompt: xs and ys must agree in (batch, point), xs and queries in batch and dim; {got}.")
        empty = [
            name
            for name, size in zip(
                ["batch", "context (point)", "dim", "out", "query"],
                [batch, points, dim, out, queries],
                strict=True,
            )
            if size == 0
        ]
        if empty:
            raise InputError(
                f"Prompt: the axis {' and '.join(empty)} is empty; {got}. Every axis needs at least one entry."
            )
        kinds = {(t.dtype, t.device) for t in (self.xs, self.ys, self.queries)}
        if len(kinds) != 1 or not self.xs.is_floating_point():
            raise InputError(
                "Prompt: xs, ys and queries must share one floating dtype and one device; got "
                f"{', '.join(f'{t.dtype} on {t.device}' for t in (self.xs, self.ys, self.queries))}."
            )

        for name in ("xs", "ys", "queries"):
            if not getattr(self, name).isfinite().all():
                raise InputError(f"Prompt: {name} holds NaN or infinity; every number must be finite.")

    @property
    def batch(self) -> int:
        """The number of prompts."""
        return self.xs.shape[0]

    @property
    def points(self) -> int:
        """The number n of examples in each prompt."""
        return self.xs.shape[1]

    @property
    def dim(self) -> int:
        """The dimension d of an input."""
        return self.xs.shape[2]

    @property
    def out(self) -> int:
        """The number of outputs (1 for scalar regression, the number of classes for classification)."""
        return self.ys.shape[2]

    def __repr__(self) -> str:
        sizes = f"batch={self.batch}, points={self.points}, dim={self.dim}, out={self.out}"
        return f"Prompt({sizes}, queries={self.queries.shape[1]})"

    def prefix(self, length: int) -> "Prompt":
        """The same prompt with its first ``length`` examples only.

        Raises:
            InputError: If the length is not between 1 and the number of examples.
        """
        if not 1 <= length <= self.points:
            raise InputError(f"Prompt.prefix: length must be between 1 and {self.points}; got {length}.")
        return Prompt(self.xs[:, :length], self.ys[:, :length], self.queries)

    def reordered(self, order: Int[Tensor, " point"]) -> "Prompt":
        """The same prompt with its examples in another order."""
        return Prompt(self.xs[:, order], self.ys[:, order], self.queries)

    def to(self, target: torch.device | torch.dtype) -> "Prompt":
        """The same prompt on another device or in another dtype (as ``Tensor.to``)."""
        return Prompt(*(t.to(target) for t in (self.xs, self.ys, self.queries)))


@dataclass(frozen=True, eq=False)
class Episode:
    """A prompt with its noise-free answers and its latent function, which the learner does not see.

    Args:
        prompt: The prompt, which the learner sees.
        answers: The noise-free values of the function at the queries.
        latent: The parameters of the function, in the task's own form (for a linear task its weights,
            ``(batch, out, dim)``).
    """

    prompt: Prompt
    answers: Float[Tensor, "batch query out"]
    latent: Float[Tensor, "batch *latent"]

    def to(self, target: torch.device | torch.dtype) -> "Episode":
        """The same episode on another device or in another dtype."""
        return Episode(self.prompt.to(target), self.answers.to(target), self.latent.to(target))
