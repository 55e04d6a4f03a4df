"""Learners that do not look at the inputs."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from insitu.errors import InputError, require_not_negative
from insitu.learners.learner import Learner
from insitu.prompt import Prompt

__all__ = ["Mean", "RecentMean", "Zero"]


@final
@dataclass(frozen=True, repr=False)
class Zero(Learner):
    """Always answers zero.

    Example:
        >>> Zero()
        Zero()
    """

    def predict(self, prompt: Prompt) -> Tensor:
        return prompt.ys.new_zeros(prompt.batch, prompt.queries.shape[1], prompt.out)

    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        return prompt.ys.new_zeros(prompt.batch, prompt.points, prompt.queries.shape[1], prompt.out)


@final
@dataclass(frozen=True, repr=False)
class Mean(Learner):
    r"""Answers the mean label of the examples, :math:`\frac1n \sum_i y_i` (class frequencies for classes).

    Example:
        >>> Mean().predict(Prompt(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]]), torch.zeros(1, 1, 1)))
        tensor([[[2.]]])
    """

    def predict(self, prompt: Prompt) -> Tensor:
        mean = prompt.ys.double().mean(dim=1, keepdim=True)
        return mean.expand(-1, prompt.queries.shape[1], -1).to(prompt.ys)

    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        counts = torch.arange(1, prompt.points + 1, device=prompt.ys.device)
        mean = prompt.ys.double().cumsum(dim=1) / counts[:, None]
        return mean[:, :, None].expand(-1, -1, prompt.queries.shape[1], -1).to(prompt.ys)


@final
@dataclass(frozen=True, repr=False)
class RecentMean(Learner):
    r"""The mean label with weights that fall from the last example to the first.

    .. math:: \hat y = \frac{\sum_i \lambda^{n-i} y_i}{\sum_i \lambda^{n-i}}

    Args:
        forgetting: The factor :math:`0 \le \lambda \le 1` from one example to the one before it: 1 is :class:`Mean`, 0
            the last label.

    Raises:
        InputError: If the factor lies outside of [0, 1].

    References:
        Exponential smoothing, Brown (1959).

    Example:
        >>> prompt = Prompt(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [4.0]]]), torch.zeros(1, 1, 1))
        >>> RecentMean(forgetting=0.5).predict(prompt), RecentMean(forgetting=0.0).predict(prompt)
        (tensor([[[3.]]]), tensor([[[4.]]]))
    """

    forgetting: float

    def __post_init__(self) -> None:
        require_not_negative("RecentMean", "forgetting", self.forgetting)
        if self.forgetting > 1:
            raise InputError(f"RecentMean: forgetting must lie between 0 and 1; got {self.forgetting!r}.")

    @property
    def ordered(self) -> str:
        return "the last examples count for more"

    def predict(self, prompt: Prompt) -> Tensor:
        age = torch.arange(prompt.points - 1, -1, -1, dtype=torch.float64, device=prompt.ys.device)
        shares = self.forgetting**age
        mean = torch.einsum("n,bno->bo", shares / shares.sum(), prompt.ys.double())
        return mean[:, None].expand(-1, prompt.queries.shape[1], -1).to(prompt.ys)

    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        ys = prompt.ys.double()
        above, below, answers = torch.zeros_like(ys[:, 0]), 0.0, []
        for label in ys.unbind(1):
            above, below = self.forgetting * above + label, self.forgetting * below + 1
            answers.append(above / below)
        mean = torch.stack(answers, dim=1)
        return mean[:, :, None].expand(-1, -1, prompt.queries.shape[1], -1).to(prompt.ys)
