"""Linear regression, sigmoid regression and linear classification."""

from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative
from insitu.seed import Seed
from insitu.tasks.law import Gaussian, Law
from insitu.tasks.task import FunctionTask

__all__ = ["LinearClassification", "LinearRegression", "SigmoidRegression"]


class LinearScores(FunctionTask):
    """Functions of the linear scores w x, with one weight vector per output and no order imposed."""

    law: Law
    weights: Law | None

    def __post_init__(self) -> None:
        require_count(type(self).__name__, "out", self.out, least=1)
        if self.weights is not None and self.weights.dim != self.law.dim:
            raise InputError(
                f"{type(self).__name__}: inputs have {self.law.dim} coordinates and weights "
                f"{self.weights.dim}; both laws need the same dim."
            )

    @final
    @property
    def dim(self) -> int:
        return self.law.dim

    @final
    def functions(self, seed: Seed, batch: int) -> Float[Tensor, "batch out dim"]:
        return (self.weights or Gaussian(self.dim)).draw(seed, batch, self.out)

    @final
    def inputs(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        return self.law.draw(seed, len(functions), count)

    @final
    def questions(self, seed: Seed, functions: Tensor, count: int) -> Tensor:
        return self.law.draw(seed, len(functions), count)

    @final
    def arrange(self, seed: Seed, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
        return xs, ys


def with_noise(seed: Seed, values: Tensor, std: float) -> Tensor:
    """Add independent normal noise of standard deviation ``std``."""
    return values + std * seed.normal(*values.shape).to(values) if std else values


@final
@dataclass(frozen=True)
class LinearRegression(LinearScores):
    r"""Noisy linear functions :math:`y = w x + \sigma \varepsilon`, :math:`w \in R^{out \times d}`.

    Args:
        law: The law of the inputs and queries.
        weights: The law of each row of :math:`w` (default: standard normal).
        noise: The standard deviation :math:`\sigma` of the label noise.
        out: The number of outputs.

    Raises:
        InputError: If the two laws have different dimensions, or the noise is negative.

    Example:
        >>> from insitu import Seed
        >>> from insitu.tasks import UniformCube
        >>> task = LinearRegression(UniformCube(16))
        >>> task.sample(Seed(0), batch=64, points=40, queries=20).prompt
        Prompt(batch=64, points=40, dim=16, out=1, queries=20)
    """

    law: Law
    weights: Law | None = None
    noise: float = 0.0
    out: int = 1

    def __post_init__(self) -> None:
        LinearScores.__post_init__(self)
        require_not_negative("LinearRegression", "noise", self.noise)

    def values(self, functions: Tensor, xs: Tensor) -> Tensor:
        return xs @ functions.mT

    def observe(self, seed: Seed, values: Tensor) -> Tensor:
        return with_noise(seed, values, self.noise)


@final
@dataclass(frozen=True)
class SigmoidRegression(LinearScores):
    r"""A centred sigmoid of a linear score, :math:`y = 1/(1 + e^{-w x}) - 1/2 + \sigma\varepsilon`.

    The centring follows the released experiments of Ding et al. (2024), so that answering zero is answering
    the mean.

    Args:
        law: The law of the inputs and queries.
        weights: The law of each row of :math:`w` (default: standard normal).
        noise: The standard deviation of the label noise.
        out: The number of outputs.
    """

    law: Law
    weights: Law | None = None
    noise: float = 0.0
    out: int = 1

    def __post_init__(self) -> None:
        LinearScores.__post_init__(self)
        require_not_negative("SigmoidRegression", "noise", self.noise)

    def values(self, functions: Tensor, xs: Tensor) -> Tensor:
        return torch.sigmoid(xs @ functions.mT) - 0.5

    def observe(self, seed: Seed, values: Tensor) -> Tensor:
        return with_noise(seed, values, self.noise)


@final
@dataclass(frozen=True)
class LinearClassification(LinearScores):
    r"""Classes by the largest linear score: the label is the one-hot row of :math:`\arg\max_c w_c x`.

    Args:
        law: The law of the inputs and queries.
        weights: The law of each class's weights (default: standard normal).
        out: The number of classes.
        flip: The probability that an example shows a class drawn uniformly at random instead of its own.

    Example:
        >>> from insitu import Seed
        >>> from insitu.tasks import UniformCube
        >>> task = LinearClassification(UniformCube(16), out=3)
        >>> task.sample(Seed(0), batch=2, points=5).prompt.ys.sum(-1).unique().tolist()
        [1.0]
    """

    law: Law
    weights: Law | None = None
    out: int = 3
    flip: float = field(default=0.0)

    def __post_init__(self) -> None:
        LinearScores.__post_init__(self)
        require_not_negative("LinearClassification", "flip", self.flip)
        if self.flip > 1:
            raise InputError(f"LinearClassification: flip is a probability, at most 1; got {self.flip}.")

    def values(self, functions: Tensor, xs: Tensor) -> Tensor:
        labels = (xs @ functions.mT).argmax(-1)
        return torch.nn.functional.one_hot(labels, self.out).to(xs)

    def observe(self, seed: Seed, values: Tensor) -> Tensor:
        if not self.flip:
            return values
        batch, count, _ = values.shape
        other = (seed / "class").integers(self.out, batch, count).to(values.device)
        flipped = (seed / "flip").uniform(batch, count, 1).to(values) < self.flip
        return torch.where(flipped, torch.nn.functional.one_hot(other, self.out).to(values), values)
