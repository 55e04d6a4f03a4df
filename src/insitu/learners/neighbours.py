"""Learners that average the labels of examples, by their distance from the query or their product with it."""

import abc
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count, require_not_negative
from insitu.learners.learner import Learner
from insitu.prompt import Prompt

__all__ = ["KernelSmoother", "NearestNeighbours", "SoftmaxSmoother"]


def squared_distances(prompt: Prompt) -> Float[Tensor, "batch query point"]:
    """Squared Euclidean distances, summed coordinate by coordinate so that equal points are at exactly 0."""
    gaps = prompt.queries[:, :, None, :] - prompt.xs[:, None, :, :]
    return gaps.square().sum(-1)


@final
@dataclass(frozen=True, repr=False)
class NearestNeighbours(Learner):
    r"""The mean label of the ``k`` nearest examples; of all of them while there are fewer.

    Examples at equal distance rank in prompt order.

    Args:
        k: The number of neighbours.

    References:
        Fix and Hodges (1951); a baseline of Garg et al. (2022).

    Example:
        >>> NearestNeighbours(k=3)
        NearestNeighbours(k=3)
    """

    k: int

    def __post_init__(self) -> None:
        require_count("NearestNeighbours", "k", self.k, least=1)

    def predict(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        order = squared_distances(exact).argsort(dim=-1, stable=True)[..., : self.k]
        labels = exact.ys[:, None].expand(-1, order.shape[1], -1, -1)
        return labels.take_along_dim(order[..., None], dim=2).mean(2).to(prompt.ys)

    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        distances = squared_distances(exact)
        near = distances.new_full((*distances.shape[:2], 0), 0.0)
        labels = near.new_zeros(*near.shape, prompt.out)
        answers = []
        for j in range(prompt.points):
            near = torch.cat([near, distances[..., j : j + 1]], -1)
            newest = exact.ys[:, None, j : j + 1].expand(-1, near.shape[1], -1, -1)
            near, order = near.sort(dim=-1, stable=True)
            labels = torch.cat([labels, newest], 2).take_along_dim(order[..., None], dim=2)
            near, labels = near[..., : self.k], labels[:, :, : self.k]
            answers.append(labels.mean(2))
        return torch.stack(answers, dim=1).to(prompt.ys)


class Smoother(Learner):
    """An average of the labels under softmax weights."""

    @abc.abstractmethod
    def logits(self, prompt: Prompt) -> Float[Tensor, "batch query point"]:
        """The logarithm of every example's weight, up to a constant."""

    @final
    def predict(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        return (self.logits(exact).softmax(-1) @ exact.ys).to(prompt.ys)

    @final
    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        logits = self.logits(exact)
        top = logits.new_full((*logits.shape[:2], 1), -torch.inf)
        above, below = torch.zeros_like(top), torch.zeros_like(top)
        answers = []
        for j in range(prompt.points):
            logit = logits[..., j : j + 1]
            higher = torch.maximum(top, logit)
            fade, weight = (top - higher).exp(), (logit - higher).exp()
            above = above * fade + weight * exact.ys[:, None, j]
            below, top = below * fade + weight, higher
            answers.append(above / below)
        return torch.stack(answers, dim=1).to(prompt.ys)


@final
@dataclass(frozen=True, repr=False)
class KernelSmoother(Smoother):
    r"""The Nadaraya-Watson average with a Gaussian kernel.

    .. math:: \hat y = \frac{\sum_i y_i e^{-\|x_i - x_q\|^2 / 2h^2}}{\sum_i e^{-\|x_i - x_q\|^2 / 2h^2}}

    It is softmax attention with logits :math:`-\|x_i - x_q\|^2 / 2h^2`, and computed as such: a query far from
    every example answers the nearest, not 0/0.

    Args:
        bandwidth: The width :math:`h > 0`.

    References:
        Nadaraya (1964); Watson (1964).

    Example:
        >>> KernelSmoother(bandwidth=0.5)
        KernelSmoother(bandwidth=0.5)
    """

    bandwidth: float

    def __post_init__(self) -> None:
        require_not_negative("KernelSmoother", "bandwidth", self.bandwidth, zero=False)

    def logits(self, prompt: Prompt) -> Tensor:
        return -squared_distances(prompt) / (2 * self.bandwidth**2)


@final
@dataclass(frozen=True, repr=False)
class SoftmaxSmoother(Smoother):
    r"""Softmax attention whose keys are the inputs and whose values are the labels.

    .. math:: \hat y = \frac{\sum_i y_i e^{s \, x_i \cdot x_q}}{\sum_i e^{s \, x_i \cdot x_q}}

    Where all inputs are of one length it is :class:`KernelSmoother` with :math:`h^2 = 1/s`.

    Args:
        scale: The factor :math:`s \ge 0`; attention of width d has :math:`1/\sqrt d`, and 0 is the mean.

    Raises:
        InputError: If the scale is negative.

    References:
        Vaswani et al. (2017); as a smoother, Tsai et al. (2019), Transformer dissection.

    Example:
        >>> SoftmaxSmoother(scale=0.5)
        SoftmaxSmoother(scale=0.5)
    """

    scale: float

    def __post_init__(self) -> None:
        require_not_negative("SoftmaxSmoother", "scale", self.scale)

    def logits(self, prompt: Prompt) -> Tensor:
        return self.scale * prompt.queries @ prompt.xs.mT
