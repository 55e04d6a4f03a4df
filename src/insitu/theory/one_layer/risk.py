r"""The error of the trained layer on any test distribution, exactly, at any test length M and training length N.

A test prompt holds M pairs (x, y) with :math:`E[x x^\top] = \Lambda`, the covariance of training; the labels may be
anything. The layer at its global minimum answers :math:`x_q^\top \Gamma^{-1} \frac1M \sum_i y_i x_i`, and with
:math:`a = \Lambda^{-1} E[xy]`

.. math:: E(\hat y - y_q)^2 = \min_v E(v^\top x - y)^2 + \frac1M \mathrm{tr}[\mathrm{Cov}(xy)\, \Gamma^{-2} \Lambda]
    + a^\top (I - \Gamma^{-1}\Lambda) \Lambda (I - \Gamma^{-1}\Lambda) a .

Prompts and queries whose inputs have *another* covariance are in :func:`insitu.theory.one_layer.one_step.step_error`.

References:
    Zhang, Frei and Bartlett (2024), theorem 4.2, corollary 4.3, section 4.2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_not_negative
from insitu.theory.arguments import require_length, require_shape, validated
from insitu.theory.one_layer.population import Population

__all__ = [
    "Labels",
    "Risk",
    "average_linear_risk",
    "floor_constant",
    "guarantee",
    "layer_risk",
    "length_for",
    "linear_labels",
    "linear_risk",
    "single_index_labels",
]


@validated
@final
@dataclass(frozen=True, eq=False)
class Labels:
    r"""The moments of a test distribution in theorem 4.2.

    Args:
        cross: :math:`E[xy]`.
        spread: :math:`\mathrm{Cov}(xy)`, a matrix.
        residual: The error of the best linear predictor without intercept, :math:`\min_v E(v^\top x - y)^2`.

    Raises:
        InputError: If the shapes do not fit or the residual is negative.
    """

    cross: Float[Tensor, " dim"]
    spread: Float[Tensor, "dim dim"]
    residual: float

    def __post_init__(self) -> None:
        require_not_negative("Labels", "residual", self.residual)


@final
@dataclass(frozen=True)
class Risk:
    """An expected squared error in its three parts, without the factor 1/2.

    Args:
        residual: The error of the best linear predictor.
        variance: The error due to the finite test prompt; falls as 1/M.
        bias: The error due to the finite training prompts; falls as 1/N^2 and does not vanish with M.
    """

    residual: float
    variance: float
    bias: float

    @property
    def excess(self) -> float:
        """The risk above the best linear predictor's."""
        return self.variance + self.bias

    @property
    def total(self) -> float:
        """The whole risk."""
        return self.residual + self.excess


@validated
def layer_risk(population: Population, test_length: int | float, labels: Labels) -> Risk:
    """The risk of the layer trained on ``population`` on prompts of ``test_length`` examples with these labels.

    Raises:
        InputError: If the labels have another dimension or the length is not positive.

    References:
        Zhang et al. (2024), equation 4.6.
    """
    require_length("layer_risk", "test_length", test_length)
    require_shape("layer_risk", "labels.cross", labels.cross, (population.dim,))
    values, vectors = population.basis
    keys = population.key_values
    noisy = ((labels.spread @ vectors) * vectors).sum(0)
    variance = (noisy * values / keys.square()).sum().item() / test_length
    best = (vectors.T @ labels.cross) / values
    # 1 - l / g = (l + tr) / (N g), without the cancellation.
    short = (values + values.sum()) / (population.length * keys)
    return Risk(labels.residual, variance, (best.square() * short.square() * values).sum().item())


@validated
def linear_labels(population: Population, weights: Float[Tensor, " dim"], noise_variance: float = 0.0) -> Labels:
    r"""Labels :math:`y = w^\top x + \epsilon` for one fixed w, with Gaussian x.

    .. math:: E[xy] = \Lambda w, \quad \mathrm{Cov}(xy) = (w^\top \Lambda w + s^2) \Lambda + \Lambda w w^\top \Lambda

    Raises:
        InputError: If the weights have another size or the noise is negative.
    """
    require_not_negative("linear_labels", "noise_variance", noise_variance)
    spread = population.covariance
    cross = spread @ weights
    power = cross @ weights + noise_variance
    return Labels(cross, power * spread + torch.outer(cross, cross), float(noise_variance))


