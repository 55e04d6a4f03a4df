"""Gradient descent on one example at a time."""

import abc
import warnings
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import StepSizeWarning, require_count, require_not_negative
from insitu.learners.learner import LinearLearner

__all__ = ["Kaczmarz", "OnlineDescent"]


class OnlineLearner(LinearLearner):
    r"""Passes of :math:`w \leftarrow w + \eta_j (y_j - w x_j) x_j^\top` through the examples in their order."""

    passes: int

    @property
    def ordered(self) -> str:
        return "it reads the examples one after the other"

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
        passes: The number of passes through the examples; :math:`j` counts from 1 in every pass.

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

    def rates(self, xs: Tensor) -> Tensor:
        place = torch.arange(1, xs.shape[1] + 1, dtype=xs.dtype, device=xs.device)
        rates = self.rate * place**-self.decay
        size = xs.square().sum(-1)
        if (rates * size > 2).any():
            limit = 2 / (size * place**-self.decay).max().item()
            message = (
                f"{self!r}: the rate lies beyond the step-size limit 2 / |x|^2 = {limit:.4g} of some examples, "
                "whose steps overshoot. A smaller rate, or Kaczmarz(), does not."
            )
            warnings.warn(StepSizeWarning(message, limit), stacklevel=2)
        return rates[:, None].expand(xs.shape[0], -1, 1)


@final
@dataclass(frozen=True, repr=False)
class Kaczmarz(OnlineLearner):
    r"""Online gradient descent with the normalised rate :math:`1/\|x_j\|^2`: project onto each example in turn.

    .. math:: w_j = w_{j-1} + \frac{(y_j - w_{j-1} x_j) x_j^\top}{\|x_j\|^2}, \quad w_0 = 0

    An example with :math:`x_j = 0` is passed over.

    Args:
        passes: The number of passes through the examples.

    References:
        Kaczmarz (1937); the fixed point of causal linear attention, Ding et al. (2024), proposition 5.

    Example:
        >>> Kaczmarz()
        Kaczmarz(passes=1)
    """

    passes: int = 1

    def __post_init__(self) -> None:
        require_count("Kaczmarz", "passes", self.passes)

    def rates(self, xs: Tensor) -> Tensor:
        size = xs.square().sum(-1, keepdim=True)
        return torch.where(size > 0, 1 / torch.where(size > 0, size, 1.0), 0.0)
