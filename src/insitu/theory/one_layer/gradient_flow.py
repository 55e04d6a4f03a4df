r"""Gradient flow of one linear-attention layer, and the discrete optimisers beside it.

In a basis in which every covariance of the training prompts is diagonal, the entries of the matrix U talk to each
other only through the scalar u:

.. math:: \dot U_{ij} = -G_{ij} u^2 U_{ij} + \delta_{ij} \xi_i u, \qquad
    \dot u = -u \sum_{ij} G_{ij} U_{ij}^2 + \sum_i \xi_i U_{ii}

This is gradient flow on :math:`\tfrac12 \sum_{ij} G_{ij} u^2 U_{ij}^2 - u \sum_i \xi_i U_{ii}`. With the clock
:math:`\tau = \int u^2 dt` the off-diagonal entries are :math:`U_{ij}(0) e^{-G_{ij} \tau}`, so only d + 2 numbers are
integrated: the diagonal, u and the clock.

References:
    Zhang, Frei and Bartlett (2024), lemma 5.2 and equation C.4. The decoupling is derived.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, shortened
from insitu.theory.arguments import validated

__all__ = ["Flow", "decoupled_flow", "descend", "integrated"]


@final
@dataclass(frozen=True, eq=False)
class Flow:
    """A gradient flow in time.

    Args:
        times: The times.
        matrices: :math:`U(t)`.
        scalars: :math:`u(t)`.
        losses: The population loss, 1/2 included.
        gaps: The loss minus the least loss, computed as a sum of squares and so without cancellation.
    """

    times: Float[Tensor, " time"]
    matrices: Float[Tensor, "time dim dim"]
    scalars: Float[Tensor, " time"]
    losses: Float[Tensor, " time"]
    gaps: Float[Tensor, " time"]


@validated
def decoupled_flow(
    rates: Float[Tensor, "dim dim"],
    pushes: Float[Tensor, " dim"],
    matrix: Float[Tensor, "dim dim"],
    scalar: Float[Tensor, ""],
    times: Float[Tensor, " time"],
    least: float,
    *,
    hold: bool = True,
) -> Flow:
    r"""The flow of the module's equations, from any U(0) and u(0).

    Args:
        rates: The rates :math:`G_{ij} > 0`.
        pushes: The pushes :math:`\xi_i`.
        matrix: :math:`U(0)`, in the basis of the rates.
        scalar: :math:`u(0)`; its sign is free.
        times: Ascending times from 0 on at which to report.
        least: The least loss, added to the gaps.
        hold: Whether to hold :math:`u^2 - \|U\|_F^2`, which the flow conserves, to its value by a force that is zero on
            the exact solution. Without it, rounding lets it wander over long times.

    Raises:
        InputError: If a shape does not fit or the times do not ascend from 0 on.
        ArithmeticError: If the integration does not reach the last time.
    """
    dim = len(pushes)
    g, push, begin = (t.numpy() for t in (rates, pushes, matrix))
    own = np.diag(g)
    across = g * (1 - np.eye(dim))
    outside = (begin * (1 - np.eye(dim))) ** 2
    imbalance = scalar.item() ** 2 - np.sum(begin**2)
    spring = own.max() if hold else 0.0

    def velocity(_time: float, state: np.ndarray) -> np.ndarray:
        diagonal, small, clock = state[:dim], state[dim], state[dim + 1]
        rest = outside * np.exp(-2 * across * clock)
        drag = np.sum(own * diagonal**2) + np.sum(across * rest)
        drift = small**2 - np.sum(diagonal**2) - np.sum(rest) - imbalance
        along = push @ diagonal - small * (drag + spring * drift)
        return np.concatenate([-own * small**2 * diagonal + push * small, [along, small**2]])

    def slopes(_time: float, state: np.ndarray) -> np.ndarray:
        diagonal, small, clock = state[:dim], state[dim], state[dim + 1]
        rest = outside * np.exp(-2 * across * clock)
        drift = small**2 - np.sum(diagonal**2) - np.sum(rest) - imbalance
        jacobian = np.zeros((dim + 2, dim + 2))
        jacobian[range(dim), range(dim)] = -own * small**2
        jacobian[:dim, dim] = push - 2 * own * small * diagonal
        jacobian[dim, :dim] = jacobian[:dim, dim] + 2 * spring * small * diagonal
        drag = np.sum(own * diagonal**2) + np.sum(across * rest)
        jacobian[dim, dim] = -drag - spring * (drift + 2 * small**2)
        jacobian[dim, dim + 1] = 2 * small * np.sum((across - spring) * across * rest)
        jacobian[dim + 1, dim] = 2 * small
        return jacobian

    state = torch.cat([matrix.diagonal(), scalar[None], torch.zeros(1, dtype=torch.float64)])
    path = integrated(velocity, state, times, slopes)
    small = path[:, dim]
    fading = torch.exp(-torch.from_numpy(across) * path[:, dim + 1, None, None])
    matrices = matrix * fading
    matrices = matrices - torch.diag_embed(matrices.diagonal(dim1=1, dim2=2)) + torch.diag_embed(path[:, :dim])
    missing = small[:, None, None] * matrices - torch.diag(pushes / rates.diagonal())
    gaps = (rates * missing.square()).sum((1, 2)) / 2
    return Flow(times, matrices, small, gaps + least, gaps)


@validated
def integrated(
    velocity: Callable[[float, np.ndarray], np.ndarray],
    state: Float[Tensor, " size"],
    times: Float[Tensor, " time"],
    slopes: Callable[[float, np.ndarray], np.ndarray] | None = None,
    tolerance: float = 1e-11,
) -> Float[Tensor, "time size"]:
    """The solution of a stiff equation at given times.

    Raises:
        InputError: If the times do not ascend from 0 on.
        ArithmeticError: If the integration stops early or is not finite.
    """
    if not len(times) or times[0] < 0 or (times.diff() <= 0).any():
        raise InputError(f"flow: times must not be negative and ascend strictly; got {shortened(str(times.tolist()))}.")
    last = float(times[-1])
    if last == 0:
        return state[None]
    solved = scipy.integrate.solve_ivp(
        velocity,
        (0.0, last),
        state.numpy(),
        method="LSODA",
        t_eval=times.numpy(),
        rtol=tolerance,
        atol=tolerance / 1e3,
        jac=slopes,
    )
    if not solved.success or not np.isfinite(solved.y).all():
        raise ArithmeticError(f"flow: the integration did not reach time {last:.3g}: {solved.message}")
    return torch.from_numpy(solved.y.T.copy())


@validated
def descend(
    loss: Callable[..., Tensor],
    start: Sequence[Float[Tensor, "..."]],
    optimiser: Callable[[list[Tensor]], torch.optim.Optimizer],
) -> Iterator[tuple[float, list[Tensor]]]:
    """Discrete optimisation of an exact loss: before every step, the loss and the weights.

    Args:
        loss: The loss of the weights, such as :meth:`~insitu.theory.one_layer.population.Population.loss`.
        start: The weights to start from; they are copied.
        optimiser: Makes an optimiser of weights, for example ``lambda w: torch.optim.SGD(w, lr=0.1)`` for gradient
            descent or ``lambda w: torch.optim.Adam(w, lr=0.01)``.

    Yields:
        The loss and copies of the weights, without end.

    Example:
        >>> bowl = descend(lambda w: w.square().sum(), [torch.ones(1)], lambda w: torch.optim.SGD(w, lr=0.25))
        >>> [next(bowl)[0] for _ in range(3)]
        [1.0, 0.25, 0.0625]
    """
    weights = [w.detach().clone().requires_grad_() for w in start]
    stepper = optimiser(weights)
    while True:
        now = loss(*weights)
        yield now.item(), [w.detach().clone() for w in weights]
        stepper.zero_grad()
        now.backward()
        stepper.step()
