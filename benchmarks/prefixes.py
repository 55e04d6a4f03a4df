"""Weights at every prefix: least squares and ridge by blocks of examples, and by refitting each prefix."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor

from benchmarks.timing import Row, compare
from insitu import Seed
from insitu.learners import LeastSquares, Ridge
from insitu.tasks import Gaussian, LinearRegression

PENALTY = 0.25
SIZES = ((64, 41, 20), (256, 41, 20), (1280, 41, 20))
FEW = 32


def examples(batch: int, points: int, dim: int) -> tuple[Tensor, Tensor]:
    """Noisy linear functions of Gaussian inputs, in float64."""
    prompt = LinearRegression(Gaussian(dim), noise=0.5).sample(Seed(0) / "benchmark", batch, points).prompt
    return prompt.xs, prompt.ys


def refitted_least_squares(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way: one batched solve per prefix, by the driver that allows fewer examples than dimensions."""
    fits = [torch.linalg.lstsq(xs[:, :k], ys[:, :k], driver="gelsy").solution for k in range(1, xs.shape[1] + 1)]
    return torch.stack(fits, dim=1).mT


def refitted_ridge(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way: the normal equations of every prefix, built and solved anew."""
    penalty = PENALTY * torch.eye(xs.shape[2], dtype=xs.dtype)
    contexts = [(xs[:, :k], ys[:, :k]) for k in range(1, xs.shape[1] + 1)]
    return torch.stack([torch.linalg.solve(x.mT @ x + penalty, x.mT @ y) for x, y in contexts], dim=1).mT


def ridge_by_sequence(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way where scikit-learn is at hand: one estimator per prefix and sequence."""
    fits = torch.empty(*ys.shape, xs.shape[2], dtype=xs.dtype)
    for b, (x, y) in enumerate(zip(xs.numpy(), ys.numpy(), strict=True)):
        for k in range(1, len(x) + 1):
            model = SklearnRidge(alpha=PENALTY, fit_intercept=False).fit(x[:k], y[:k])
            fits[b, k - 1] = torch.from_numpy(model.coef_)
    return fits


def rows(rounds: int, sizes: Sequence[tuple[int, int, int]] = SIZES, few: int = FEW) -> Iterator[Row]:
    """Least squares and ridge beside loops over prefixes."""
    for batch, points, dim in sizes:
        xs, ys = examples(batch, points, dim)
        shape = f"{points} points, dimension {dim}"
        squares = partial(LeastSquares().prefix_weights, xs, ys), partial(refitted_least_squares, xs, ys)
        yield compare("prefixes", f"least squares, {shape}", batch, squares, rounds, tolerance=1e-6)
        ridge = partial(Ridge(PENALTY).prefix_weights, xs, ys), partial(refitted_ridge, xs, ys)
        yield compare("prefixes", f"ridge, {shape}", batch, ridge, rounds, tolerance=1e-9)
    xs, ys = examples(few, *sizes[0][1:])
    ridge = partial(Ridge(PENALTY).prefix_weights, xs, ys), partial(ridge_by_sequence, xs, ys)
    yield compare("prefixes", "ridge, by scikit-learn", few, ridge, rounds, tolerance=1e-9)
