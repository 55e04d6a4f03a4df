r"""How fast linear attention learns: one drop if keys and queries are merged, a staircase if they have rank one.

Losses here have no factor 1/2 and the flow is steepest descent on half of them, as in the paper. With :math:`g_d =
(1 + 1/N) \lambda_d + \mathrm{tr}(\Lambda)/N`, head h holding (v, k, q) and :math:`W = \sum_h v_h k_h q_h^\top`:

.. math:: L(W) = \mathrm{tr}\Lambda - 2\, \mathrm{tr}(\Lambda^2 W^\top) + \mathrm{tr}(\Gamma\Lambda W \Lambda W^\top)

References:
    Zhang, Singh, Latham and Saxe (2025), Training dynamics of in-context learning in linear attention.
"""

import itertools
import math
from dataclasses import dataclass
from typing import final

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count, require_not_negative
from insitu.seed import Seed
from insitu.theory.arguments import require_length, require_shape, validated
from insitu.theory.one_layer.population import Population

__all__ = [
    "Staircase",
    "head_escape_time",
    "head_limit",
    "merged_escape_time",
    "merged_share",
    "plateau_losses",
    "staircase",
]


@validated
def merged_share(times: Float[Tensor, " time"], dim: int, length: int | float, start: float) -> Tensor:
    r"""The share s(t) of the target that a merged head answers for white inputs, :math:`\hat y = s(t) w^\top x_q`.

    .. math:: s(t) = \frac{e}{(1 + (1 + d)/N)(e - 1) + \sqrt d / \sigma^2}, \qquad e = \exp(2 \sqrt d\, t)

    Args:
        times: Times in units of the learning-rate time constant.
        dim: The dimension d; the covariance is the identity.
        length: The context length N.
        start: The norm :math:`\sigma` of one layer at time 0, balanced and proportional to the identity.
    """
    require_count("merged_share", "dim", dim, least=1)
    require_length("merged_share", "length", length)
    require_not_negative("merged_share", "start", start, zero=False)
    # Numerator and denominator divided by e, which overflows.
    fade = torch.exp(-2 * math.sqrt(dim) * times)
    return 1 / ((1 + (1 + dim) / length) * (1 - fade) + math.sqrt(dim) / start**2 * fade)


@validated
def merged_escape_time(population: Population, start: float) -> float:
    r"""About when a merged head leaves the plateau at zero, :math:`\ln(1/\sigma) / \|\Lambda^2\|_F`."""
    require_not_negative("merged_escape_time", "start", start, zero=False)
    return math.log(1 / start) / torch.linalg.vector_norm(population.eigenvalues**2).item()


@validated
def plateau_losses(population: Population) -> Float[Tensor, " plateau"]:
    r"""The d + 1 losses at which rank-one heads linger, without 1/2, the highest first.

    .. math:: L_m = \mathrm{tr}\Lambda - \sum_{i \le m} \frac{\lambda_i}{1 + (1 + \mathrm{tr}\Lambda / \lambda_i) / N},
        \qquad \lambda_1 \ge \lambda_2 \ge \dots

    The last is twice :meth:`~insitu.theory.one_layer.population.Population.minimum_loss`.
    """
    values = population.eigenvalues.flip(0)
    gains = values**2 / population.key_values.flip(0)
    return values.sum() - torch.cat([gains.new_zeros(1), gains.cumsum(0)])


@validated
def head_limit(population: Population) -> Float[Tensor, " dim"]:
    r"""The size v at which a head aligned with each eigenvector stops, largest eigenvalue first.

    An aligned head, k = q = v e, obeys :math:`\dot v = \lambda^2 v^2 - \lambda^2 g v^5`.
    """
    return population.key_values.flip(0) ** (-1 / 3)


@validated
def head_escape_time(population: Population, start: float) -> Float[Tensor, " dim"]:
    r"""How long an aligned head of size v(0) needs to grow: :math:`1 / (\lambda_i^2 v(0))`, largest first."""
    require_not_negative("head_escape_time", "start", start, zero=False)
    return 1 / (population.eigenvalues.flip(0) ** 2 * start)


