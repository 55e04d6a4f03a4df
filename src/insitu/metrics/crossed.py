r"""Means over demonstration sets and items at once: variance components, and intervals that rest on both.

Every set of demonstrations answers the same items, in one or several orders drawn for that set. So answers that share
a set go up and down together, and so do those that share an item; counting answers as if they were independent makes
intervals too short. The model is that of crossed and nested random effects,

.. math:: y_{sri} = \mu + d_s + o_{sr} + t_i + (dt)_{si} + e_{sri},

with variances :math:`\sigma_d^2` of demonstrations, :math:`\sigma_o^2` of their order, :math:`\sigma_t^2` of items,
:math:`\sigma_{dt}^2` of items under some demonstrations, and :math:`\sigma_e^2` of the residual.

References:
    Searle, Casella, McCulloch, "Variance Components" (1992), chapter 4: mean squares and their expectations.
    Satterthwaite, "An approximate distribution of estimates of variance components" (Biometrics 1946).
    Korn, Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
    survey data" (Survey Methodology 1998).
    Owen, "The pigeonhole bootstrap" (Annals of Applied Statistics 2007).
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from scipy import special
from torch import Tensor

from insitu.errors import InputError
from insitu.metrics.estimate import Estimate
from insitu.seed import Seed

__all__ = ["Components", "calibration_interval", "proportion_interval", "variance_components"]


@final
@dataclass(frozen=True)
class Components:
    """A mean over demonstration sets, orders and items, and where the variance of one answer comes from.

    Args:
        mean: The mean, with its standard error over sets and items and the freedom of that error.
        demonstrations: The variance between demonstration sets; none if there is one set.
        order: The variance between orders of a set; none if there is one order.
        items: The variance between items.
        both: The variance of an item under some demonstrations, beyond that of either; none if there is one set.
        rest: The variance that is left; with one order it is part of ``both``.
    """

    mean: Estimate
    demonstrations: float | None
    order: float | None
    items: float
    both: float | None
    rest: float | None


def variance_components(y: Float[Tensor, "set order item"]) -> Components:
    r"""The components from mean squares, negative estimates set to zero, and the error of the mean.

    .. math:: \hat\sigma_d^2 = \frac{M_d - M_o - M_{dt} + M_e}{R I}, \quad \hat\sigma_o^2 = \frac{M_o - M_e}{I}, \quad
        \hat\sigma_t^2 = \frac{M_t - M_{dt}}{S R}, \quad \hat\sigma_{dt}^2 = \frac{M_{dt} - M_e}{R}, \quad
        \hat\sigma_e^2 = M_e, \qquad
        \widehat{\mathrm{Var}}(\bar y) = \frac{\max(M_d + M_t - M_{dt},\, M_d,\, M_t)}{S R I}

    for S sets, R orders and I items; the maximum is the variance with negative components left out. Its degrees of
    freedom are Satterthwaite's.

    Args:
        y: A number for every demonstration set, order and item, such as whether the answer is right.

    Raises:
        InputError: If there are fewer than two items.

    Example:
        >>> y = torch.tensor([[[1.0, 0.0, 1.0, 1.0]], [[1.0, 0.0, 0.0, 1.0]]])
        >>> round(variance_components(y).mean.error, 4), round(variance_components(y).items, 4)
        (0.2394, 0.1667)
    """
    sets, orders, items = y.shape
    if items < 2:
        raise InputError(f"variance components: an error over items needs at least two of them; got {items}.")
    squares, freedom = mean_squares(y.double())
    d, o, t, dt, e = squares
    several = sets > 1
    rest = e if orders > 1 else 0.0
    order = max(0.0, (o - e) / items) if orders > 1 else None
    within = dt if several else 0.0
    return Components(
        error_of_mean(y, squares, freedom),
        max(0.0, (d - (o if orders > 1 else 0.0) - dt + rest) / (orders * items)) if several else None,
        order,
        max(0.0, (t - within) / (sets * orders)),
        max(0.0, (dt - rest) / orders) if several else None,
        e if orders > 1 else None,
    )


def mean_squares(y: Float[Tensor, "set order item"]) -> tuple[list[float], list[int]]:
    """Mean squares of sets, orders, items, sets with items and the rest, zero without freedom; and their freedoms."""
    sets, orders, items = y.shape
    whole, by_set, by_item = y.mean(), y.mean((1, 2), keepdim=True), y.mean((0, 1), keepdim=True)
    by_order, by_cell = y.mean(2, keepdim=True), y.mean(1, keepdim=True)
    effects = (
        by_set - whole,
        by_order - by_set,
        by_item - whole,
        by_cell - by_set - by_item + whole,
        y - by_order - by_cell + by_set,
    )
    freedom = [sets - 1, sets * (orders - 1), items - 1]
    freedom += [freedom[0] * freedom[2], freedom[1] * freedom[2]]
    sums = [effect.expand(y.shape).square().sum().item() for effect in effects]
    return [s / f if f else 0.0 for s, f in zip(sums, freedom, strict=True)], freedom


def error_of_mean(y: Tensor, squares: list[float], freedom: list[int]) -> Estimate:
    """The mean with its standard error, and as many samples as Satterthwaite's degrees of freedom and one."""
    d, _, t, dt, _ = squares
    ways = ((d + t - dt, (0, 2, 3)), (d, (0,)), (t, (2,)))
    variance, parts = max(ways, key=lambda way: way[0])
    spread = sum(squares[i] ** 2 / freedom[i] for i in parts if freedom[i])
    samples = 1 + max(1, math.floor(variance**2 / spread)) if spread else None
    return Estimate(y.double().mean().item(), math.sqrt(variance / y.numel()), samples)


