r"""Least squares and ridge regression, from all examples and recursively at every prefix.

Both minimise :math:`\|Y - X w^\top\|_F^2 + \lambda \|w\|_F^2` over the examples so far. All examples at once are
solved by a singular value decomposition; the prefixes by recursive least squares in square-root form, which
carries a root :math:`S` of the inverse Gram matrix, :math:`S S^\top = (X^\top X + \lambda I)^+`, so that its
error grows with the condition number of :math:`X` and not with its square:

* an example inside the span of the earlier ones updates the root by Potter's rank-one rule,
  :math:`S \leftarrow S - \frac{\alpha}{1 + \sqrt\alpha} (S f) f^\top` with :math:`f = S^\top x`,
  :math:`\alpha = 1/(1 + f^\top f)`, and :math:`w \leftarrow w + \alpha (y - w x) (S f)^\top`;
* an example that leaves the span (only without a penalty) by its part :math:`r` orthogonal to it, as in
  Greville's recursion for the pseudoinverse: with :math:`k = r / \|r\|^2`, :math:`w \leftarrow w + (y - w x)
  k^\top`, and :math:`S` loses :math:`k f^\top` and gains the column :math:`k`.

References:
    Greville (1960), Some applications of the pseudoinverse of a matrix.
    Potter and Stern (1963); Bierman (1977), Factorization methods for discrete sequential estimation.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from insitu.errors import require_not_negative
from insitu.learners.learner import LinearLearner

__all__ = ["LeastSquares", "Ridge"]

# Prompts that are updated together: their roots stay in the cache of one core.
CHUNK = 128


@final
@dataclass(frozen=True, repr=False)
class LeastSquares(LinearLearner):
    r"""Least squares; of all minimisers the one of smallest norm, :math:`w = (X^+ Y)^\top`.

    A singular value, or the part of a new example outside the span of the earlier ones, counts as zero below
    :math:`\epsilon \max(n, d)` times the size of :math:`X`, the convention of LAPACK and NumPy.

    Example:
        >>> xs = torch.tensor([[[1.0, 1.0]]], dtype=torch.float64)
        >>> LeastSquares().weights(xs, torch.full((1, 1, 1), 2.0, dtype=torch.float64))
        tensor([[[1.0000, 1.0000]]], dtype=torch.float64)
    """

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return penalised(xs, ys, penalty=0.0)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return recursive(xs, ys, penalty=0.0)


@final
@dataclass(frozen=True, repr=False)
class Ridge(LinearLearner):
    r"""Ridge regression, :math:`w = Y^\top X (X^\top X + \lambda I)^{-1}`.

    Args:
        penalty: The penalty :math:`\lambda \ge 0` on the sum (not the mean) of squares; 0 is least squares.

    Raises:
        InputError: If the penalty is negative or not finite.

    References:
        Hoerl and Kennard (1970).

    Example:
        >>> Ridge.bayes(noise=0.5, weight_std=1.0)
        Ridge(penalty=0.25)
    """

    penalty: float

    def __post_init__(self) -> None:
        require_not_negative("Ridge", "penalty", self.penalty)

    @classmethod
    def bayes(cls, noise: float, weight_std: float = 1.0) -> "Ridge":
        r"""The Bayes predictor for weights :math:`N(0, \tau^2 I)` and label noise :math:`N(0, \sigma^2)`.

        Its penalty is :math:`\sigma^2 / \tau^2`.

        Args:
            noise: The standard deviation :math:`\sigma`.
            weight_std: The standard deviation :math:`\tau`.
        """
        require_not_negative("Ridge.bayes", "noise", noise)
        require_not_negative("Ridge.bayes", "weight_std", weight_std, zero=False)
        return cls(penalty=noise**2 / weight_std**2)

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return penalised(xs, ys, self.penalty)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return recursive(xs, ys, self.penalty)


def penalised(
    xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"], penalty: float
) -> Float[Tensor, "batch out dim"]:
    """Minimise the penalised sum of squares over all examples, by a singular value decomposition."""
    left, sizes, right = torch.linalg.svd(xs, full_matrices=False)
    kept = sizes > torch.finfo(xs.dtype).eps * max(xs.shape[-2:]) * sizes[:, :1]
    # s / (s^2 + penalty), written so that no square leaves the range of float64.
    gains = torch.where(kept, 1 / (sizes + penalty / sizes), 0.0)
    return (ys.mT @ left * gains[:, None]) @ right


def recursive(
    xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"], penalty: float
) -> Float[Tensor, "batch point out dim"]:
    """Minimise the penalised sum of squares over every prefix, by one update per example."""
    pairs = zip(xs.split(CHUNK), ys.split(CHUNK), strict=True)
    return torch.cat([recursive_chunk(x, y, penalty) for x, y in pairs])


def recursive_chunk(xs: Tensor, ys: Tensor, penalty: float) -> Tensor:
    # Prompts are the last axis: small batched products are several times slower than these sums.
    (batch, points, dim), out = xs.shape, ys.shape[2]
    root = torch.eye(dim, dtype=xs.dtype, device=xs.device)[..., None].repeat(1, 1, batch)
    root = root / math.sqrt(penalty) if penalty else torch.zeros_like(root)
    weights = xs.new_zeros(out, dim, batch)
    span = None if penalty else Span(dim, batch, points, like=xs)
    path = xs.new_empty(points, out, dim, batch)
    xs, ys = xs.permute(1, 2, 0).contiguous(), ys.permute(1, 2, 0).contiguous()
    for j, (x, y) in enumerate(zip(xs, ys, strict=True)):
        missed = y - (weights * x).sum(1)
        image = (root * x[:, None]).sum(0)
        outside = None if span is None or span.full else span.take(x)
        if outside is not None and outside.new.any():
            weights = torch.addcmul(weights, missed[:, None], outside.dual)
            gained = outside.column - torch.where(outside.new, image, 0.0)
            root = torch.addcmul(root, outside.dual[:, None], gained)
        if outside is None or not outside.new.all():
            inside = image if outside is None else torch.where(outside.new, 0.0, image)
            shrink = 1 / (1 + inside.square().sum(0))
            moved = (root * inside).sum(1)
            weights = torch.addcmul(weights, missed[:, None], shrink * moved)
            root = torch.addcmul(root, moved[:, None], inside * (-shrink / (1 + shrink.sqrt())))
        path[j] = weights
    return path.permute(3, 0, 1, 2).contiguous()


@dataclass(frozen=True, eq=False)
class Outside:
    """What one example adds to the span; zeros where it adds nothing."""

    new: Bool[Tensor, " batch"]
    """Whether the example leaves the span."""
    dual: Float[Tensor, "dim batch"]
    r"""The vector :math:`k = r / \|r\|^2`."""
    column: Float[Tensor, "dim batch"]
    """One-hot: the root's next free column."""


