r"""The limit of deep linear attention, and the rate of convergence: prefix, causal and length-normalised causal masks.

The layers of :func:`insitu.models.gradient_descent` with rate :math:`\eta` iterate on n examples. With Gram
matrix :math:`G = X^\top X` (``dim x dim``) and kernel :math:`K = X X^\top` (``point x point``), weights are rows
:math:`w = a X`:

=====================  =======================================  ==================================
mask                   step on the error                        fixed point
=====================  =======================================  ==================================
prefix                 :math:`I - \frac{\eta}{n} G`             least squares
causal                 :math:`I - \frac{\eta}{n} T`             :math:`a T = y`
causal, normalised     :math:`I - \eta T D^{-1}`                :math:`a T D^{-1} = y`
=====================  =======================================  ==================================

where :math:`T` is the upper triangle of :math:`K` with its diagonal and :math:`D = \mathrm{diag}(1..n)`.

References:
    Ding et al. (2024), propositions 2 to 8. Step limits, contraction factors and the expected errors are
    derived from these; the paper does not state them.
"""

from typing import Literal

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative
from insitu.theory.arguments import validated

__all__ = [
    "Variant",
    "best_rate",
    "causal_error",
    "contraction",
    "error_step",
    "gaussian_inverse_square",
    "layers_needed",
    "normalised_causal_error",
    "place_iterates",
    "shrink_and_project",
    "stationary_weights",
    "step_limit",
    "uniform_inverse_square",
]

Variant = Literal["prefix", "causal", "normalised"]
Inputs = Float[Tensor, "batch point dim"]


@validated
def stationary_weights(
    xs: Inputs, ys: Float[Tensor, "batch point out"], variant: Variant
) -> Float[Tensor, "batch point out dim"]:
    r"""The weights at every position of an infinitely deep network, by one linear solve.

    *prefix*: least squares of minimum norm at every place. *causal*: :math:`w_j = \sum_{i \le j} a_i x_i^\top`
    with :math:`a T = y`. *normalised*: :math:`w_j = \frac1j \sum_{i \le j} a_i x_i^\top` with
    :math:`a T D^{-1} = y`.

    Raises:
        InputError: If an input is zero, where the triangular system has no solution.

    References:
        Ding et al. (2024), propositions 3, 4 and 7.

    Example:
        >>> xs = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]], dtype=torch.float64)
        >>> stationary_weights(xs, torch.tensor([[[2.0], [0.0]]], dtype=torch.float64), "causal")[0, :, 0]
        tensor([[ 2.,  0.],
                [ 1., -1.]], dtype=torch.float64)
    """
    points = xs.shape[1]
    if variant == "prefix":
        whole = ys.mT @ torch.linalg.pinv(xs).mT
        return whole[:, None].expand(-1, points, -1, -1)
    if (xs.square().sum(-1) == 0).any():
        raise InputError("stationary_weights: an example with x = 0 leaves the causal fixed point undefined.")
    steps = triangle(xs, variant)
    shares = torch.linalg.solve_triangular(steps.mT, ys, upper=False)
    weights = (shares[..., None] * xs[:, :, None]).cumsum(1)
    return weights / places(xs)[:, None, None] if variant == "normalised" else weights


def triangle(xs: Inputs, variant: Variant) -> Float[Tensor, "batch point point"]:
    """The matrix T of the causal iteration, or T D^-1 of the normalised one."""
    upper = (xs @ xs.mT).triu()
    return upper / places(xs) if variant == "normalised" else upper


def places(xs: Inputs) -> Float[Tensor, " point"]:
    return torch.arange(1, xs.shape[1] + 1, dtype=xs.dtype, device=xs.device)


@validated
def error_step(xs: Inputs, rate: float, variant: Variant) -> Float[Tensor, "batch size size"]:
    """The matrix that multiplies the error, as a row, at every layer (``dim`` or ``point`` square)."""
    points = xs.shape[1]
    step = rate * triangle(xs, variant) if variant != "prefix" else rate / points * (xs.mT @ xs)
    if variant == "causal":
        step = step / points
    return torch.eye(step.shape[-1], dtype=xs.dtype, device=xs.device) - step


@validated
def contraction(xs: Inputs, rate: float, variant: Variant) -> Float[Tensor, " batch"]:
    r"""The asymptotic factor by which the error shrinks per layer.

    *prefix*: :math:`\max_i |1 - \eta \lambda_i|` over the nonzero eigenvalues of :math:`G/n`; *causal*:
    :math:`\max_j |1 - \eta \|x_j\|^2 / n|`; *normalised*: :math:`\max_j |1 - \eta \|x_j\|^2 / j|`. The causal
    matrices are not normal: their error can grow before it shrinks at this factor.
    """
    return (1 - rate * spectrum(xs, variant)).abs().amax(-1)


@validated
def step_limit(xs: Inputs, variant: Variant) -> Float[Tensor, " batch"]:
    r"""The rate below which the iteration converges: 2 over the largest eigenvalue.

    *prefix*: :math:`2/\lambda_{\max}(G/n)`; *causal*: :math:`2n/\max_j \|x_j\|^2`; *normalised*:
    :math:`2 \min_j j/\|x_j\|^2`.
    """
    return 2 / spectrum(xs, variant).amax(-1)


