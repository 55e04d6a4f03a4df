"""Gradient descent on the whole context, one example at a time, and Newton's iteration for the inverse."""

import abc
import collections
import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, StepSizeWarning, require_count, require_not_negative
from insitu.learners.learner import LinearLearner, Numbers, as_nested, as_tensor
from insitu.learners.moments import MomentLearner, Moments, prefix_moments

__all__ = ["GradientDescent", "Kaczmarz", "Newton", "OnlineDescent"]


@final
@dataclass(frozen=True, repr=False)
class GradientDescent(MomentLearner):
    r"""Steps of gradient descent on the mean squared error of the context.

    .. math:: w \leftarrow w + \frac{\eta}{n} \sum_{i=1}^n (y_i - w x_i) x_i^\top A

    Args:
        steps: The number of steps.
        rate: The rate :math:`\eta`, one number or one per step.
        preconditioner: The matrix :math:`A` as its rows or, if it is diagonal, as its diagonal; the identity
            where none is given.
        start: The weights before the first step, one row per output (a single row for one output); zero where
            none is given.

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

    def __post_init__(self) -> None:
        require_count("GradientDescent", "steps", self.steps)
        if isinstance(self.rate, list | tuple | Tensor):
            rates = as_nested("GradientDescent", "rate", self.rate)
            object.__setattr__(self, "rate", rates)
            if len(rates) != self.steps:
                raise InputError(
                    f"GradientDescent: {self.steps} steps need {self.steps} rates or a single one; got {len(rates)}."
                )
            for rate in rates:
                require_not_negative("GradientDescent", "rate", rate)
        else:
            require_not_negative("GradientDescent", "rate", self.rate)
        for name in ("preconditioner", "start"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_nested("GradientDescent", name, getattr(self, name)))

    @property
    def rates(self) -> Iterable[float]:
        """The rate of every step."""
        return self.rate if isinstance(self.rate, Sequence) else itertools.repeat(float(self.rate), self.steps)

    def from_moments(self, moments: Moments) -> Tensor:
        (last,) = collections.deque(self.iterates(moments), maxlen=1)
        return last

    def iterates(self, moments: Moments) -> Iterator[Float[Tensor, "*context out dim"]]:
        """The weights before the first step and after each."""
        dim = moments.gram.shape[-1]
        out = moments.cross.shape[-2]
        gram, cross = moments.gram / moments.count, moments.cross / moments.count
        if self.preconditioner is not None:
            shapes = [(dim,), (dim, dim)]
            given = as_tensor("GradientDescent", "preconditioner", self.preconditioner, shapes, gram)
            matrix = torch.diag(given) if given.ndim == 1 else given
            gram, cross = gram @ matrix, cross @ matrix
        if gram.ndim == 3:  # A short prefix has a limit of its own that says little: only whole contexts warn.
            self._warn_beyond_limit(gram)
        weights = torch.zeros_like(cross)
        if self.start is not None:
            shapes = [(out, dim), (dim,)] if out == 1 else [(out, dim)]
            weights = weights + as_tensor("GradientDescent", "start", self.start, shapes, gram)
        yield weights
        for rate in self.rates:
            weights = weights + rate * (cross - weights @ gram)
            yield weights

    def _warn_beyond_limit(self, gram: Tensor) -> None:
        if self.preconditioner is None:
            largest = torch.linalg.eigvalsh(gram)[:, -1].max().item()
        else:
            largest = torch.linalg.eigvals(gram).real.max().item()
        fastest = max(self.rate, default=0.0) if isinstance(self.rate, Sequence) else float(self.rate)
        if fastest * largest > 2:
            told = (
                f"{self!r}: the rate lies beyond the step-size limit 2 / lambda_max = {2 / largest:.4g} of these "
                "prompts, so repeated steps diverge. A smaller rate converges."
            )
            warnings.warn(StepSizeWarning(told, 2 / largest), stacklevel=2)


@final
@dataclass(frozen=True, repr=False)
class Newton(LinearLearner):
    r"""Newton's iteration for the inverse of the Gram matrix :math:`G = X^\top X`, then one product.

    .. math:: M_0 = G / \|G\|_F^2, \quad M_{t+1} = 2 M_t - M_t G M_t, \quad w = Y^\top X M_T

    It converges to the pseudoinverse, so to least squares of minimum norm: the error of the eigenvalue
    :math:`\lambda` is :math:`(1 - \lambda^2 / \|G\|_F^2)^{2^T}`. It is computed by this formula: as
    matrix products every step would double the rounding errors outside the span of the examples. The whole
    context goes by the singular values of X, prefixes by the eigenvalues of their Gram matrices, which for a
    condition number of X beyond 1e7 are less exact.

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

    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        left, sizes, right = torch.linalg.svd(xs, full_matrices=False)
        kept = sizes > torch.finfo(sizes.dtype).eps * max(xs.shape[-2:]) * sizes[:, :1]
        gains = torch.where(kept, self._reached(sizes.where(kept, 0.0).square()) / sizes, 0.0)
        return (ys.mT @ left * gains[:, None]) @ right

    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        return torch.cat([self._from_moments(moments) for moments in prefix_moments(xs, ys)], dim=1)

    def _from_moments(self, moments: Moments) -> Float[Tensor, "*context out dim"]:
        sizes, axes = torch.linalg.eigh(moments.gram)
        kept = sizes > torch.finfo(sizes.dtype).eps * sizes.shape[-1] * sizes[..., -1:]
        inverses = torch.where(kept, self._reached(sizes.where(kept, 0.0)) / sizes, 0.0)
        return (moments.cross @ axes * inverses[..., None, :]) @ axes.mT

    def _reached(self, eigenvalues: Float[Tensor, "*context size"]) -> Float[Tensor, "*context size"]:
        """The share of the inverse that the iteration has reached along each eigenvector."""
        largest = eigenvalues.amax(-1, keepdim=True)
        part = (eigenvalues / torch.where(largest > 0, largest, 1.0)).square()
        share = part / part.sum(-1, keepdim=True).clamp(min=1.0)
        return -torch.expm1(2.0 ** min(self.steps, 1000) * torch.log1p(-share))


