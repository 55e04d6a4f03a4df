r"""Learners that scale each singular direction of the data: functions of the singular values.

With :math:`X = U \Sigma V^\top` their weights are :math:`w = Y^\top U \, \gamma(\Sigma) \, V^\top` with gains
:math:`\gamma`; least squares has :math:`1 / \sigma`.
"""

import abc
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count
from insitu.learners.learner import LinearLearner, Numbers, of_every_step, per_step

__all__ = ["GradientDescentPlus", "PrincipalComponents", "SpectralLearner", "inverses"]


class SpectralLearner(LinearLearner):
    """A linear learner that is a function of the singular values of the inputs."""

    @abc.abstractmethod
    def gains(self, sizes: Float[Tensor, "batch size"], points: int) -> Float[Tensor, "batch size"]:
        """The gain of every singular value (descending, each positive or infinite) of so many examples."""

    @final
    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        left, sizes, right = torch.linalg.svd(xs, full_matrices=False)
        nonzero = sizes > torch.finfo(sizes.dtype).eps * max(xs.shape[-2:]) * sizes[:, :1]
        gains = torch.where(nonzero, self.gains(sizes * nonzero, xs.shape[1]), 0.0)
        return (ys.mT @ left * gains[:, None]) @ right

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return torch.stack([self.weights(xs[:, :k], ys[:, :k]) for k in range(1, xs.shape[1] + 1)], dim=1)


def inverses(sizes: Float[Tensor, "batch size"]) -> Float[Tensor, "batch size"]:
    """One over each singular value, and zero for zero."""
    return torch.where(sizes > 0, 1 / torch.where(sizes > 0, sizes, 1.0), 0.0)


@final
@dataclass(frozen=True, repr=False)
class PrincipalComponents(SpectralLearner):
    r"""Principal-component regression: least squares on the k directions in which the inputs are largest.

    .. math:: w = Y^\top U_k \Sigma_k^{-1} V_k^\top, \quad X = U \Sigma V^\top,

    of the inputs as they are, without centring; least squares of least norm where X has rank k or less.

    Args:
        k: The number of directions.

    References:
        Massy (1965), Principal components regression in exploratory statistical research.

    Example:
        >>> PrincipalComponents(k=2)
        PrincipalComponents(k=2)
    """

    k: int

    def __post_init__(self) -> None:
        require_count("PrincipalComponents", "k", self.k, least=1)

    def gains(self, sizes: Tensor, points: int) -> Tensor:
        leading = torch.arange(sizes.shape[1], device=sizes.device) < self.k
        return inverses(sizes) * leading


@final
@dataclass(frozen=True, repr=False)
class GradientDescentPlus(SpectralLearner):
    r"""GD++: gradient descent whose every step also transforms the inputs, query included.

    .. math:: w \leftarrow w + \frac{\eta}{n} \sum_i (y_i - w x_i) x_i^\top M^2, \quad
        M \leftarrow M - \frac{\gamma}{n} M^3 X^\top X, \quad M = I \text{ at first},

    both at once: a layer sees inputs :math:`M x_i`, takes a step on the residuals, and maps its inputs by :math:`I -
    \frac{\gamma}{n} M X^\top X M`. An eigenvalue e of :math:`X^\top X / n` is fitted to the part u, where :math:`u
    \leftarrow u + \eta (1 - u) m^2 e`, :math:`m \leftarrow m - \gamma m^3 e`.

    Args:
        steps: The number of steps (layers).
        rate: The rate :math:`\eta`, one number or one per step.
        curvature: The rate :math:`\gamma` of the inputs, one number or one per step; 0 is gradient descent.

    Raises:
        InputError: If a number is negative, or there are not as many as steps.

    References:
        von Oswald et al. (2023), Transformers learn in-context by gradient descent, GD++.

    Example:
        >>> GradientDescentPlus(steps=2, rate=0.5, curvature=(0.1, 0.0))
        GradientDescentPlus(steps=2, rate=0.5, curvature=(0.1, 0.0))
    """

    steps: int
    rate: float | Numbers
    curvature: float | Numbers

    def __post_init__(self) -> None:
        require_count("GradientDescentPlus", "steps", self.steps)
        for name in ("rate", "curvature"):
            checked = per_step("GradientDescentPlus", name, getattr(self, name), self.steps)
            object.__setattr__(self, name, checked)

    def gains(self, sizes: Tensor, points: int) -> Tensor:
        eigenvalues = sizes.square() / points
        fitted, scale = torch.zeros_like(sizes), torch.ones_like(sizes)
        rates, curvatures = (of_every_step(numbers, self.steps) for numbers in (self.rate, self.curvature))
        for rate, curvature in zip(rates, curvatures, strict=True):
            spectrum = scale.square() * eigenvalues
            fitted, scale = fitted + rate * (1 - fitted) * spectrum, scale * (1 - curvature * spectrum)
        return fitted * inverses(sizes)