@validated
def best_rate(xs: Inputs) -> Float[Tensor, " batch"]:
    r"""The fixed rate with the smallest prefix contraction, :math:`2/(\lambda_{\max} + \lambda_{\min})`."""
    values = spectrum(xs, "prefix")
    return 2 / (values.amax(-1) + values.amin(-1))


def spectrum(xs: Inputs, variant: Variant) -> Float[Tensor, "batch size"]:
    """The eigenvalues of the step per unit of rate; for a prefix the nonzero ones (the largest in their place)."""
    points, dim = xs.shape[1:]
    if variant == "prefix":
        smaller = xs.mT @ xs if dim <= points else xs @ xs.mT
        values = torch.linalg.eigvalsh(smaller) / points
        rounding = torch.finfo(xs.dtype).eps * max(points, dim) * values[:, -1:]
        return torch.where(values > rounding, values, values[:, -1:])
    norms = xs.square().sum(-1)
    return norms / points if variant == "causal" else norms / places(xs)


@validated
def layers_needed(
    xs: Inputs, ys: Float[Tensor, "batch point out"], rate: float, tolerance: float, variant: Variant
) -> Int[Tensor, " batch"]:
    r"""The number of layers after which the last position's weights are within a tolerance of the fixed point.

    The least l with :math:`\|w^{(l)} - w^*\|_F \le \epsilon`, starting at zero, found by doubling: powers
    :math:`M^{2^k}` of the error step are formed once and the depth is assembled from its binary digits. It is
    the least such l because the tail of the error is decreasing; below the prefix step limit it always is.

    Raises:
        InputError: If the rate is at or beyond the step limit of some prompt.
    """
    require_not_negative("layers_needed", "tolerance", tolerance, zero=False)
    if (contraction(xs, rate, variant) >= 1).any():
        raise InputError(
            f"layers_needed: at rate {rate} some prompt never converges; the limit is "
            f"{step_limit(xs, variant).min():.4g}."
        )
    powers = [error_step(xs, rate, variant)]
    error, reading = starting_error(xs, ys, variant)
    while ((error @ powers[-1] @ reading).flatten(1).norm(dim=1) > tolerance).any():
        powers.append(powers[-1] @ powers[-1])
    depth = torch.zeros(xs.shape[0], dtype=torch.long)
    for k, power in reversed(list(enumerate(powers))):
        further = error @ power
        outside = (further @ reading).flatten(1).norm(dim=1) > tolerance
        error = torch.where(outside[:, None, None], further, error)
        depth += outside.cpu() * 2**k
    at_start = (starting_error(xs, ys, variant)[0] @ reading).flatten(1).norm(dim=1) > tolerance
    return (depth + 1) * at_start.cpu()


def starting_error(
    xs: Inputs, ys: Float[Tensor, "batch point out"], variant: Variant
) -> tuple[Float[Tensor, "batch out size"], Float[Tensor, "batch size dim"]]:
    """The error before the first layer, as rows, and the matrix that maps it to the last position's weights."""
    if variant == "prefix":
        eye = torch.eye(xs.shape[2], dtype=xs.dtype, device=xs.device)
        return stationary_weights(xs, ys, variant)[:, -1], eye.expand(xs.shape[0], -1, -1)
    shares = torch.linalg.solve_triangular(triangle(xs, variant).mT, ys, upper=False)
    return shares.mT, xs / xs.shape[1] if variant == "normalised" else xs


@validated
def place_iterates(
    xs: Inputs,
    ys: Float[Tensor, "batch point out"],
    rate: float,
    layers: int,
    *,
    normalised: bool = False,
    start: Float[Tensor, "out dim"] | None = None,
) -> Float[Tensor, "layer batch point out dim"]:
    r"""The coupled iterations of a causal network, one weight per position, before the first layer and after each.

    .. math:: w_j^{(l)} = w_j^{(l-1)} + \frac{\eta}{n} \sum_{i \le j} (y_i - w_i^{(l-1)} x_i) x_i^\top

    (:math:`\eta / j` in place of :math:`\eta / n` if normalised).

    References:
        Ding et al. (2024), equations 10 and 18.
    """
    batch, points, dim = xs.shape
    scale = rate / (places(xs) if normalised else points * torch.ones_like(places(xs)))
    weights = xs.new_zeros(batch, points, ys.shape[2], dim)
    weights = weights if start is None else weights + start
    path = [weights]
    for _ in range(layers):
        missed = ys - torch.einsum("bjod,bjd->bjo", weights, xs)
        pulls = (missed[..., None] * xs[:, :, None]).cumsum(1)
        weights = weights + scale[:, None, None] * pulls
        path.append(weights)
    return torch.stack(path)


