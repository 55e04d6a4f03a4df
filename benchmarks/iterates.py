"""Every iterate of gradient descent and of Newton's iteration, at every prefix."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.prefixes import examples
from benchmarks.timing import Row, compare
from insitu.learners import GradientDescent, Newton

RATE, DESCENT, NEWTON = 0.05, 24, 12
BATCHES = (4, 16, 64)


def descent_loop(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way: a loop over prompts, prefixes and steps."""
    path = xs.new_zeros(*xs.shape[:2], DESCENT + 1, xs.shape[2])
    for b, k in torch.cartesian_prod(torch.arange(len(xs)), torch.arange(xs.shape[1])).tolist():
        x, y = xs[b, : k + 1], ys[b, : k + 1, 0]
        for t in range(DESCENT):
            weights = path[b, k, t]
            path[b, k, t + 1] = weights - RATE / (k + 1) * (x.T @ (x @ weights - y))
    return path[:, :, :, None]


def newton_loop(xs: Tensor, ys: Tensor) -> Tensor:
    """The common way, by two products of matrices a step."""
    path = xs.new_zeros(*xs.shape[:2], NEWTON + 1, xs.shape[2])
    for b, k in torch.cartesian_prod(torch.arange(len(xs)), torch.arange(xs.shape[1])).tolist():
        x, y = xs[b, : k + 1], ys[b, : k + 1, 0]
        gram, cross = x.T @ x, x.T @ y
        inverse = gram / gram.square().sum()
        for t in range(NEWTON + 1):
            path[b, k, t] = inverse @ cross
            inverse = 2 * inverse - inverse @ gram @ inverse
    return path[:, :, :, None]


def rows(rounds: int, batches: Sequence[int] = BATCHES, points: int = 41, dim: int = 20) -> Iterator[Row]:
    """One row for every algorithm and number of prompts."""
    for batch in batches:
        xs, ys = examples(batch, points, dim)
        descent = partial(GradientDescent(DESCENT, RATE).prefix_iterates, xs, ys), partial(descent_loop, xs, ys)
        yield compare("iterates", f"gradient descent, {DESCENT} steps", batch, descent, rounds, tolerance=1e-9)
        newton = partial(Newton(NEWTON).prefix_iterates, xs, ys), partial(newton_loop, xs, ys)
        yield compare("iterates", f"Newton, {NEWTON} steps", batch, newton, rounds, tolerance=1e-9)
