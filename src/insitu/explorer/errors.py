r"""The error of deep linear attention on a query, exactly given the inputs of the prompts.

After l layers the weights are linear in the labels, :math:`w = y^\top R_l` with :math:`R_l` of shape ``(point, dim)``
from the inputs alone. For labels :math:`y = X w^* + \sigma\epsilon` with :math:`w^* \sim N(0, I)` and queries of
covariance :math:`\Lambda` the error is

.. math:: \mathrm{tr}\big[(X^\top R - I) \Lambda (X^\top R - I)^\top\big] + \sigma^2 \mathrm{tr}[R \Lambda R^\top],

an expectation over weights, noise and queries in which nothing is sampled.
"""

from collections import deque
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from insitu import theory
from insitu.explorer.setting import episode, spread
from insitu.explorer.state import State
from insitu.learners.learner import LinearLearner
from insitu.metrics import Estimate
from insitu.prompt import Episode

__all__ = [
    "answer_power",
    "depth_responses",
    "error_estimate",
    "last_response",
    "relative_errors",
    "response_of",
    "step_response",
]

Responses = Float[Tensor, "*many batch point dim"]


def depth_responses(
    xs: Float[Tensor, "batch point dim"], rate: float, layers: int, mask: theory.convergence.Variant
) -> Iterator[Responses]:
    r"""The matrices :math:`R_0, \dots, R_L`, by powers of :func:`insitu.theory.error_step`.

    The error of layer l is the first one times :math:`S^l`, so that :math:`R_l = \frac{\eta}{n} \sum_{k<l} X S^k`
    under the prefix mask and :math:`\frac{\eta}{n} \sum_{k<l} S^k X` under the causal one.
    """
    step = theory.error_step(xs, rate, mask)
    total = torch.zeros_like(xs)
    for _ in range(layers + 1):
        yield rate / xs.shape[1] * total
        total = torch.baddbmm(xs, total, step) if mask == "prefix" else torch.baddbmm(xs, step, total)


def last_response(xs: Float[Tensor, "batch point dim"], state: State, mask: str) -> Responses:
    """The matrix R of the network under a mask."""
    (last,) = deque(depth_responses(xs, state.rate, state.depth, mask), maxlen=1)  # type: ignore[arg-type]
    return last


def response_of(learner: LinearLearner, xs: Float[Tensor, "batch point dim"]) -> Responses:
    """The matrix R of a learner that is linear in the labels: its answers to unit labels."""
    unit = torch.eye(xs.shape[1], dtype=xs.dtype).expand(len(xs), -1, -1)
    return learner.weights(xs, unit)


def step_response(xs: Float[Tensor, "batch point dim"], step: Float[Tensor, "dim dim"]) -> Responses:
    """The matrix R of one preconditioned step."""
    return xs @ step / xs.shape[1]


def relative_errors(response: Responses, given: Episode, state: State, groups: int = 1) -> list[float]:
    """The errors of one or many matrices R relative to that of answering zero, averaged over the prompts of each group.

    The expectation over weights, noise and queries of a linear task; on a task that is not linear the error of the
    same weights on the drawn labels and queries.
    """
    means = (t.unflatten(-1, (groups, -1)).mean(-1) for t in squared_errors(response, given, state))
    return torch.div(*means).flatten().tolist()


def squared_errors(response: Responses, given: Episode, state: State) -> tuple[Tensor, Tensor]:
    """The error on every prompt, and that of answering zero."""
    prompt = given.prompt
    if state.task == "sigmoid":
        missed = prompt.queries @ (response.mT @ prompt.ys) - given.answers
        return missed.square().mean((-2, -1)), given.answers.square().mean((1, 2))
    # A shift multiplies the covariance of the queries, and so both by the same.
    query = spread(state)
    missing = prompt.xs.mT @ response - torch.eye(prompt.dim, dtype=torch.float64)
    squares = missing.square().sum(-2)
    if state.noise:
        squares += state.noise**2 * response.square().sum(-2)
    return squares @ query, query.sum().expand(prompt.batch)


def answer_power(state: State) -> float:
    """The error of answering zero: the mean square of what is to be answered."""
    if state.task == "sigmoid":
        return episode(state).answers.square().mean().item()
    return (spread(state) * state.shift**2).sum().item()


def error_estimate(answers: Float[Tensor, "batch query out"], state: State) -> Estimate:
    """The measured error relative to that of answering zero, with its standard error over prompts."""
    missed = (answers - episode(state).answers).square().mean((1, 2))
    return Estimate.mean(missed / answer_power(state))