@validated
def shrink_and_project(xs: Inputs, ys: Float[Tensor, "batch point out"]) -> Float[Tensor, "batch point out dim"]:
    r"""The normalised causal fixed point at every position, by recursion instead of its linear system.

    .. math:: \tilde w_j = \tfrac{j}{j+1} w_j, \qquad
        w_{j+1} = \tilde w_j + \frac{(y_{j+1} - \tilde w_j x_{j+1}) x_{j+1}^\top}{\|x_{j+1}\|^2}, \qquad w_0 = 0

    References:
        Ding et al. (2024), proposition 8.
    """
    weights = xs.new_zeros(xs.shape[0], ys.shape[2], xs.shape[2])
    path = []
    for j, (x, y) in enumerate(zip(xs.transpose(0, 1), ys.transpose(0, 1), strict=True)):
        weights = weights * (j / (j + 1))
        missed = y - (weights * x[:, None]).sum(-1)
        weights = weights + missed[..., None] * (x / x.square().sum(-1, keepdim=True))[:, None]
        path.append(weights)
    return torch.stack(path, dim=1)


@validated
def causal_error(
    dim: int, points: int, *, second_moment: float, noise: float = 0.0, inverse_square: float = 0.0
) -> Float[Tensor, " point"]:
    r"""Expected squared query error of the causal fixed point after 1..n examples.

    For inputs with :math:`E[xx^\top] = sI`, :math:`E[xx^\top / \|x\|^2] = I/d`, weights :math:`N(0, I)`, label
    noise :math:`\sigma` and a clean target,

    .. math:: E_n = s d \big(1 - \tfrac1d\big)^n
        + s d \sigma^2 E\big[\|x\|^{-2}\big] \Big(1 - \big(1 - \tfrac1d\big)^n\Big),

    exactly: projections contract the error by 1 - 1/d on average, and the noise leaves a floor.

    Args:
        dim: The dimension d.
        points: The largest n.
        second_moment: The number s.
        noise: The standard deviation of the label noise.
        inverse_square: :math:`E[\|x\|^{-2}]`, needed with noise only.

    References:
        Derived from Ding et al. (2024), proposition 5.

    Example:
        >>> round(causal_error(16, 40, second_moment=1 / 3)[-1].item(), 4)
        0.4035
    """
    require_count("causal_error", "dim", dim, least=1)
    require_not_negative("causal_error", "noise", noise)
    n = torch.arange(1, points + 1, dtype=torch.float64)
    decay = (1 - 1 / dim) ** n
    return second_moment * dim * (decay + noise**2 * inverse_square * (1 - decay))


@validated
def normalised_causal_error(
    dim: int, points: int, *, second_moment: float, noise: float = 0.0, inverse_square: float = 0.0
) -> Float[Tensor, " point"]:
    r"""Expected squared query error of the length-normalised causal fixed point after 1..n examples.

    The fixed point shrinks by :math:`\gamma = (j-1)/j` and then projects (proposition 8). With
    :math:`u = E\|w_j - w\|^2` and :math:`c = E\langle w_j - w, w\rangle`, under the assumptions of
    :func:`causal_error`,

    .. math:: u' = \big(1 - \tfrac1d\big)\big(\gamma^2 u - 2\gamma(1-\gamma) c + (1-\gamma)^2 d\big)
        + \sigma^2 E\big[\|x\|^{-2}\big], \quad c' = \big(1 - \tfrac1d\big)\big(\gamma c - (1-\gamma) d\big) .

    Without noise it falls like :math:`s d (d-1)(2d-1) / n^2` only.

    References:
        Derived from Ding et al. (2024), proposition 8.
    """
    require_count("normalised_causal_error", "dim", dim, least=1)
    keep = 1 - 1 / dim
    size, along = float(dim), float(-dim)
    path = []
    for j in range(1, points + 1):
        gamma = (j - 1) / j
        grown = gamma**2 * size - 2 * gamma * (1 - gamma) * along + (1 - gamma) ** 2 * dim
        size = keep * grown + noise**2 * inverse_square
        along = keep * (gamma * along - (1 - gamma) * dim)
        path.append(second_moment * size)
    return torch.tensor(path, dtype=torch.float64)


@validated
def uniform_inverse_square(dim: int) -> float:
    r"""The expectation :math:`E\|x\|^{-2}` for x uniform on the cube :math:`[-1, 1]^d`, d at least 3.

    By :math:`\|x\|^{-2} = \int_0^\infty e^{-t\|x\|^2} dt`, it is
    :math:`\int_0^\infty \big(\tfrac12 \sqrt{\pi/t}\, \mathrm{erf} \sqrt t\big)^d dt`.

    Example:
        >>> round(uniform_inverse_square(16), 4)
        0.1981
    """
    require_count("uniform_inverse_square", "dim", dim, least=3)

    def integrand(t: float) -> float:
        return float((scipy.special.erf(t**0.5) * (torch.pi / t) ** 0.5 / 2) ** dim) if t else 1.0

    return scipy.integrate.quad(integrand, 0, float("inf"), epsabs=0, epsrel=1e-12, limit=500)[0]


@validated
def gaussian_inverse_square(dim: int) -> float:
    r"""The expectation :math:`E\|x\|^{-2} = 1/(d-2)` for x ~ N(0, I), d at least 3."""
    require_count("gaussian_inverse_square", "dim", dim, least=3)
    return 1 / (dim - 2)
