"""Bayes-optimal learners, derived from the parameters of a task."""

import functools

import torch

from insitu.errors import InputError
from insitu.learners.bayes import FinitePool
from insitu.learners.learner import Learner
from insitu.learners.least_squares import LeastSquares, Ridge
from insitu.tasks import Autoregression, Gaussian, LinearRegression, Pool, Shifted, Task

__all__ = ["bayes_optimal"]


@functools.singledispatch
def bayes_optimal(task: Task) -> Learner:
    r"""The learner with the smallest expected squared error on a task, where one has a closed form.

    ===================================================  =============================================
    task                                                 learner
    ===================================================  =============================================
    linear, weights :math:`N(0, \tau^2 I)`, noise        ``Ridge`` with penalty :math:`\sigma^2/\tau^2`
    linear, weights :math:`N(0, \tau^2 I)`, no noise     ``LeastSquares``
    linear, weights :math:`N(0, \Sigma)`                 ``Ridge`` with penalty :math:`\sigma^2` and this covariance
    pool of linear functions, with noise                 ``FinitePool``
    autoregressive                                       ``LeastSquares`` (optimal once n reaches d)
    shifted inputs, queries or order                     as for the task that is shifted
    ===================================================  =============================================

    Raises:
        InputError: If no learner here is optimal for the task.

    Example:
        >>> bayes_optimal(LinearRegression(Gaussian(4), noise=0.5))
        Ridge(penalty=0.25)
    """
    raise InputError(f"no closed form is known here for the Bayes-optimal learner of {task!r}.")


@bayes_optimal.register
def linear(task: LinearRegression) -> Learner:
    weights = task.weights or Gaussian(task.dim)
    spread = weights.covariance()
    isotropic = torch.equal(spread, spread[0, 0] * torch.eye(task.dim, dtype=spread.dtype))
    if not isinstance(weights, Gaussian) or weights.mean().any() or not spread.any():
        raise InputError(f"the Bayes-optimal learner needs Gaussian weights around 0; got {weights!r}.")
    if not isotropic:
        return Ridge(penalty=task.noise**2, covariance=spread)
    return Ridge.bayes(task.noise, spread[0, 0].sqrt().item()) if task.noise else LeastSquares()


@bayes_optimal.register
def pool(task: Pool) -> Learner:
    if not isinstance(task.task, LinearRegression) or not task.task.noise:
        raise InputError(f"a pool has its posterior mean here if it is linear with label noise; got {task.task!r}.")
    return FinitePool(weights_of=task.members(), noise=task.task.noise)


@bayes_optimal.register
def sequence(task: Autoregression) -> Learner:
    return LeastSquares()


@bayes_optimal.register
def shifted(task: Shifted) -> Learner:
    if task.noise:
        raise InputError("a shift of the label noise has no optimal learner here; set the noise on the task itself.")
    return bayes_optimal(task.task)
