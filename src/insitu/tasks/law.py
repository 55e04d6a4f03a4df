"""Distributions over vectors: the input laws and weight laws that tasks are made of."""

import abc
import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_count
from insitu.seed import Seed

__all__ = ["Gaussian", "Law", "UniformCube"]


class Law(abc.ABC):
    """A distribution over vectors of ``dim`` coordinates, with its first two moments."""

    dim: int

    @abc.abstractmethod
    def draw(self, seed: Seed, batch: int, count: int) -> Float[Tensor, "batch count dim"]:
        """Independent vectors, float64 on the CPU."""

    @abc.abstractmethod
    def mean(self) -> Float[Tensor, " dim"]:
        """The expectation E x."""

    @abc.abstractmethod
    def covariance(self) -> Float[Tensor, "dim dim"]:
        """The covariance E (x - Ex)(x - Ex)'."""

    @final
    def second_moment(self) -> Float[Tensor, "dim dim"]:
        """The second moment E xx'."""
        return self.covariance() + torch.outer(self.mean(), self.mean())


@final
@dataclass(frozen=True)
class UniformCube(Law):
    r"""Uniform on the cube :math:`[-1, 1]^d + \mu 1`: covariance :math:`I/3`, mean :math:`\mu 1`.

    Args:
        dim: The dimension :math:`d`.
        shift: The shift :math:`\mu` of every coordinate.

    Example:
        >>> UniformCube(2, shift=1.0).second_moment().tolist()
        [[1.3333333333333333, 1.0], [1.0, 1.3333333333333333]]
    """

    dim: int
    shift: float = 0.0

    def __post_init__(self) -> None:
        require_count("UniformCube", "dim", self.dim, least=1)

    def draw(self, seed: Seed, batch: int, count: int) -> Tensor:
        return 2 * seed.uniform(batch, count, self.dim) - 1 + self.shift

    def mean(self) -> Tensor:
        return torch.full((self.dim,), float(self.shift), dtype=torch.float64)

    def covariance(self) -> Tensor:
        return torch.eye(self.dim, dtype=torch.float64) / 3


@final
@dataclass(frozen=True)
class Gaussian(Law):
    r"""The normal law :math:`N(\mu 1, \Lambda)`.

    Args:
        dim: The dimension :math:`d`.
        covariance_of: :math:`\Lambda` as one number (times the identity), ``dim`` numbers (a diagonal) or
            ``dim`` rows (a full matrix; symmetric and positive semidefinite).
        shift: The mean :math:`\mu` of every coordinate.

    Raises:
        InputError: If the covariance has another size, is not symmetric or has a negative eigenvalue.

    Example:
        >>> Gaussian(2, covariance_of=(3.0, 1.0)).covariance().tolist()
        [[3.0, 0.0], [0.0, 1.0]]
    """

    dim: int
    covariance_of: float | tuple[float, ...] | tuple[tuple[float, ...], ...] = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        require_count("Gaussian", "dim", self.dim, least=1)
        entries = torch.as_tensor(self.covariance_of, dtype=torch.float64)
        if entries.shape not in [(), (self.dim,), (self.dim, self.dim)]:
            raise InputError(
                f"Gaussian: covariance_of must be a number, {self.dim} numbers or {self.dim} rows of "
                f"{self.dim} numbers; got shape {tuple(entries.shape)}."
            )
        full = self.covariance()
        scale = full.abs().max().item()
        if not math.isfinite(scale) or (full - full.T).abs().max() > 1e-12 * scale:
            raise InputError("Gaussian: covariance_of must be finite and symmetric.")
        least = torch.linalg.eigvalsh(full)[0].item()
        if least < -1e-12 * scale:
            raise InputError(
                f"Gaussian: covariance_of must be positive semidefinite; its least eigenvalue is {least:.3g}."
            )

    def draw(self, seed: Seed, batch: int, count: int) -> Tensor:
        values, vectors = torch.linalg.eigh(self.covariance())
        # An eigenvalue of rounding size is a zero: its root would be 1e-8, a direction that the law does not have.
        rounding = torch.finfo(values.dtype).eps * self.dim * values[-1]
        root = vectors * torch.where(values > rounding, values, 0.0).sqrt()
        return seed.normal(batch, count, self.dim) @ root.T + self.shift

    def mean(self) -> Tensor:
        return torch.full((self.dim,), float(self.shift), dtype=torch.float64)

    def covariance(self) -> Tensor:
        entries = torch.as_tensor(self.covariance_of, dtype=torch.float64)
        if entries.ndim == 2:
            return entries
        return torch.diag(entries.expand(self.dim))
