"""Answers stored in another order than the prompts or their queries: a slip of the hand that looks like no learner.

Every answer is compared with what a few plain learners answer to every prompt. Answers that fit other prompts, or
other queries, far better than their own are out of order. Any set of answers fits some prompts by chance: how well,
the same answers with the opposite sign show, whose distribution is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import scipy
import torch
from jaxtyping import Int
from torch import Tensor

from insitu.identification.evidence import Answered
from insitu.identification.scoring import predicted
from insitu.learners import GradientDescent, Kaczmarz, KernelSmoother, LeastSquares, NearestNeighbours, Ridge
from insitu.predictor import Predictor
from insitu.prompt import Prompt

__all__ = ["Arrangement", "arranged", "out_of_order"]

# What another order must leave, of what is left in the given order and of what chance would leave.
LEFT = 0.4
# Rows beyond which an assignment takes seconds.
MOST_ROWS = 1500


@final
@dataclass(frozen=True, eq=False)
class Arrangement:
    """An order of rows or of queries for every context length in which the answers make sense."""

    what: Literal["rows", "queries"]
    orders: tuple[Int[Tensor, " place"], ...]


def references(prompt: Prompt) -> list[Predictor]:
    """Plain learners that answer somewhat like most others."""
    size = prompt.xs.square().mean().item()
    width = (2 * size * prompt.dim) ** 0.5 / 2
    return [
        LeastSquares(),
        Ridge(penalty=0.2 * size * prompt.points),
        GradientDescent(steps=1, rate=0.5 / size),
        Kaczmarz(),
        KernelSmoother(bandwidth=width),
        NearestNeighbours(k=1),
    ]


def out_of_order(answered: Sequence[Answered], learner: Predictor | None = None) -> Arrangement | None:
    """The order in which the answers make sense, if it is not their own.

    Args:
        answered: Prompts and answers.
        learner: The learner that they are compared with; a few plain ones where none is given.
    """
    if max(given.prompt.batch for given in answered) > MOST_ROWS:
        answered = [Answered(p.prompt, p.answers, p.names) for p in answered if p.prompt.batch <= MOST_ROWS]
    for index in range(1 if learner else len(references(answered[0].prompt)) if answered else 0):
        given = [(a, predicted(learner or references(a.prompt)[index], a.prompt.to(torch.float64))) for a in answered]
        for what in ("queries", "rows"):
            found = [moved(a.answers.double(), theirs, what) for a, theirs in given]
            own, other, chance = (sum(f[k] for f in found) for k in (1, 2, 3))
            if other < LEFT * min(own, chance):
                return Arrangement(what, tuple(f[0] for f in found))
    return None


def moved(own: Tensor, theirs: Tensor, what: str) -> tuple[Tensor, float, float, float]:
    """The best order of the answers, and what it, the given order and chance leave."""
    costs = []
    best = torch.arange(own.shape[0 if what == "rows" else 1])
    for sign in (1.0, -1.0):
        cost = differences(sign * own, theirs, what)
        if sign > 0:
            given = cost.diagonal().sum().item()
        rows, columns = scipy.optimize.linear_sum_assignment(cost.numpy())
        costs.append(cost[rows, columns].sum().item())
        if sign > 0:
            # Place c of the prompts is answered in row r.
            best = torch.empty_like(best).index_copy_(0, torch.from_numpy(columns), torch.from_numpy(rows))
    return best, given, costs[0], costs[1]


def differences(own: Tensor, theirs: Tensor, what: str) -> Tensor:
    """Bounded squared differences of every answer from every prompt's; of every query from every other."""
    mine, scaled = normalised(own), normalised(theirs.nan_to_num(0.0, 0.0, 0.0))
    if what == "queries":
        return (mine[:, :, None] - scaled[:, None]).square().sum(-1).clamp(max=4.0).sum(0)
    return torch.cdist(mine.flatten(1), scaled.flatten(1)).square()


def normalised(answers: Tensor) -> Tensor:
    """Answers relative to their usual size, or to their own where that is larger."""
    size = answers.square().mean((1, 2), keepdim=True)
    return answers / size.clamp(min=max(size.median().item(), 1e-300)).sqrt()


def arranged(answered: Sequence[Answered], order: Arrangement) -> list[Answered]:
    """The answers in the order of the prompts."""
    axis = 0 if order.what == "rows" else 1
    return [
        Answered(given.prompt, given.answers.index_select(axis, places), given.names)
        for given, places in zip(answered, order.orders, strict=True)
    ]