class Span:
    """An orthonormal basis of the examples so far, one per prompt, grown by Gram-Schmidt done twice."""

    def __init__(self, dim: int, batch: int, points: int, like: Tensor) -> None:
        self.basis = like.new_zeros(dim, dim, batch)
        self.columns = torch.eye(dim, dtype=like.dtype, device=like.device)
        self.rank = torch.zeros(batch, dtype=torch.long, device=like.device)
        self.energy = like.new_zeros(batch)
        self.tolerance = torch.finfo(like.dtype).eps * max(points, dim)
        self.full = False

    def take(self, x: Float[Tensor, "dim batch"]) -> Outside:
        """Find the part of ``x`` outside the span and add its direction to the basis."""
        dim = x.shape[0]
        self.energy = self.energy + x.square().sum(0)
        rest = x
        for _ in range(2):
            inner = (self.basis * rest[:, None]).sum(0)
            rest = rest - (self.basis * inner).sum(1)
        size = rest.norm(dim=0)
        new = (size > self.tolerance * self.energy.sqrt()) & (self.rank < dim)
        column = self.columns[:, self.rank.clamp(max=dim - 1)] * new
        safe = torch.where(new, size, 1.0)
        self.basis = torch.addcmul(self.basis, (rest / safe)[:, None], column)
        self.rank = self.rank + new
        self.full = bool((self.rank == dim).all())
        return Outside(new, torch.where(new, rest / safe.square(), 0.0), column)