@final
@dataclass(frozen=True, eq=False)
class Staircase:
    """A flow of rank-one heads.

    Args:
        times: The integrator's own times, dense where the loss moves.
        losses: The loss at them, without 1/2.
        speeds: The negative derivative of the loss there.
        products: The matrix W at them.
    """

    times: Float[Tensor, " time"]
    losses: Float[Tensor, " time"]
    speeds: Float[Tensor, " time"]
    products: Float[Tensor, "time dim dim"]

    @validated
    def plateaus(self, prominence: float = 10.0) -> Float[Tensor, " plateau"]:
        """The losses at which the flow lingers: at the start, where it is slowest between two drops, and at the end.

        Args:
            prominence: By which factor a drop must be faster than the slow stretches around it.
        """
        # Past the last drop the speed is rounding.
        running = self.losses > self.losses[-1] + 1e-8 * self.losses[0]
        heights = self.speeds[running].clamp(min=1e-30).log10().numpy()
        drops, _ = scipy.signal.find_peaks(heights, prominence=math.log10(prominence))
        slow = [a + int(heights[a:b].argmin()) for a, b in itertools.pairwise(drops)]
        return self.losses[[0, *slow, len(self.losses) - 1]]


@validated
def staircase(population: Population, seed: Seed, heads: int, start: float, horizon: float) -> Staircase:
    r"""The flow of heads with separate rank-one keys and queries from a small random start.

    .. math:: \dot v = k^\top R\, q, \quad \dot k = v R\, q, \quad \dot q = v R^\top k, \qquad
        R = \Lambda^2 - \Gamma \Lambda W \Lambda

    Args:
        population: The training distribution.
        seed: The seed of the start.
        heads: The number of heads.
        start: The standard deviation of every weight at the start.
        horizon: The last time; a head for eigenvalue :math:`\lambda` starts to grow after about :math:`1 / (\lambda^2
            v(0))`.

    Raises:
        InputError: If a number is not positive.
        ArithmeticError: If the integration stops early.
    """
    require_count("staircase", "heads", heads, least=1)
    require_not_negative("staircase", "start", start, zero=False)
    require_not_negative("staircase", "horizon", horizon, zero=False)
    begin = start * seed.normal(heads * (1 + 2 * population.dim))
    return heads_flow(population, begin, heads, horizon)


def heads_flow(population: Population, begin: Float[Tensor, " size"], heads: int, horizon: float) -> Staircase:
    """The flow of :func:`staircase` from given weights: all v, then all k by rows, then all q."""
    dim = population.dim
    require_shape("heads_flow", "begin", begin, (heads * (1 + 2 * dim),))
    lam = population.covariance.numpy()
    keys, push = population.key_matrix.numpy() @ lam, lam @ lam

    def parts(state: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        v, k, q = np.split(state, [heads, heads * (1 + dim)])
        return v, k.reshape(heads, dim), q.reshape(heads, dim)

    def velocity(_time: float, state: np.ndarray) -> np.ndarray:
        v, k, q = parts(state)
        rest = push - keys @ ((v[:, None] * k).T @ q) @ lam
        pull_q, pull_k = q @ rest.T, k @ rest
        return np.concatenate([np.sum(k * pull_q, 1), (v[:, None] * pull_q).ravel(), (v[:, None] * pull_k).ravel()])

    solved = scipy.integrate.solve_ivp(velocity, (0.0, horizon), begin.numpy(), method="LSODA", rtol=1e-9, atol=1e-12)
    if not solved.success or not np.isfinite(solved.y).all():
        raise ArithmeticError(f"staircase: the integration did not reach time {horizon:.3g}: {solved.message}")
    states = solved.y.T
    speeds = torch.tensor([2 * np.sum(velocity(0.0, state) ** 2) for state in states], dtype=torch.float64)
    products = torch.stack([torch.from_numpy((v[:, None] * k).T @ q) for v, k, q in map(parts, states)])
    missing = products - population.best_step
    gaps = ((population.key_matrix @ population.covariance @ missing @ population.covariance) * missing).sum((1, 2))
    return Staircase(torch.from_numpy(solved.t), gaps + 2 * population.minimum_loss(), speeds, products)
