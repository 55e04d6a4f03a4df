"""Exact Bayes for a finite pool of linear functions, and for linear functions under an unknown noise level."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_not_negative
from insitu.learners.learner import LinearLearner, Numbers, as_nested, as_tensor

__all__ = ["FinitePool", "NoiseMixture"]

# Numbers in what a chunk of prompts misses of every member's labels (1 MB): it stays in the cache of one core.
CHUNK = 2**17


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
        return torch.cat([mean(pool, *deque(logs, maxlen=1)) for logs in self._chunks(pool, xs, ys)])

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        pool = self._pool(xs, ys)
        paths = ([mean(pool, log) for log in logs] for logs in self._chunks(pool, xs, ys))
        return torch.cat([torch.stack(path, dim=1) for path in paths])

    def _pool(self, xs: Tensor, ys: Tensor) -> Float[Tensor, "member out dim"]:
        size, out, dim = len(self.weights_of), ys.shape[2], xs.shape[2]
        shapes = [(size, out, dim), (size, dim)] if out == 1 else [(size, out, dim)]
        return as_tensor("FinitePool", "weights_of", self.weights_of, shapes, xs).view(size, out, dim)

    def _chunks(self, pool: Tensor, xs: Tensor, ys: Tensor) -> Iterator[Iterator[Float[Tensor, "batch member"]]]:
        """The log-likelihoods of some prompts at a time."""
        prompts = max(1, CHUNK // pool[..., 0].numel())
        for x, y in zip(xs.split(prompts), ys.split(prompts), strict=True):
            yield self._log_likelihoods(pool, x, y)

    def _log_likelihoods(self, pool: Tensor, xs: Tensor, ys: Tensor) -> Iterator[Float[Tensor, "batch member"]]:
        """The log-likelihoods after every example, up to a constant: one tensor, which changes in place."""
        size, out, _ = pool.shape
        maps = pool.flatten(0, 1).mT.contiguous()
        total = xs.new_zeros(xs.shape[0], size)
        for x, y in zip(xs.unbind(1), ys.unbind(1), strict=True):
            missed = (x @ maps).view(-1, size, out).sub_(y[:, None])
            for one in missed.unbind(-1):
                total.addcmul_(one, one, value=-0.5 / self.noise**2)
            yield total


def mean(pool: Float[Tensor, "member out dim"], logs: Float[Tensor, "batch member"]) -> Float[Tensor, "batch out dim"]:
    """The members' mean under probabilities given by their logarithms, up to a constant."""
    return (logs.softmax(-1) @ pool.flatten(1)).view(-1, *pool.shape[1:])


@final
@dataclass(frozen=True, repr=False)
class NoiseMixture(LinearLearner):
    r"""The posterior mean for Gaussian weights when the label noise has one of several known levels.

    .. math:: \hat w = \sum_k p_k \, w_{\sigma_k}, \quad
        p_k \propto \pi_k \prod_o N\big(y_o; 0, \tau^2 X X^\top + \sigma_k^2 I\big),

    where :math:`w_\sigma` is ridge regression with penalty :math:`\sigma^2 / \tau^2`. All prefixes come out of one
    Cholesky factor for every level, since it is nested; its error grows with :math:`(\tau \|X\| / \sigma)^2`.

    Args:
        noises: The standard deviations :math:`\sigma_k > 0`.
        weight_std: The standard deviation :math:`\tau` of every weight.
        probabilities: The probabilities :math:`\pi_k` before any example, up to a factor (default: equal).

    Raises:
        InputError: If there is no level, one is not positive, or there are not as many probabilities.

    References:
        Bai et al. (2023), Transformers as statisticians, section 4.1.

    Example:
        >>> NoiseMixture(noises=(0.1, 1.0))
        NoiseMixture(noises=(0.1, 1.0), weight_std=1.0)
    """

    noises: Numbers
    weight_std: float = 1.0
    probabilities: Numbers | None = None

    def __post_init__(self) -> None:
        require_not_negative("NoiseMixture", "weight_std", self.weight_std, zero=False)
        for name in ("noises", "probabilities"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_nested("NoiseMixture", name, getattr(self, name)))
                for value in getattr(self, name):
                    require_not_negative("NoiseMixture", name, value, zero=False)
        if not self.noises or len(self.probabilities or self.noises) != len(self.noises):
            raise InputError(
                "NoiseMixture: it needs at least one noise level and as many probabilities; got "
                f"{self.noises!r} and {self.probabilities!r}."
            )

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return self.prefix_weights(xs, ys)[:, -1]

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        weights, evidence = zip(*(self._of_level(noise, xs, ys) for noise in self.noises), strict=True)
        prior = torch.tensor(self.probabilities or [1.0] * len(self.noises), dtype=xs.dtype, device=xs.device)
        shares = (torch.stack(evidence, dim=-1) + prior.log()).softmax(-1)
        return torch.einsum("bnk,bnkod->bnod", shares, torch.stack(weights, dim=2))

    def _of_level(
        self, noise: float, xs: Tensor, ys: Tensor
    ) -> tuple[Float[Tensor, "batch point out dim"], Float[Tensor, "batch point"]]:
        """The weights at every prefix under one level, and the logarithm of the labels' density."""
        inputs = self.weight_std * xs
        eye = torch.eye(xs.shape[1], dtype=xs.dtype, device=xs.device)
        factor = torch.linalg.cholesky(inputs @ inputs.mT + noise**2 * eye)
        solved = torch.linalg.solve_triangular(factor, torch.cat([inputs, ys], dim=2), upper=False)
        basis, surprise = solved[..., : xs.shape[2]], solved[..., xs.shape[2] :]
        spread = factor.diagonal(dim1=1, dim2=2).log()
        evidence = -(surprise.square().sum(-1) / 2 + ys.shape[2] * spread).cumsum(1)
        return self.weight_std * (surprise[..., None] * basis[:, :, None]).cumsum(1), evidence
