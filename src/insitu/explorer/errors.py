r"""The error of deep linear attention on a query, exactly given the inputs of the prompts.

After l layers the weights are linear in the labels, :math:`w = y^\top R_l` with :math:`R_l` of shape ``(point, dim)``
from the inputs alone. For labels :math:`y = X w^* + \sigma\epsilon` with :math:`w^* \sim N(0, I)` and queries of
covariance :math:`\Lambda` the error is

.. math:: \mathrm{tr}\big[(X^\top R - I) \Lambda (X^\top R - I)^\top\big] + \sigma^2 \mathrm{tr}[R \Lambda R^\top],

an expectation over weights, noise and queries in which nothing is sampled. It is the error of the weights that are
learned from the labels :math:`[X, \sigma I]`, whose targets are :math:`[I, 0]`.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from insitu import theory
from insitu.explorer.setting import episode, spread
from insitu.explorer.state import State
from insitu.metrics import Estimate
from insitu.prompt import Episode

__all__ = [
    "answer_power",
    "depth_responses",
    "error_estimate",
    "labels",
    "last_response",
    "learned",
    "relative_errors",
    "step_response",
]

Responses = Float[Tensor, "batch point dim"]
Weights = Float[Tensor, "batch label dim"]


def depth_responses(
    xs: Float[Tensor, "batch point dim"], rate: float, layers: int, mask: theory.convergence.Variant
) -> Iterator[Responses]:
    r"""The matrices :math:`R_0, \dots, R_L`, by powers of :func:`insitu.theory.error_step`.

    The error of layer l is the first one times :math:`S^l`, so that :math:`R_l = \frac{\eta}{n} \sum_{k<l} X S^k`
    under the prefix mask and :math:`\frac{\eta}{n} \sum_{k<l} S^k X` under the causal one.
    """
    step, first = theory.error_step(xs, rate, mask), rate / xs.shape[1] * xs
    response = torch.zeros_like(xs)
    for _ in range(layers + 1):
        yield response
        response = torch.baddbmm(first, *((response, step) if mask == "prefix" else (step, response)))


def last_response(xs: Float[Tensor, "batch point dim"], state: State, mask: str) -> Responses:
    """The matrix R of the network under a mask."""
    (last,) = deque(depth_responses(xs, state.rate, state.depth, mask), maxlen=1)  # type: ignore[arg-type]
    return last


def step_response(xs: Float[Tensor, "batch point dim"], step: Float[Tensor, "dim dim"]) -> Responses:
    """The matrix R of one preconditioned step."""
    return xs @ step / xs.shape[1]


def labels(given: Episode, state: State) -> Float[Tensor, "batch point label"]:
    """Labels from which the error of what is learned follows: on a task that is not linear, those that are drawn."""
    xs = given.prompt.xs
    if state.task == "sigmoid":
        return given.prompt.ys
    noise = state.noise * torch.eye(xs.shape[1], dtype=xs.dtype).expand(len(xs), -1, -1)
    return torch.cat([xs, noise], dim=2) if state.noise else xs


def learned(response: Responses, given: Episode, state: State) -> Weights:
    """The weights that a matrix R, of all or the first examples, makes of their labels."""
    first = slice(response.shape[1])
    if state.task == "sigmoid":
        return given.prompt.ys[:, first].mT @ response
    weights = given.prompt.xs[:, first].mT @ response
    return torch.cat([weights, state.noise * response], dim=1) if state.noise else weights


def relative_errors(learned: Iterable[Weights], given: Episode, state: State, groups: int = 1) -> list[float]:
    """The errors of weights learned from :func:`labels` relative to that of answering zero.

    The expectation over weights, noise and queries of a linear task; on a task that is not linear the error on the
    labels and queries that are drawn.

    Args:
        learned: Weights, such as those after every layer.
        given: The prompts.
        state: The state.
        groups: How many equal groups the prompts form, over each of which errors are averaged.

    Returns:
        The errors of the first weights on every group, then those of the next.
    """
    zero = torch.zeros_like(labels(given, state)[:, :1].mT @ given.prompt.xs[:, :1])
    errors = torch.stack([squared_errors(weights, given, state) for weights in (zero, *learned)])
    means = errors.unflatten(1, (groups, -1)).mean(-1)
    return (means[1:] / means[0]).flatten().tolist()


def squared_errors(weights: Weights, given: Episode, state: State) -> Float[Tensor, " batch"]:
    """The error on every prompt."""
    if state.task == "sigmoid":
        return (given.prompt.queries @ weights.mT - given.answers).square().mean((1, 2))
    # A shift multiplies the covariance of the queries, and so all errors by the same.
    return (weights - torch.eye(*weights.shape[1:], dtype=weights.dtype)).square().sum(1) @ spread(state)


def answer_power(state: State) -> float:
    """The error of answering zero: the mean square of what is to be answered."""
    if state.task == "sigmoid":
        return episode(state).answers.square().mean().item()
    return (spread(state) * state.shift**2).sum().item()


def error_estimate(answers: Float[Tensor, "batch query out"], state: State) -> Estimate:
    """The measured error relative to that of answering zero, with its standard error over prompts."""
    missed = (answers - episode(state).answers).square().mean((1, 2))
    return Estimate.mean(missed / answer_power(state))
