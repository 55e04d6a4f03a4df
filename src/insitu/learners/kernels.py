"""Gaussian processes, which are kernel ridge regression."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_not_negative, require_one_of
from insitu.learners.learner import Learner
from insitu.prompt import Prompt

__all__ = ["KERNELS", "GaussianProcess"]


def matern_three_halves(distance: Tensor) -> Tensor:
    scaled = math.sqrt(3) * distance
    return (1 + scaled) * (-scaled).exp()


def matern_five_halves(distance: Tensor) -> Tensor:
    scaled = math.sqrt(5) * distance
    return (1 + scaled + scaled.square() / 3) * (-scaled).exp()


# Kernels of distances in units of the length scale.
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "rbf": lambda distance: (-distance.square() / 2).exp(),
    "matern-1/2": lambda distance: (-distance).exp(),
    "matern-3/2": matern_three_halves,
    "matern-5/2": matern_five_halves,
}


@final
@dataclass(frozen=True, repr=False)
class GaussianProcess(Learner):
    r"""The posterior mean of a Gaussian process without a mean; the same as kernel ridge regression.

    .. math:: \hat y = k(x_q, X) \, (k(X, X) + \lambda I)^{-1} Y

    ===============  ==========================================================
    kernel           of the distance r in units of the length scale
    ===============  ==========================================================
    ``rbf``          :math:`e^{-r^2/2}`
    ``matern-1/2``   :math:`e^{-r}`
    ``matern-3/2``   :math:`(1 + \sqrt3 r) e^{-\sqrt3 r}`
    ``matern-5/2``   :math:`(1 + \sqrt5 r + 5 r^2 / 3) e^{-\sqrt5 r}`
    ===============  ==========================================================

    The Cholesky factor of the kernel matrix is nested, so all prefixes come out of that of the whole context.

    Args:
        length_scale: The distance over which the function changes, positive.
        penalty: The variance :math:`\lambda > 0` of the label noise over that of the function.
        kernel: One of the names above.

    Raises:
        InputError: If a number is not positive, the kernel is unknown, or the penalty is so small that the kernel
            matrix of some prompt is singular to float64.

    References:
        Rasmussen and Williams (2006), equation 2.25 and section 4.2.

    Example:
        >>> GaussianProcess(length_scale=1.5, penalty=0.1, kernel="matern-5/2")
        GaussianProcess(length_scale=1.5, penalty=0.1, kernel='matern-5/2')
    """

    length_scale: float
    penalty: float
    kernel: str = "rbf"

    def __post_init__(self) -> None:
        require_not_negative("GaussianProcess", "length_scale", self.length_scale, zero=False)
        require_not_negative("GaussianProcess", "penalty", self.penalty, zero=False)
        require_one_of("GaussianProcess", "kernel", self.kernel, list(KERNELS))

    def predict(self, prompt: Prompt) -> Tensor:
        exact, factor = prompt.to(torch.float64), self._factor(prompt)
        fitted = torch.cholesky_solve(exact.ys, factor)
        return (self._kernel(exact.queries, exact.xs) @ fitted).to(prompt.ys)

    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        exact, factor = prompt.to(torch.float64), self._factor(prompt)
        sides = torch.cat([exact.ys, self._kernel(exact.xs, exact.queries)], dim=2)
        solved = torch.linalg.solve_triangular(factor, sides, upper=False)
        labels, images = solved[..., : exact.out], solved[..., exact.out :]
        return (images[..., None] * labels[:, :, None]).cumsum(1).to(prompt.ys)

    def _kernel(self, xs: Tensor, others: Tensor) -> Float[Tensor, "batch point other"]:
        # Differences and not products, so that equal points are at exactly 0.
        distance = torch.cdist(xs, others, compute_mode="donot_use_mm_for_euclid_dist")
        return KERNELS[self.kernel](distance / self.length_scale)

    def _factor(self, prompt: Prompt) -> Float[Tensor, "batch point point"]:
        xs = prompt.xs.double()
        eye = torch.eye(prompt.points, dtype=xs.dtype, device=xs.device)
        factor, failed = torch.linalg.cholesky_ex(self._kernel(xs, xs) + self.penalty * eye)
        if failed.any():
            raise InputError(
                f"GaussianProcess: with penalty {self.penalty:g} the kernel matrix of some prompt is singular to "
                "float64. A larger penalty, or a shorter length scale, makes it regular."
            )
        return factor