@validated
def single_index_labels(
    population: Population,
    direction: Float[Tensor, " dim"],
    link: Callable[[Float[Tensor, " node"]], Float[Tensor, " node"]],
    noise_variance: float = 0.0,
) -> Labels:
    r"""Labels :math:`y = h(v^\top x) + \epsilon` with Gaussian x, for any link h that is smooth away from 0.

    With :math:`z = v^\top x \sim N(0, s^2)`, :math:`c = \Lambda v / s^2` and :math:`x = c z + r`, where r is
    independent of z:

    .. math:: E[xy] = c\, E[z y], \quad
        E[y^2 x x^\top] = E[y^2] (\Lambda - s^2 c c^\top) + E[z^2 y^2]\, c c^\top

    The one-dimensional integrals are Gauss-Legendre sums on each side of 0, out to 12 standard deviations.

    Args:
        population: Gives the covariance.
        direction: The vector v, not zero.
        link: The function h of a vector of numbers.
        noise_variance: The variance of additional label noise.

    Raises:
        InputError: If the direction is zero or has another size.

    Example:
        >>> population = Population([[1, 0], [0, 1]], length=10)
        >>> single_index_labels(population, [1, 0], torch.sign).cross  # sqrt(2 / pi) times the direction
        tensor([0.7979, 0.0000], dtype=torch.float64)
    """
    require_not_negative("single_index_labels", "noise_variance", noise_variance)
    spread = population.covariance
    image = spread @ direction
    scale = (image @ direction).sqrt()
    if not scale > 0:
        raise InputError("single_index_labels: direction must not be zero.")
    along = image / scale**2
    nodes, shares = (torch.from_numpy(t) for t in np.polynomial.legendre.leggauss(300))
    half, share = 6 * (nodes + 1), 6 * shares
    unit = torch.cat([-half, half])
    density = torch.cat([share, share]) * torch.exp(-(unit**2) / 2) / math.sqrt(2 * math.pi)
    z = scale * unit
    answers = link(z)
    first = (density * z * answers).sum()
    power = (density * answers**2).sum() + noise_variance
    fourth = (density * z**2 * answers**2).sum() + noise_variance * scale**2
    outer = torch.outer(along, along)
    second = power * (spread - scale**2 * outer) + fourth * outer
    residual = (power - (first / scale) ** 2).clamp(min=0.0).item()
    return Labels(along * first, second - first**2 * outer, residual)


@validated
def linear_risk(
    population: Population, test_length: int | float, weights: Float[Tensor, " dim"], noise_variance: float = 0.0
) -> Risk:
    """The risk on :func:`linear_labels` of one fixed task."""
    return layer_risk(population, test_length, linear_labels(population, weights, noise_variance))


@validated
def average_linear_risk(population: Population, test_length: int | float, noise_variance: float = 0.0) -> Risk:
    r"""The risk on linear labels averaged over :math:`w \sim N(0, I)`.

    .. math:: s^2 + \frac1M \{\mathrm{tr}(\Gamma^{-2}\Lambda^3)
        + (\mathrm{tr}\Lambda + s^2)\, \mathrm{tr}(\Gamma^{-2}\Lambda^2)\}
        + \frac{1}{N^2} \mathrm{tr}[\Gamma^{-2} \Lambda (\Lambda + \mathrm{tr}(\Lambda) I)^2]

    At M = N and without noise this is twice the least training loss.

    Example:
        >>> population = Population(torch.eye(20, dtype=torch.float64), length=40)
        >>> round(average_linear_risk(population, 100).total / 20, 4)
        0.2088
    """
    require_length("average_linear_risk", "test_length", test_length)
    require_not_negative("average_linear_risk", "noise_variance", noise_variance)
    values, keys = population.eigenvalues, population.key_values
    trace = values.sum()
    variance = (values**2 * (values + trace + noise_variance) / keys**2).sum().item() / test_length
    bias = (values * ((values + trace) / (population.length * keys)) ** 2).sum().item()
    return Risk(float(noise_variance), variance, bias)


@validated
def floor_constant(population: Population) -> float:
    r"""The limit of :math:`N^2` times the averaged noiseless risk at infinite test length, as N grows.

    .. math:: \mathrm{tr}\Lambda + 2 d\, \mathrm{tr}\Lambda + \mathrm{tr}(\Lambda^{-1})\, \mathrm{tr}(\Lambda)^2
    """
    values = population.eigenvalues
    trace = values.sum()
    return (trace + 2 * population.dim * trace + (1 / values).sum() * trace**2).item()


@validated
def guarantee(population: Population) -> float:
    r"""The error up to which the layer learns linear functions.

    It is :math:`(1 + 2d + d^2 \kappa)\, \mathrm{tr}(\Lambda) / N^2` with the condition number :math:`\kappa`.

    References:
        Zhang et al. (2024), corollary 4.3.
    """
    values, dim = population.eigenvalues, population.dim
    condition = (values[-1] / values[0]).item()
    return (1 + 2 * dim + dim**2 * condition) * values.sum().item() / population.length**2


@validated
def length_for(population: Population, excess: float) -> int:
    r"""A test length, :math:`\lceil (d+1)\, \mathrm{tr}(\Lambda) / \epsilon \rceil`, that suffices for a small risk.

    At it the risk is at most :func:`guarantee` plus :math:`\epsilon`.

    References:
        Zhang et al. (2024), corollary 4.3.
    """
    require_not_negative("length_for", "excess", excess, zero=False)
    return math.ceil((population.dim + 1) * population.eigenvalues.sum().item() / excess)
