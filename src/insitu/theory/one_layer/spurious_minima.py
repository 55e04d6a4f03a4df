r"""Certified local minima of the all-block loss that are not global.

With a = b = 0 every minimum is global. Over all blocks of :mod:`insitu.theory.one_layer.all_blocks` there are others,
such as u = 0, U = 0 with a rank-one product :math:`a b^\top`, in which gradient flow ends from many starts. A point is
certified by its gradient, which vanishes, and by the eigenvalues of the Hessian: as many zeros as the symmetries of the
loss demand (the scale symmetry :math:`(a, u), (U, b) \to (ca, cu), (U/c, b/c)` and the rotations that commute with
:math:`\Lambda`), and all others positive.

References:
    Derived; not in Zhang, Frei and Bartlett (2024), whose initialisation has a = b = 0.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import require_count, require_not_negative
from insitu.seed import Seed
from insitu.theory.arguments import validated
from insitu.theory.one_layer.all_blocks import Blocks, block_hessian, flat_loss
from insitu.theory.one_layer.population import Population

__all__ = ["StationaryPoint", "settle", "stationary_points"]

ZERO = 1e-7


@final
@dataclass(frozen=True, eq=False)
class StationaryPoint:
    """The end point of descents.

    Args:
        blocks: The weights.
        loss: Their loss.
        excess: The loss over the least loss, minus 1.
        slope: The norm of the gradient.
        curvatures: The eigenvalues of the Hessian, ascending.
        symmetries: The number of zero eigenvalues due to the symmetries of the loss.
        starts: The number of starts that ended with this loss.
    """

    blocks: Blocks
    loss: float
    excess: float
    slope: float
    curvatures: Float[Tensor, " size"]
    symmetries: int
    starts: int

    @property
    def flat_directions(self) -> int:
        """How many eigenvalues of the Hessian are zero up to rounding."""
        return int((self.curvatures.abs() <= ZERO * self.curvatures[-1]).sum())

    @property
    def is_minimum(self) -> bool:
        """Whether this is a strict minimum up to the symmetries: certified, not guessed."""
        negative = bool((self.curvatures < -ZERO * self.curvatures[-1]).any())
        return self.slope < 1e-9 and not negative and self.flat_directions == self.symmetries

    @property
    def is_spurious(self) -> bool:
        """Whether this is a certified minimum that is not global."""
        return self.is_minimum and self.excess > 1e-6


@validated
def stationary_points(
    population: Population, seed: Seed, starts: int = 40, scale: float = 0.3, steps: int = 400
) -> list[StationaryPoint]:
    """Descend from random weights of all blocks, and certify where that ends.

    Which share of the starts ends at which minimum depends on the law of the starts and, a little, on the descent.

    Args:
        population: The training distribution.
        seed: The seed of the starts.
        starts: Their number; every weight is normal with mean 0.
        scale: The standard deviation of a starting weight.
        steps: The number of steps of :func:`settle`.

    Returns:
        One point per distinct loss among the starts that settled, the lowest loss first.

    Raises:
        InputError: If there is no start or the scale is not positive.
    """
    require_count("stationary_points", "starts", starts, least=1)
    require_not_negative("stationary_points", "scale", scale, zero=False)
    size = population.dim**2 + 2 * population.dim + 1
    flat = settle(population, scale * seed.normal(starts, size), steps)
    losses = torch.func.vmap(flat_loss(population))(flat)
    slopes = torch.func.vmap(torch.func.grad(flat_loss(population)))(flat).norm(dim=1)
    order = [i for i in losses.argsort().tolist() if slopes[i] < 1e-9]
    groups: list[list[int]] = []
    for place in order:
        if groups and losses[place] - losses[groups[-1][0]] < 1e-7 * population.covariance.trace():
            groups[-1].append(place)
        else:
            groups.append([place])
    return [certificate(population, flat[group[0]], slopes[group[0]].item(), len(group)) for group in groups]


@validated
def settle(population: Population, flat: Float[Tensor, "start size"], steps: int) -> Float[Tensor, "start size"]:
    r"""Damped Newton descents from many starts at once, along the gradient flow at first.

    Each step is :math:`-(H + s I)^{-1} g`, an implicit Euler step of length 1/s. The shift s keeps :math:`H + s I`
    positive definite and the step short, and it grows whenever a step would raise the loss.
    """
    loss = flat_loss(population)
    value, slope = torch.func.vmap(loss), torch.func.vmap(torch.func.grad(loss))
    bend = torch.func.vmap(torch.func.jacrev(torch.func.grad(loss)))
    flat, caution = flat.clone(), torch.ones(len(flat), dtype=flat.dtype)
    moving = torch.arange(len(flat))
    for _ in range(steps):
        gradient = slope(flat[moving])
        rough = gradient.norm(dim=1) > 1e-12
        moving, gradient = moving[rough], gradient[rough]
        if not len(moving):
            break
        now = flat[moving]
        values, vectors = torch.linalg.eigh(bend(now))
        along = (vectors.mT @ gradient[:, :, None])[:, :, 0]
        escape = -2 * values[:, 0].clamp(max=0.0)
        shift = torch.maximum(escape, caution[moving] * gradient.norm(dim=1) / 0.2).clamp(min=1e-12)
        step = (vectors @ (along / (values + shift[:, None]))[:, :, None])[:, :, 0]
        before = value(now)
        better = value(now - step) <= before + 1e-13 * before.abs()
        flat[moving] = torch.where(better[:, None], now - step, now)
        caution[moving] = torch.where(better, (caution[moving] / 2).clamp(min=1e-3), caution[moving] * 4)
    return flat


def certificate(population: Population, flat: Tensor, slope: float, starts: int) -> StationaryPoint:
    blocks = Blocks.unflatten(flat, population.dim)
    loss, least = flat_loss(population)(flat).item(), population.minimum_loss()
    curvatures = torch.linalg.eigvalsh(block_hessian(population, blocks))
    tangents = torch.stack(symmetry_tangents(population, blocks))
    count = int(torch.linalg.matrix_rank(tangents, rtol=1e-6))
    return StationaryPoint(blocks, loss, loss / least - 1, slope, curvatures, count, starts)


def symmetry_tangents(population: Population, blocks: Blocks) -> list[Float[Tensor, " size"]]:
    """The directions in which the symmetries of the loss move the weights."""
    u, a, b = blocks.matrix, blocks.reading, blocks.matching
    tangents = [Blocks(-u, a, -b, blocks.scalar).flatten()]
    values, vectors = population.basis
    for i in range(population.dim):
        for j in range(i):
            if values[i] - values[j] <= 1e-12 * values[-1]:
                turn = torch.outer(vectors[:, i], vectors[:, j]) - torch.outer(vectors[:, j], vectors[:, i])
                tangents.append(Blocks(turn @ u - u @ turn, turn @ a, turn @ b, 0 * blocks.scalar).flatten())
    return tangents
