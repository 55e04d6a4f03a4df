r"""Minima of the exact loss of diagonal heads, by descent from many starts.

For independent eigenvalues every start ends at the least loss. For conjugate pairs with d or more heads it ends
somewhere on the family of :meth:`~insitu.theory.sequences.diagonal_heads.DiagonalHeads.family`; with d/2 to d - 1
heads the rank leaves :math:`\rho = 1` alone, but with more than d/2 some starts run off along
:meth:`~insitu.theory.sequences.diagonal_heads.DiagonalHeads.valley`; with d/2 or fewer there are minima that are
not global, which are certified by the gradient and by the eigenvalues of the Hessian.

References:
    Sander et al. (2024), figure 3. The classification is derived here.
"""

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from insitu.errors import require_count, require_not_negative
from insitu.seed import Seed
from insitu.theory.arguments import validated
from insitu.theory.sequences.diagonal_heads import DiagonalHeads, HeadWeights, partners

__all__ = ["Kind", "Minimum", "descend", "minima", "random_heads"]

ZERO = 1e-7
# On the family |p_{T-1} / p_T| = |rho / (1 + rho)|; above this, descents were observed not to return.
ESCAPED = 20.0

Kind = Literal["global", "local", "escaping", "unsettled"]


@final
@dataclass(frozen=True, eq=False)
class Minimum:
    """The end point of one descent.

    Args:
        problem: The task.
        heads: The weights.
        loss: The mean loss of a length.
        excess: The loss minus the least possible one.
        slope: The largest entry of the gradient.
        least_curvature: The least eigenvalue of the Hessian over the largest, for a loss that is not the least; 0 else.
    """

    problem: DiagonalHeads
    heads: HeadWeights
    loss: float
    excess: float
    slope: float
    least_curvature: float

    @property
    def kind(self) -> Kind:
        r"""The end of one descent.

        *global*: no weights have a smaller loss. *local*: a stationary point above the least loss from which no
        direction leads down. *escaping*: on the way to :math:`p_{T-1} / p_T \to \infty` along a valley such as that of
        :meth:`~insitu.theory.sequences.diagonal_heads.DiagonalHeads.valley`, whose loss falls for ever.
        *unsettled*: none of these within the iterations.
        """
        if self.excess < 1e-9:
            return "global"
        if self.slope < 1e-6 and self.least_curvature > -ZERO:
            return "local"
        return "escaping" if lean(self.heads.positions) > ESCAPED else "unsettled"

    @property
    def applied(self) -> Float[Tensor, "dim dim"]:
        """C times the mean superdiagonal of P: what neither scale nor sign of the factors changes."""
        return self.heads.merged * self.heads.positions.diagonal(1).mean()

    @property
    def ratio(self) -> float:
        r""":math:`p_{T-1} / p_T`, the mean over lengths."""
        return (self.heads.positions.diagonal(0) / self.heads.positions.diagonal(1)).mean().item()

    @property
    def rho(self) -> float:
        r"""The family's parameter :math:`C_{kk'} / C_{kk}`, the mean over coordinates; 0 without pairs."""
        merged = self.heads.merged
        if not self.problem.paired:
            return 0.0
        cross = merged[torch.arange(self.problem.dim), partners(self.problem.dim)]
        return (cross / merged.diagonal()).mean().item()

    @property
    def stray(self) -> float:
        """The largest entry of P before the diagonal, over the largest of all."""
        positions = self.heads.positions
        return (positions.tril(-1).abs().max() / positions.triu(0).abs().max()).item()

    @property
    def mixing(self) -> float:
        """The largest entry of A B' off its diagonal over the mean on it: 0 where heads are orthogonal."""
        overlap = self.heads.overlap
        off = overlap - overlap.diagonal().diag()
        return (off.abs().max() / overlap.diagonal().abs().mean()).item()


@validated
def descend(
    problem: DiagonalHeads, heads: HeadWeights, rate: float, steps: int, record: int = 1
) -> tuple[HeadWeights, Float[Tensor, "record *copy"]]:
    """Gradient descent on the summed loss, all copies at once.

    Args:
        problem: The task.
        heads: The start, perhaps of several copies.
        rate: The step size.
        steps: The number of steps.
        record: After how many steps the loss is noted, also at the start and at the end.

    Returns:
        The weights at the end, and the losses noted.

    Raises:
        InputError: If a number is not positive, or the weights do not fit the task.
    """
    require_not_negative("descend", "rate", rate, zero=False)
    require_count("descend", "steps", steps, least=1)
    require_count("descend", "record", record, least=1)
    losses = [problem.loss(heads)]
    for step in range(1, steps + 1):
        slope = problem.gradient(heads)
        heads = HeadWeights(
            heads.keys - rate * slope.keys,
            heads.values - rate * slope.values,
            heads.positions - rate * slope.positions,
        )
        if step % record == 0 or step == steps:
            losses.append(problem.loss(heads))
    return heads, torch.stack(losses)