def proportion_interval(share: Estimate, items: int, confidence: float = 0.95) -> tuple[float, float]:
    r"""The interval of a share whose answers are not independent: Clopper and Pearson's, of an effective number.

    .. math:: n^* = \frac{p (1 - p)}{\mathrm{SE}^2} \Big( \frac{t_{I-1}}{t_{\nu}} \Big)^2

    with Student's quantiles t, I items and the degrees of freedom :math:`\nu` of the error; the number of items where
    all answers are right, or none is, since that tells nothing of the error.

    Args:
        share: The share with its error, see :func:`variance_components`.
        items: The number of items.
        confidence: The confidence level.

    Example:
        >>> low, high = proportion_interval(Estimate(1.0), items=20)
        >>> round(low, 3), high
        (0.832, 1.0)
    """
    p, tail = share.value, (1 - confidence) / 2
    if p in (0.0, 1.0) or not share.error:
        count = float(items)
    else:
        freedom = math.inf if share.samples is None else share.samples - 1
        wider = float(special.stdtrit(items - 1, tail) / special.stdtrit(freedom, tail))
        count = p * (1 - p) / share.error**2 * wider**2
    hits = p * count
    low = float(special.betaincinv(hits, count - hits + 1, tail)) if p > 0 else 0.0
    high = float(special.betaincinv(hits + 1, count - hits, 1 - tail)) if p < 1 else 1.0
    return low, high


def calibration_interval(
    p: Float[Tensor, "set order item label"],
    right: Bool[Tensor, "item label"],
    seed: Seed,
    *,
    bins: int = 10,
    draws: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """A bootstrap interval of the calibration error of all answers, resampling sets and items (pigeonhole bootstrap).

    Args:
        p: Probabilities of the labels.
        right: The correct label.
        seed: The seed of the resampling.
        bins: The number of bins, as for :func:`~insitu.metrics.distributions.calibration_error`.
        draws: The number of bootstrap samples.
        confidence: The confidence level.
    """
    sets, _, items, _ = p.shape
    gaps = binned_gaps(p, right, bins)
    weights = [multiplicities(seed / name, count, draws) for name, count in (("sets", sets), ("items", items))]
    errors = torch.einsum("ds,bsi,di->db", weights[0], gaps, weights[1]).abs().sum(-1) / (sets * items)
    tail = (1 - confidence) / 2
    low, high = errors.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def binned_gaps(p: Tensor, right: Tensor, bins: int) -> Float[Tensor, "bin set item"]:
    """Hit less confidence in the bin of the confidence, zero in the others; means over orders."""
    confidence, chosen = p.double().max(-1)
    hit = right.expand(p.shape).gather(-1, chosen[..., None])[..., 0].double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    return torch.stack([torch.where(place == b, hit - confidence, 0.0).mean(1) for b in range(bins)])


def multiplicities(seed: Seed, count: int, draws: int) -> Float[Tensor, "draw thing"]:
    """How often each of ``count`` things is drawn in ``count`` draws with replacement."""
    indices = seed.integers(count, draws, count)
    return torch.zeros(draws, count, dtype=torch.float64).scatter_add(1, indices, torch.ones_like(indices).double())
