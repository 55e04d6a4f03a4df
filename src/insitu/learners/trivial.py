"""Learners that do not look at the inputs."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from insitu.learners.learner import Learner
from insitu.prompt import Prompt

__all__ = ["Mean", "Zero"]


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
