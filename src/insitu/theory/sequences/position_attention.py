r"""Attention by position alone, and what descent makes of it where eigenvalues are concentrated.

One head with A = B = I and a single eigenvalue :math:`\lambda = e^{i\theta}` answers
:math:`\sum_t p_t \lambda^{2t - T}` to a sequence of length T. With real positions the loss is a quadratic form in
the moments :math:`\phi_k = \mathbb{E} \cos(k\theta)` of the law of angles,

.. math:: \ell_T(p) = p^\top K p - 2 b^\top p + 1, \qquad K_{tu} = \phi_{2(t-u)}, \qquad b_t = \phi_{2(t-T)},

so nothing needs to be sampled. :math:`p = e_T` has no loss for any law. For angles on a small arc K is almost singular,
and descent that stops early finds a broad kernel in its place.

References:
    Sander et al. (2024), positional encoding attention only.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative
from insitu.theory.arguments import validated

__all__ = ["PositionDescent", "Positions", "arc_moments", "sample_moments"]


@validated
def arc_moments(length: int, concentration: float) -> Float[Tensor, " lag"]:
    r""":math:`\mathbb{E} \cos(k\theta)` for :math:`\theta` uniform on :math:`(0, 2\pi/\mu)` and k = 0..2 length.

    Raises:
        InputError: If the length is below 2 or the concentration not positive.

    Example:
        >>> arc_moments(2, concentration=1.0).round(decimals=6).abs().tolist()
        [1.0, 0.0, 0.0, 0.0, 0.0]
    """
    require_count("arc_moments", "length", length, least=2)
    require_not_negative("arc_moments", "concentration", concentration, zero=False)
    angle = 2 * math.pi / concentration * torch.arange(2 * length + 1, dtype=torch.float64)
    return torch.sinc(angle / math.pi)


@validated
def sample_moments(length: int, angles: Float[Tensor, " sample"]) -> Float[Tensor, " lag"]:
    """The same moments of a sample of angles.

    Raises:
        InputError: If the length is below 2 or there is no angle.
    """
    require_count("sample_moments", "length", length, least=2)
    if not len(angles):
        raise InputError("sample_moments: there is no angle.")
    return torch.cos(torch.arange(2 * length + 1, dtype=torch.float64)[:, None] * angles).mean(1)


@final
@dataclass(frozen=True, eq=False)
class PositionDescent:
    """The result of gradient descent.

    Args:
        positions: P, rows T = 2..length.
        losses: The mean loss before every step and at the end.
    """

    positions: Float[Tensor, "row column"]
    losses: Float[Tensor, " step"]

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.losses) - 1


@validated
@final
@dataclass(frozen=True, eq=False)
class Positions:
    """The task of all lengths T = 2..length for one eigenvalue.

    Args:
        moments: The moments of the angles, from :func:`arc_moments` or :func:`sample_moments`.

    Raises:
        InputError: If there are not 2 length + 1 moments for some length of at least 2.
    """

    moments: Float[Tensor, " lag"]

    def __post_init__(self) -> None:
        if len(self.moments) < 5 or len(self.moments) % 2 == 0:
            raise InputError(
                f"Positions: a length T >= 2 needs the moments 0..2T, an odd number of them; got {len(self.moments)}."
            )

    @property
    def length(self) -> int:
        """The greatest length."""
        return (len(self.moments) - 1) // 2

    @property
    def kernel(self) -> Float[Tensor, "column column"]:
        """K, for all columns."""
        place = torch.arange(self.length)
        return self.moments[2 * (place[:, None] - place).abs()]

    @property
    def targets(self) -> Float[Tensor, "row column"]:
        """b of every row T = 2..length; zero where the mask hides the column."""
        last = torch.arange(1, self.length)[:, None]
        place = torch.arange(self.length)
        return torch.where(place <= last, self.moments[2 * (last - place).abs()], 0.0)

    @validated
    def losses(self, positions: Float[Tensor, "row column"]) -> Float[Tensor, " row"]:
        """The loss of every row."""
        weights = positions.tril(1)
        return ((weights @ self.kernel) * weights).sum(-1) - 2 * (self.targets * weights).sum(-1) + 1

    @validated
    def gradient(self, positions: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
        """The gradient of the sum of the rows' losses."""
        return 2 * (positions.tril(1) @ self.kernel - self.targets).tril(1)

    @validated
    def descend(self, rate: float, stop: float, most: int) -> PositionDescent:
        """Gradient descent from P = 0 on the mean loss of the rows, until it is below ``stop`` or for ``most`` steps.

        Raises:
            InputError: If a number is not positive.
        """
        require_not_negative("Positions.descend", "rate", rate, zero=False)
        require_not_negative("Positions.descend", "stop", stop)
        require_count("Positions.descend", "most", most, least=1)
        positions = torch.zeros(self.length - 1, self.length, dtype=torch.float64)
        curve = [self.losses(positions).mean()]
        while curve[-1] >= stop and len(curve) <= most:
            positions = positions - rate / (self.length - 1) * self.gradient(positions)
            curve.append(self.losses(positions).mean())
        return PositionDescent(positions, torch.stack(curve))