@validated
def random_heads(problem: DiagonalHeads, heads: int, seed: Seed, starts: int, scale: float = 0.1) -> HeadWeights:
    """Weights whose entries are normal with mean 0."""
    keys, values = (scale * (seed / name).normal(starts, heads, problem.dim) for name in ("keys", "values"))
    return HeadWeights(keys, values, scale * (seed / "positions").normal(starts, problem.rows, problem.length).tril(1))


@validated
def minima(
    problem: DiagonalHeads, heads: int, seed: Seed, starts: int = 8, scale: float = 0.1, steps: int = 3000
) -> list[Minimum]:
    """The minima that L-BFGS reaches from random weights.

    Args:
        problem: The task.
        heads: The number of heads.
        seed: The seed of the starts.
        starts: The number of starts.
        scale: The standard deviation of a starting weight.
        steps: At most how many iterations a start gets.

    Raises:
        InputError: If a number is not positive.
    """
    for name, count in {"heads": heads, "starts": starts, "steps": steps}.items():
        require_count("minima", name, count, least=1)
    require_not_negative("minima", "scale", scale, zero=False)
    first = random_heads(problem, heads, seed, starts, scale)
    parts = zip(first.keys, first.values, first.positions, strict=True)
    return [settled(problem, HeadWeights(*part), steps) for part in parts]


def settled(problem: DiagonalHeads, start: HeadWeights, steps: int) -> Minimum:
    """The minimum that one descent reaches."""

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = problem.loss_and_gradient(unflatten(problem, torch.from_numpy(flat)))
        return loss.item(), flatten(slope).numpy()

    done = 0

    def give_up(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        nonlocal done
        done += 1
        # Early positions are close to random initial ones, whose lean can take any value.
        if done % 50 == 0 and done >= 200:
            heads = unflatten(problem, torch.from_numpy(intermediate_result.x))
            if lean(heads.positions) > ESCAPED:
                raise StopIteration

    # ftol 0: the loss is a sum of squares without cancellation, so that it can be followed down to its zeros.
    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 40, "ftol": 0.0, "gtol": 1e-11}
    first = flatten(start).numpy()
    result = scipy.optimize.minimize(
        value_and_slope, first, jac=True, method="L-BFGS-B", options=options, callback=give_up
    )
    heads = unflatten(problem, torch.from_numpy(result.x))
    loss = problem.loss(heads).item() / problem.rows
    slope = flatten(problem.gradient(heads)).abs().max().item()
    excess = loss - problem.minimum(len(start.keys))
    return Minimum(problem, heads, loss, excess, slope, 0.0 if excess < 1e-9 else least_curvature(problem, heads))


def lean(positions: Float[Tensor, "row column"]) -> float:
    """How much larger the diagonal of P is than its superdiagonal."""
    return (positions.diagonal(0).norm() / positions.diagonal(1).norm()).item()


def flatten(heads: HeadWeights) -> Float[Tensor, "*copy size"]:
    entries = visible(heads.positions.shape[-2])
    return torch.cat([heads.keys.flatten(-2), heads.values.flatten(-2), heads.positions[..., entries]], dim=-1)


def unflatten(problem: DiagonalHeads, flat: Float[Tensor, "*copy size"]) -> HeadWeights:
    entries = visible(problem.rows)
    count = int(entries.sum())
    size = (flat.shape[-1] - count) // 2
    keys, values, rest = flat.split([size, size, count], dim=-1)
    positions = flat.new_zeros(*flat.shape[:-1], *entries.shape)
    positions[..., entries] = rest
    keys, values = (part.unflatten(-1, (-1, problem.dim)) for part in (keys, values))
    return HeadWeights(keys, values, positions)


def visible(rows: int) -> Bool[Tensor, "row column"]:
    """The entries of P that matter."""
    return torch.ones(rows, rows + 1, dtype=torch.bool).tril(1)


def least_curvature(problem: DiagonalHeads, heads: HeadWeights) -> float:
    """The least eigenvalue of the Hessian over the largest."""
    curvatures = torch.linalg.eigvalsh(hessian(problem, flatten(heads)))
    return (curvatures[0] / curvatures[-1]).item()


def hessian(problem: DiagonalHeads, flat: Float[Tensor, " size"]) -> Float[Tensor, "size size"]:
    """The second derivatives of the summed loss, by central differences of its exact gradient."""
    moves = 1e-5 * torch.eye(len(flat), dtype=flat.dtype)
    ahead, behind = (flatten(problem.gradient(unflatten(problem, flat + sign * moves))) for sign in (1, -1))
    matrix = (ahead - behind) / 2e-5
    return (matrix + matrix.mT) / 2
