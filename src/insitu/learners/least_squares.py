r"""Least squares and ridge regression, from all examples and recursively at every prefix.

Both minimise :math:`\|Y - X w^\top\|_F^2 + \lambda \|w\|_F^2` over the examples so far. All examples at once are
solved by a singular value decomposition; the prefixes by recursive least squares in square-root form, which
carries a root :math:`S` of the inverse Gram matrix, :math:`S S^\top = (X^\top X + \lambda I)^+`, so that its
error grows with the condition number of :math:`X` and not with its square.

* **Without a penalty** the first :math:`\min(n, d)` examples come first. Where each leaves the span of those
  before it, :math:`X = L Q` by Householder reflections, with :math:`Q = L^{-1} X` made orthonormal once more. As
  :math:`L` is nested, the weights of every prefix are running sums of :math:`(L^{-1} y)_i \, q_i`; then :math:`S =
  Q^\top L^{-1}`. Prompts in which some example hardly leaves the span go one example at a time (:class:`Span`).
* **Blocks of examples** :math:`X` update the root: with :math:`F = X S`, the Cholesky factor :math:`L L^\top = I +
  F F^\top` and :math:`U = L^{-1} F S^\top`, the weights after the block's first j examples are :math:`w + \sum_{i
  \le j} (L^{-1} (y - X w^\top))_i \, u_i`, and :math:`S \leftarrow S - U^\top (L + I)^{-1} F`. For one example this
  is Potter's rule. Only examples with small rows :math:`f` share a block, since :math:`I + F F^\top` squares them.
* **One example at a time**: inside the span, Potter's rule, :math:`S \leftarrow S - \frac{\alpha}{1 + \sqrt\alpha}
  (S f) f^\top` with :math:`f = S^\top x`, :math:`\alpha = 1/(1 + f^\top f)`, and :math:`w \leftarrow w + \alpha (y -
  w x) (S f)^\top`; outside it by its part :math:`r` orthogonal to the span, as in Greville's recursion for the
  pseudoinverse: with :math:`k = r / \|r\|^2`, :math:`w \leftarrow w + (y - w x) k^\top`, and :math:`S` loses
  :math:`k f^\top` and gains the column :math:`k`.

References:
    Greville (1960), Some applications of the pseudoinverse of a matrix.
    Potter and Stern (1963); Bierman (1977), Factorization methods for discrete sequential estimation.
    Yamamoto et al. (2015), Roundoff error analysis of the CholeskyQR2 algorithm, on making Q orthonormal once more.
    Morf and Kailath (1975), Square-root algorithms for least-squares estimation, on blocks.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from insitu.errors import InputError, require_flag, require_not_negative
from insitu.learners.learner import LinearLearner, Numbers, as_nested, as_tensor

__all__ = ["LeastSquares", "RecursiveLeastSquares", "Ridge"]

# Weights from examples, or those of every prefix.
Fit = Callable[[Tensor, Tensor], Tensor]

# Prompts that are updated together: their roots stay in the cache of one core.
CHUNK = 128
# Examples in a block, at most.
BLOCK = 14
# The largest square |f|^2 in a block of several examples: rounding changes their weights by so many epsilons.
HARMLESS = 1e3
# An example is clear of the span of those before it where its part outside is at least this share of all.
CLEAR = 1e-7


@final
@dataclass(frozen=True, repr=False)
class LeastSquares(LinearLearner):
    r"""Least squares; of all minimisers the one of smallest norm, :math:`w = (X^+ Y)^\top`.

    A singular value, or the part of a new example outside the span of the earlier ones, counts as zero below
    :math:`\epsilon \max(n, d)` times the size of :math:`X`, the convention of LAPACK and NumPy.

    Args:
        intercept: Whether a constant is fitted too: inputs and labels are then centred, and the norm is of the rest.

    Example:
        >>> xs = torch.tensor([[[1.0, 1.0]]], dtype=torch.float64)
        >>> LeastSquares().weights(xs, torch.full((1, 1, 1), 2.0, dtype=torch.float64))
        tensor([[[1.0000, 1.0000]]], dtype=torch.float64)
        >>> LeastSquares(intercept=True)
        LeastSquares(intercept=True)
    """

    intercept: bool = False

    def __post_init__(self) -> None:
        require_flag("LeastSquares", "intercept", self.intercept)

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return with_intercept(penalised, xs, ys) if self.intercept else penalised(xs, ys)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return path_with_intercept(least_squares_path, xs, ys) if self.intercept else least_squares_path(xs, ys)


@final
@dataclass(frozen=True, repr=False)
class Ridge(LinearLearner):
    r"""Ridge regression, :math:`w = Y^\top X (X^\top X + \lambda \Sigma^{-1})^{-1}`.

    Args:
        penalty: The penalty :math:`\lambda \ge 0` on the sum (not the mean) of squares; 0 is least squares.
        covariance: The covariance :math:`\Sigma` of the weights that a prior believes in, as its rows or, if it is
            diagonal, as its diagonal (default: the identity). Weights outside its range are zero.
        intercept: Whether a constant is fitted too, without a penalty: inputs and labels are then centred.
        per_example: Whether the penalty is multiplied by the number of examples, so that it is one on the mean.

    Raises:
        InputError: If the penalty is negative or not finite, or the covariance is not one, or of another dimension
            than the prompt.

    References:
        Hoerl and Kennard (1970).

    Example:
        >>> Ridge.bayes(noise=0.5, weight_std=1.0)
        Ridge(penalty=0.25)
        >>> Ridge(penalty=0.25, covariance=torch.tensor([1.0, 4.0]), intercept=True)
        Ridge(penalty=0.25, covariance=(1.0, 4.0), intercept=True)
    """

    penalty: float
    covariance: Numbers | None = None
    intercept: bool = False
    per_example: bool = False

    def __post_init__(self) -> None:
        require_not_negative("Ridge", "penalty", self.penalty)
        require_flag("Ridge", "intercept", self.intercept)
        require_flag("Ridge", "per_example", self.per_example)
        if self.covariance is not None:
            object.__setattr__(self, "covariance", as_nested("Ridge", "covariance", self.covariance))

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
        penalty = self.penalty * xs.shape[1] if self.per_example else self.penalty
        fit = functools.partial(self._in_prior_units, functools.partial(penalised, penalty=penalty))
        return with_intercept(fit, xs, ys) if self.intercept else fit(xs, ys)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        if self.per_example:
            return torch.stack([self.weights(xs[:, :k], ys[:, :k]) for k in range(1, xs.shape[1] + 1)], dim=1)
        path = functools.partial(ridge_path, penalty=self.penalty) if self.penalty else least_squares_path
        fit = functools.partial(self._in_prior_units, path)
        return path_with_intercept(fit, xs, ys) if self.intercept else fit(xs, ys)

    def _in_prior_units(self, fit: Fit, xs: Tensor, ys: Tensor) -> Tensor:
        """Fit weights that have the identity for their covariance, and turn them back."""
        if self.covariance is None:
            return fit(xs, ys)
        root = self._root(xs)
        return fit(xs @ root, ys) @ root.mT

    def _root(self, xs: Tensor) -> Float[Tensor, "dim dim"]:
        dim = xs.shape[2]
        entries = as_tensor("Ridge", "covariance", self.covariance or (), [(dim,), (dim, dim)], xs)
        matrix = torch.diag(entries) if entries.ndim == 1 else entries
        spread, axes = torch.linalg.eigh(matrix)
        if not torch.equal(matrix, matrix.mT) or spread[0] < -1e-12 * spread[-1].abs():
            raise InputError(
                f"Ridge: a covariance is symmetric and has no negative eigenvalue; got {self.covariance!r}."
            )
        return axes * spread.clamp(min=0).sqrt()


@final
@dataclass(frozen=True, repr=False)
class RecursiveLeastSquares(LinearLearner):
    r"""Recursive least squares that forgets: ridge regression in which an example counts less the older it is.

    .. math:: \min_w \sum_{j=1}^n \phi^{n-j} \|y_j - w x_j\|^2 + \phi^n \lambda \|w\|_F^2

    Args:
        forgetting: The factor :math:`0 < \phi \le 1`; 1 is ridge regression.
        penalty: The penalty :math:`\lambda > 0`, which is forgotten too.

    Raises:
        InputError: If the factor is not above 0 and at most 1, or the penalty is not positive.

    References:
        Haykin (2002), Adaptive filter theory, chapter 9.

    Example:
        >>> RecursiveLeastSquares(forgetting=0.9, penalty=1.0)
        RecursiveLeastSquares(forgetting=0.9, penalty=1.0)
    """

    forgetting: float
    penalty: float

    def __post_init__(self) -> None:
        require_not_negative("RecursiveLeastSquares", "forgetting", self.forgetting, zero=False)
        require_not_negative("RecursiveLeastSquares", "penalty", self.penalty, zero=False)
        if self.forgetting > 1:
            raise InputError(f"RecursiveLeastSquares: forgetting must be at most 1; got {self.forgetting!r}.")

    @property
    def ordered(self) -> str:
        return "it reads the examples one after the other"

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        points = xs.shape[1]
        age = torch.arange(points - 1, -1, -1, dtype=xs.dtype, device=xs.device)
        discount = (self.forgetting ** (age / 2))[:, None]
        return penalised(discount * xs, discount * ys, self.forgetting**points * self.penalty)

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return ridge_path(xs, ys, self.penalty, self.forgetting)


def with_intercept(fit: Fit, xs: Tensor, ys: Tensor) -> Float[Tensor, "batch out weight"]:
    """Fit centred examples; the last column is the intercept."""
    x, y = xs.mean(1, keepdim=True), ys.mean(1, keepdim=True)
    weights = fit(xs - x, ys - y)
    return torch.cat([weights, (y - x @ weights.mT).mT], dim=-1)


def path_with_intercept(fit: Fit, xs: Tensor, ys: Tensor) -> Float[Tensor, "batch point out weight"]:
    r"""Fit the centred examples of every prefix; the last column is the intercept.

    The sums of products of k centred examples are those of :math:`\sqrt{(j-1)/j} \, (x_j - \bar x_{j-1})`, j = 2..k, so
    the recursion runs over these (Helmert's transformation).
    """
    count = torch.arange(1, xs.shape[1] + 1, dtype=xs.dtype, device=xs.device)[:, None]
    x, y = xs.cumsum(1) / count, ys.cumsum(1) / count
    weights = xs.new_zeros(*ys.shape, xs.shape[2])
    if xs.shape[1] > 1:
        scale = (1 - 1 / count[1:]).sqrt()
        weights[:, 1:] = fit(scale * (xs[:, 1:] - x[:, :-1]), scale * (ys[:, 1:] - y[:, :-1]))
    return torch.cat([weights, (y - (weights @ x[..., None])[..., 0])[..., None]], dim=-1)


def penalised(
    xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"], penalty: float = 0.0
) -> Float[Tensor, "batch out dim"]:
    """Minimise the penalised sum of squares over all examples, by a singular value decomposition."""
    left, sizes, right = torch.linalg.svd(xs, full_matrices=False)
    nonzero = sizes > torch.finfo(xs.dtype).eps * max(xs.shape[-2:]) * sizes[:, :1]
    # s / (s^2 + penalty), written so that no square leaves the range of float64.
    gains = torch.where(nonzero, 1 / (sizes + penalty / sizes), 0.0)
    return (ys.mT @ left * gains[:, None]) @ right


def ridge_path(
    xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"], penalty: float, forgetting: float = 1.0
) -> Float[Tensor, "batch point out dim"]:
    """Minimise the penalised sum of squares over every prefix."""
    path = xs.new_empty(*ys.shape, xs.shape[2])
    root = torch.eye(xs.shape[2], dtype=xs.dtype, device=xs.device) / math.sqrt(penalty)
    for x, y, part in zip(*(t.split(CHUNK) for t in (xs, ys, path)), strict=True):
        refine(part, torch.zeros_like(part[:, 0]), root.expand(len(x), -1, -1), x, y, forgetting)
    return path


def least_squares_path(
    xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
) -> Float[Tensor, "batch point out dim"]:
    """Minimise the sum of squares over every prefix, by weights of least norm."""
    lead = xs[:, : xs.shape[2]]
    factor = torch.linalg.qr(lead.mT, mode="r").R.mT
    size = lead.square().sum(-1).cumsum(-1).sqrt()
    clear = (factor.diagonal(dim1=1, dim2=2).abs() > CLEAR * size).all(1)
    if clear.all():
        return clear_path(xs, ys, factor)
    path = xs.new_empty(*ys.shape, xs.shape[2])
    if clear.any():
        path[clear] = clear_path(xs[clear], ys[clear], factor[clear])
    path[~clear] = one_by_one(xs[~clear], ys[~clear])
    return path


def clear_path(
    xs: Float[Tensor, "batch point dim"],
    ys: Float[Tensor, "batch point out"],
    factor: Float[Tensor, "batch lead lead"],
) -> Float[Tensor, "batch point out dim"]:
    """Least squares where the leading examples leave each other's span, given the factor L of their X = L Q."""
    lead, dim = factor.shape[2], xs.shape[2]
    path = xs.new_empty(*ys.shape, dim)
    for x, y, lower, part in zip(*(t.split(CHUNK) for t in (xs, ys, factor, path)), strict=True):
        solved = torch.linalg.solve_triangular(lower, torch.cat([x[:, :lead], y[:, :lead]], dim=2), upper=False)
        tilt = tilt_of(solved[..., :dim])
        solved, lower = torch.baddbmm(solved, tilt, solved, alpha=-1), torch.baddbmm(lower, lower, tilt)
        basis, innovations = solved[..., :dim], solved[..., dim:]
        torch.cumsum(innovations[..., None] * basis[:, :, None], 1, out=part[:, :lead])
        if lead < x.shape[1]:
            root = torch.linalg.solve_triangular(lower.mT, basis, upper=True).mT
            refine(part[:, lead:], part[:, lead - 1], root, x[:, lead:], y[:, lead:])
    return path


def tilt_of(basis: Float[Tensor, "batch lead dim"]) -> Float[Tensor, "batch lead lead"]:
    """The lower triangular T for which the rows of (1 - T) Q are orthonormal, where those of Q nearly are."""
    gram = basis @ basis.mT
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal.sub_(1).div_(2)
    return gram.tril_()


def refine(
    path: Float[Tensor, "batch point out dim"],
    weights: Float[Tensor, "batch out dim"],
    root: Float[Tensor, "batch dim dim"],
    xs: Float[Tensor, "batch point dim"],
    ys: Float[Tensor, "batch point out"],
    forgetting: float = 1.0,
) -> None:
    """Write the weights after every further example into ``path``, by blocks of examples.

    To forget the past is to count what follows for more, and to say so of the root after each block.
    """
    growth = forgetting ** (-torch.arange(1, BLOCK + 1, dtype=xs.dtype, device=xs.device)[:, None] / 2)
    while xs.shape[1]:
        x, y = xs[:, :BLOCK], ys[:, :BLOCK]
        if forgetting != 1:
            x, y = (t * growth[: t.shape[1]] for t in (x, y))
        image = x @ root
        harmless = image.square().sum(-1).amax(0) <= HARMLESS
        count = max(1, int(harmless.cumprod(0).sum()))
        part, path, xs, ys = path[:, :count], path[:, count:], xs[:, count:], ys[:, count:]
        root = refine_block(part, weights, root, x[:, :count], y[:, :count], image[:, :count], more=xs.shape[1] > 0)
        root = root if forgetting == 1 else growth[count - 1] * root
        weights = part[:, -1]


def refine_block(
    path: Float[Tensor, "batch point out dim"],
    weights: Float[Tensor, "batch out dim"],
    root: Float[Tensor, "batch dim dim"],
    xs: Float[Tensor, "batch point dim"],
    ys: Float[Tensor, "batch point out"],
    image: Float[Tensor, "batch point dim"],
    more: bool,
) -> Float[Tensor, "batch dim dim"]:
    """Write the weights after every example of a block into ``path``; return the root after all of them."""
    dim = xs.shape[2]
    eye = torch.eye(xs.shape[1], dtype=xs.dtype, device=xs.device)
    lower = torch.linalg.cholesky_ex(torch.baddbmm(eye, image, image.mT)).L
    both = torch.cat([image @ root.mT, ys - xs @ weights.mT], dim=2)
    solved = torch.linalg.solve_triangular(lower, both, upper=False)
    moved, innovations = solved[..., :dim], solved[..., dim:]
    steps = innovations[..., None] * moved[:, :, None]
    steps[:, 0] += weights
    torch.cumsum(steps, 1, out=path)
    if not more:
        return root
    return torch.baddbmm(root, moved.mT, torch.linalg.solve_triangular(lower + eye, image, upper=False), alpha=-1)


def one_by_one(
    xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
) -> Float[Tensor, "batch point out dim"]:
    """Least squares at every prefix whatever the examples are, by one update per example."""
    return torch.cat([span_chunk(x, y) for x, y in zip(xs.split(CHUNK), ys.split(CHUNK), strict=True)])


def span_chunk(xs: Tensor, ys: Tensor) -> Tensor:
    # Prompts are the last axis: small batched products are several times slower than these sums.
    (batch, points, dim), out = xs.shape, ys.shape[2]
    root = xs.new_zeros(dim, dim, batch)
    weights = xs.new_zeros(out, dim, batch)
    span = Span(dim, batch, points, like=xs)
    path = xs.new_empty(points, out, dim, batch)
    xs, ys = xs.permute(1, 2, 0).contiguous(), ys.permute(1, 2, 0).contiguous()
    for j, (x, y) in enumerate(zip(xs, ys, strict=True)):
        missed = y - (weights * x).sum(1)
        image = (root * x[:, None]).sum(0)
        outside = None if span.full else span.take(x)
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
    """The component of an example outside the span; zeros if it is inside."""

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