class OnlineLearner(LinearLearner):
    r"""Passes of :math:`w \leftarrow w + \eta_j (y_j - w x_j) x_j^\top` through the examples in their order."""

    passes: int

    @abc.abstractmethod
    def rates(self, xs: Float[Tensor, "batch point dim"]) -> Float[Tensor, "batch point 1"]:
        """The rate of every example."""

    @final
    def weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        weights = xs.new_zeros(xs.shape[0], ys.shape[2], xs.shape[2])
        steps = self._steps(xs, ys)
        for _ in range(self.passes):
            for x, y, scaled in steps:
                missed = y - (weights * x[:, None]).sum(-1)
                weights = torch.addcmul(weights, missed[..., None], scaled[:, None])
        return weights

    @final
    def prefix_weights(self, xs: Tensor, ys: Tensor) -> Tensor:
        batch, points, dim = xs.shape
        path = xs.new_zeros(points, batch, ys.shape[2], dim)
        steps = self._steps(xs, ys)
        if self.passes:
            last = path[0]
            for j, (x, y, scaled) in enumerate(steps):
                missed = y - (last * x[:, None]).sum(-1)
                last = torch.addcmul(last, missed[..., None], scaled[:, None], out=path[j])
        for _ in range(1, self.passes):
            for j, (x, y, scaled) in enumerate(steps):
                # Example j + 1 belongs to every prefix of at least j + 1 examples.
                longer = path[j:]
                missed = y - (longer * x[:, None]).sum(-1)
                longer.addcmul_(missed[..., None], scaled[:, None])
        return path.transpose(0, 1)

    def _steps(self, xs: Tensor, ys: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        scaled = self.rates(xs) * xs
        # Examples first, so that a step reads consecutive memory.
        return list(zip(*(t.transpose(0, 1).contiguous() for t in (xs, ys, scaled)), strict=True))


@final
@dataclass(frozen=True, repr=False)
class OnlineDescent(OnlineLearner):
    r"""Online gradient descent (the LMS rule), one example after the other in prompt order.

    .. math:: w_j = w_{j-1} + \eta j^{-\nu} (y_j - w_{j-1} x_j) x_j^\top, \quad w_0 = 0

    Args:
        rate: The rate :math:`\eta`.
        decay: The exponent :math:`\nu`; 0 is a fixed rate.
        passes: How often the examples are read; :math:`j` counts from 1 in every pass.

    Raises:
        InputError: If the rate or the decay is negative.

    Warns:
        StepSizeWarning: If the rate of some example exceeds :math:`2 / \|x_j\|^2`, beyond which its step
            overshoots by more than it corrects.

    References:
        Widrow and Hoff (1960); Ding et al. (2024), proposition 5.

    Example:
        >>> OnlineDescent(rate=0.1)
        OnlineDescent(rate=0.1, decay=0.0, passes=1)
    """

    rate: float
    decay: float = 0.0
    passes: int = 1

    def __post_init__(self) -> None:
        require_not_negative("OnlineDescent", "rate", self.rate)
        require_not_negative("OnlineDescent", "decay", self.decay)
        require_count("OnlineDescent", "passes", self.passes)

    @property
    def ordered(self) -> str:
        return "it reads the examples one after the other"

    def rates(self, xs: Tensor) -> Tensor:
        place = torch.arange(1, xs.shape[1] + 1, dtype=xs.dtype, device=xs.device)
        rates = self.rate * place**-self.decay
        size = xs.square().sum(-1)
        if (rates * size > 2).any():
            limit = 2 / (size * place**-self.decay).max().item()
            told = (
                f"{self!r}: the rate lies beyond the step-size limit 2 / |x|^2 = {limit:.4g} of some examples, "
                "whose steps overshoot. A smaller rate, or Kaczmarz(), does not."
            )
            warnings.warn(StepSizeWarning(told, limit), stacklevel=2)
        return rates[:, None].expand(xs.shape[0], -1, 1)


@final
@dataclass(frozen=True, repr=False)
class Kaczmarz(OnlineLearner):
    r"""Online gradient descent with the normalised rate :math:`1/\|x_j\|^2`: project onto each example in turn.

    .. math:: w_j = w_{j-1} + \frac{(y_j - w_{j-1} x_j) x_j^\top}{\|x_j\|^2}, \quad w_0 = 0

    An example with :math:`x_j = 0` is passed over.

    Args:
        passes: How often the examples are read.

    References:
        Kaczmarz (1937); the fixed point of causal linear attention, Ding et al. (2024), proposition 5.

    Example:
        >>> Kaczmarz()
        Kaczmarz(passes=1)
    """

    passes: int = 1

    def __post_init__(self) -> None:
        require_count("Kaczmarz", "passes", self.passes)

    @property
    def ordered(self) -> str:
        return "it reads the examples one after the other"

    def rates(self, xs: Tensor) -> Tensor:
        size = xs.square().sum(-1, keepdim=True)
        return torch.where(size > 0, 1 / torch.where(size > 0, size, 1.0), 0.0)
