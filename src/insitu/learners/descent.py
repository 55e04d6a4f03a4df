"""Gradient descent on the whole context, plain and with momentum."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from insitu.errors import StepSizeWarning, require_count, require_flag, require_not_negative
from insitu.learners.learner import Numbers, as_nested, as_tensor, of_every_step, per_step
from insitu.learners.moments import IterativeLearner, Moments

__all__ = ["GradientDescent", "Momentum", "Nesterov"]


@final
@dataclass(frozen=True, repr=False)
class GradientDescent(IterativeLearner):
    r"""Steps of gradient descent on the mean squared error of the context.

    .. math:: w \leftarrow w + \frac{\eta}{n} \sum_{i=1}^n (y_i - w x_i) x_i^\top A

    Args:
        steps: The number of steps.
        rate: The rate :math:`\eta`, one number or one per step.
        preconditioner: The matrix :math:`A` as its rows or, if it is diagonal, as its diagonal; the identity
            where none is given.
        start: The weights before the first step, one row per output (a single row for one output); zero where
            none is given.
        intercept: Whether the inputs get a last coordinate that is always 1; it counts as one of the d.

    Raises:
        InputError: If a rate is negative, the rates do not match the steps, or, at the first prompt, the
            preconditioner or start has another dimension than the prompt.

    Warns:
        StepSizeWarning: If a rate exceeds :math:`2 / \lambda_{\max}(A X^\top X / n)` for some prompt; beyond it
            repeated steps diverge.

    References:
        Ding et al. (2024), equation 3, whose scaling by 1/n this follows.

    Example:
        >>> GradientDescent(steps=5, rate=0.5)
        GradientDescent(steps=5, rate=0.5)
        >>> GradientDescent(steps=2, rate=(0.5, 0.25), preconditioner=torch.tensor([1.0, 2.0]))
        GradientDescent(steps=2, rate=(0.5, 0.25), preconditioner=(1.0, 2.0))
    """

    steps: int
    rate: float | Numbers
    preconditioner: Numbers | None = None
    start: Numbers | None = None
    intercept: bool = False

    def __post_init__(self) -> None:
        require_count("GradientDescent", "steps", self.steps)
        require_flag("GradientDescent", "intercept", self.intercept)
        object.__setattr__(self, "rate", per_step("GradientDescent", "rate", self.rate, self.steps))
        for name in ("preconditioner", "start"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_nested("GradientDescent", name, getattr(self, name)))

    def iterates(self, moments: Moments) -> Iterator[Tensor]:
        gram, cross = self._preconditioned(moments)
        if gram.ndim == 3:  # Short prefixes have lower limits of little interest: only whole contexts warn.
            self._warn_beyond_limit(gram)
        weights, shape = self._start(cross), cross.shape
        yield weights
        weights, cross, gram = (t.reshape(-1, *t.shape[-2:]) for t in (weights, cross, gram))
        for rate in of_every_step(self.rate, self.steps):
            weights = torch.baddbmm(torch.add(weights, cross, alpha=rate), weights, gram, alpha=-rate)
            yield weights.view(shape)

    def _preconditioned(self, moments: Moments) -> tuple[Tensor, Tensor]:
        gram, cross = moments.gram / moments.count, moments.cross / moments.count
        if self.preconditioner is None:
            return gram, cross
        dim = gram.shape[-1]
        entries = as_tensor("GradientDescent", "preconditioner", self.preconditioner, [(dim,), (dim, dim)], gram)
        matrix = torch.diag(entries) if entries.ndim == 1 else entries
        return gram @ matrix, cross @ matrix

    def _start(self, cross: Tensor) -> Tensor:
        if self.start is None:
            return torch.zeros_like(cross)
        out, dim = cross.shape[-2:]
        shapes = [(out, dim), (dim,)] if out == 1 else [(out, dim)]
        return torch.zeros_like(cross) + as_tensor("GradientDescent", "start", self.start, shapes, cross)

    def _warn_beyond_limit(self, gram: Tensor) -> None:
        if self.preconditioner is None:
            largest = torch.linalg.eigvalsh(gram)[:, -1].max().item()
        else:
            largest = torch.linalg.eigvals(gram).real.max().item()
        fastest = max(of_every_step(self.rate, max(1, self.steps)), default=0.0)
        if fastest * largest > 2:
            message = (
                f"{self!r}: the rate lies beyond the step-size limit 2 / lambda_max = {2 / largest:.4g} of these "
                "prompts, so repeated steps diverge. A smaller rate converges."
            )
            warnings.warn(StepSizeWarning(message, 2 / largest), stacklevel=2)


@dataclass(frozen=True, repr=False)
class WithMomentum(IterativeLearner):
    """Descent whose last move goes on, with its numbers and their checks."""

    steps: int
    rate: float
    momentum: float

    def __post_init__(self) -> None:
        name = type(self).__name__
        require_count(name, "steps", self.steps)
        require_not_negative(name, "rate", self.rate)
        require_not_negative(name, "momentum", self.momentum)


@final
@dataclass(frozen=True, repr=False)
class Momentum(WithMomentum):
    r"""Gradient descent with momentum, Polyak's heavy ball.

    .. math:: w_{t+1} = w_t + \frac{\eta}{n} \sum_{i=1}^n (y_i - w_t x_i) x_i^\top + \beta (w_t - w_{t-1}),
        \quad w_{-1} = w_0 = 0

    Args:
        steps: The number of steps.
        rate: The rate :math:`\eta`.
        momentum: The share :math:`\beta` of the last move that goes on.

    Raises:
        InputError: If the rate or the momentum is negative.

    References:
        Polyak (1964), Some methods of speeding up the convergence of iteration methods.

    Example:
        >>> Momentum(steps=5, rate=0.5, momentum=0.9)
        Momentum(steps=5, rate=0.5, momentum=0.9)
    """

    def iterates(self, moments: Moments) -> Iterator[Tensor]:
        gram, cross = moments.gram / moments.count, moments.cross / moments.count
        weights = move = torch.zeros_like(cross)
        yield weights
        for _ in range(self.steps):
            move = self.momentum * move + self.rate * (cross - weights @ gram)
            weights = weights + move
            yield weights


@final
@dataclass(frozen=True, repr=False)
class Nesterov(WithMomentum):
    r"""Gradient descent with Nesterov's momentum: the gradient is taken where the last move leads.

    .. math:: v_t = w_t + \beta (w_t - w_{t-1}), \quad
        w_{t+1} = v_t + \frac{\eta}{n} \sum_{i=1}^n (y_i - v_t x_i) x_i^\top, \quad w_{-1} = w_0 = 0

    Args:
        steps: The number of steps.
        rate: The rate :math:`\eta`.
        momentum: The share :math:`\beta` of the last move that goes on.

    Raises:
        InputError: If the rate or the momentum is negative.

    References:
        Nesterov (1983), with a fixed momentum; Sutskever et al. (2013).

    Example:
        >>> Nesterov(steps=5, rate=0.5, momentum=0.9)
        Nesterov(steps=5, rate=0.5, momentum=0.9)
    """

    def iterates(self, moments: Moments) -> Iterator[Tensor]:
        gram, cross = moments.gram / moments.count, moments.cross / moments.count
        weights = ahead = torch.zeros_like(cross)
        yield weights
        for _ in range(self.steps):
            last, weights = weights, ahead + self.rate * (cross - ahead @ gram)
            ahead = weights + self.momentum * (weights - last)
            yield weights
