"""Exact Bayes for a finite pool of linear functions."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_not_negative
from insitu.learners.learner import LinearLearner, Numbers, as_nested, as_tensor

__all__ = ["FinitePool"]


@final
@dataclass(frozen=True, repr=False)
class FinitePool(LinearLearner):
    r"""The posterior mean when the function is one of M known linear functions, equally likely before.

    .. math:: \hat w = \sum_m p_m w_m, \quad
        p_m \propto \exp\Big(-\frac{1}{2\sigma^2} \sum_i \|y_i - w_m x_i\|^2\Big)

    Args:
        weights_of: The functions, one row of d numbers each for one output, or ``out`` rows each.
        noise: The standard deviation :math:`\sigma > 0` of the label noise that the posterior assumes.

    Raises:
        InputError: If the noise is not positive or the pool does not fit the prompt.

    References:
        The discrete minimum-mean-squared-error estimator of Raventos et al. (2023).

    Example:
        >>> FinitePool(weights_of=torch.tensor([[1.0, 0.0], [0.0, 1.0]]), noise=0.5)
        FinitePool(weights_of=((1.0, 0.0), (0.0, 1.0)), noise=0.5)
    """

    weights_of: Numbers
    noise: float

    def __post_init__(self) -> None:
        require_not_negative("FinitePool", "noise", self.noise, zero=False)
        object.__setattr__(self, "weights_of", as_nested("FinitePool", "weights_of", self.weights_of))
        if not self.weights_of:
            raise InputError("FinitePool: weights_of must hold at least one function; got none.")

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        pool = self._pool(xs, ys)
        misfit = self._misfit(pool, xs, ys).sum(1)
        return torch.einsum("bm,mod->bod", (-misfit).softmax(-1), pool)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        pool = self._pool(xs, ys)
        misfit = self._misfit(pool, xs, ys).cumsum(1)
        return torch.einsum("bkm,mod->bkod", (-misfit).softmax(-1), pool)

    def _pool(self, xs: Tensor, ys: Tensor) -> Float[Tensor, "member out dim"]:
        size, out, dim = len(self.weights_of), ys.shape[2], xs.shape[2]
        shapes = [(size, out, dim), (size, dim)] if out == 1 else [(size, out, dim)]
        return as_tensor("FinitePool", "weights_of", self.weights_of, shapes, xs).view(size, out, dim)

    def _misfit(self, pool: Tensor, xs: Tensor, ys: Tensor) -> Float[Tensor, "batch point member"]:
        missed = ys[:, :, None] - torch.einsum("bkd,mod->bkmo", xs, pool)
        return missed.square().sum(-1) / (2 * self.noise**2)
