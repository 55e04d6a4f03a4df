"""Newton's iteration for the inverse."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count
from insitu.learners.spectral import SpectralLearner, inverses

__all__ = ["Newton"]

# As products, every iteration doubles the rounding errors outside the span of the examples: these cost three digits.
PRODUCTS = 12
# Prompts whose matrices are multiplied together: they stay in the cache of one core.
CHUNK = 128


@final
@dataclass(frozen=True, repr=False)
class Newton(SpectralLearner):
    r"""Newton's iteration for the inverse of the Gram matrix :math:`G = X^\top X`, then one product.

    .. math:: M_0 = G / \|G\|_F^2, \quad M_{t+1} = 2 M_t - M_t G M_t, \quad w = Y^\top X M_T

    It converges to the pseudoinverse, so to least squares of minimum norm: the error of the eigenvalue
    :math:`\lambda` is :math:`(1 - \lambda^2 / \|G\|_F^2)^{2^T}`, by which the whole context goes. Prefixes go by
    :math:`R_t = I - M_t G`, for which :math:`R_{t+1} = R_t^2` and :math:`w_{t+1} = w_t + w_t R_t`: one product a step,
    of matrices as large as the smaller of n and d. Beyond 12 steps, where rounding would show, they go by the
    formula.

    Args:
        steps: The number :math:`T` of iterations.

    References:
        Schulz (1933); Fu et al. (2023), Transformers learn higher-order optimization methods in context.

    Example:
        >>> Newton(steps=8)
        Newton(steps=8)
    """

    steps: int

    def __post_init__(self) -> None:
        require_count("Newton", "steps", self.steps)

    def gains(self, sizes: Tensor, points: int) -> Tensor:
        largest = sizes.amax(-1, keepdim=True)
        part = (sizes / torch.where(largest > 0, largest, 1.0)) ** 4
        share = part / part.sum(-1, keepdim=True).clamp(min=1.0)
        return -torch.expm1(2.0 ** min(self.steps, 1000) * torch.log1p(-share)) * inverses(sizes)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        if self.steps > PRODUCTS:
            return super().prefix_weights(xs, ys)
        path = xs.new_empty(*ys.shape, xs.shape[2])
        for x, y, place in prefixes(xs, ys, path):
            (last,) = deque(self._products(x, y), maxlen=1)
            place.copy_(last @ x if x.shape[1] < x.shape[2] else last)
        return path

    def prefix_iterates(
        self, xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
    ) -> Float[Tensor, "batch point step out dim"]:
        """The weights learned from the first k examples before the first iteration and after each; in float64."""
        if self.steps > PRODUCTS:
            return torch.stack([Newton(t).prefix_weights(xs, ys) for t in range(self.steps + 1)], dim=2)
        path = xs.new_empty(*ys.shape[:2], self.steps + 1, ys.shape[2], xs.shape[2])
        for x, y, place in prefixes(xs, ys, path):
            every = torch.stack(list(self._products(x, y)), dim=1)
            place.copy_(every @ x[:, None] if x.shape[1] < x.shape[2] else every)
        return path

    def _products(self, xs: Tensor, ys: Tensor) -> Iterator[Float[Tensor, "batch out size"]]:
        """The iterates: weights or, of fewer examples than dimensions, their coefficients of the examples."""
        wide = xs.shape[1] < xs.shape[2]
        gram = xs @ xs.mT if wide else xs.mT @ xs
        norm = gram.square().sum((1, 2), keepdim=True)
        scaled = gram / torch.where(norm > 0, norm, 1.0)
        weights = (ys.mT if wide else ys.mT @ xs) @ scaled
        yield weights
        rest = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device) - gram @ scaled
        for step in range(self.steps):
            weights = torch.baddbmm(weights, weights, rest)
            yield weights
            if step < self.steps - 1:
                rest = torch.bmm(rest, rest)


def prefixes(xs: Tensor, ys: Tensor, path: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Every prefix, for some prompts at a time, and the part of ``path`` that it fills."""
    for x, y, part in zip(*(t.split(CHUNK) for t in (xs, ys, path)), strict=True):
        for k in range(1, xs.shape[1] + 1):
            yield x[:, :k], y[:, :k], part[:, k - 1]
