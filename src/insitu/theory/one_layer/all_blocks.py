r"""The exact loss of one linear-attention layer over all weights that its answer depends on.

The answer uses the last row :math:`(a^\top, u)` of :math:`W^{PV}` and the first d columns :math:`(U; b^\top)` of
:math:`W^{KQ}`: with :math:`S = \frac1N \sum_i x_i x_i^\top` and the query among the summed tokens,

.. math:: \hat y = \underbrace{w^\top S (a b^\top + u U) x_q}_{\text{odd in } w}
    + \underbrace{a^\top (S + \tfrac1N x_q x_q^\top) U x_q + u\, (w^\top S w)(b^\top x_q)}_{\text{even in } w}

The target is odd in w, so the loss is the sum of two parts and no mixing block can lower the least loss. It can trap a
flow, though: see :mod:`insitu.theory.one_layer.spurious_minima`.

References:
    Zhang, Frei and Bartlett (2024), equation 3.6. The loss over all blocks is derived; the paper keeps a = b = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from insitu.theory.arguments import require_shape, validated
from insitu.theory.one_layer.gradient_flow import integrated
from insitu.theory.one_layer.population import Population

__all__ = ["Blocks", "block_flow", "block_gradient", "block_hessian", "block_loss", "flat_loss"]


@validated
@final
@dataclass(frozen=True, eq=False)
class Blocks:
    r"""The weights that the answer depends on.

    Args:
        matrix: :math:`U`, which matches keys to the query by their inputs.
        reading: :math:`a`, which reads a token's input into the answer.
        matching: :math:`b`, which matches keys to the query by their labels.
        scalar: :math:`u`, which reads a token's label into the answer.

    Raises:
        InputError: If the shapes do not fit each other or an entry is not finite.
    """

    matrix: Float[Tensor, "dim dim"]
    reading: Float[Tensor, " dim"]
    matching: Float[Tensor, " dim"]
    scalar: Float[Tensor, ""]

    @classmethod
    @validated
    def unflatten(cls, flat: Float[Tensor, " size"], dim: int) -> "Blocks":
        """The blocks from d^2 + 2d + 1 numbers: the rows of U, then a, b and u."""
        matrix, reading, matching, scalar = split(flat, dim)
        return cls(matrix, reading, matching, scalar)

    def flatten(self) -> Float[Tensor, " size"]:
        """The blocks as d^2 + 2d + 1 numbers."""
        return torch.cat([self.matrix.flatten(), self.reading, self.matching, self.scalar[None]])

    def balance(self) -> Float[Tensor, ""]:
        r"""The quantity that gradient flow conserves from any start: :math:`\|U\|_F^2 + |b|^2 - |a|^2 - u^2`."""
        keys = self.matrix.square().sum() + self.matching.square().sum()
        return keys - self.reading.square().sum() - self.scalar.square()

    def product(self) -> Float[Tensor, "dim dim"]:
        r"""The matrix :math:`a b^\top + u U` by which the answer depends on the labels linearly."""
        return torch.outer(self.reading, self.matching) + self.scalar * self.matrix


def split(flat: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    matrix, reading, matching, scalar = flat.split([dim * dim, dim, dim, 1])
    return matrix.view(dim, dim), reading, matching, scalar[0]


@validated
def block_loss(population: Population, blocks: Blocks) -> Float[Tensor, ""]:
    r"""The population loss :math:`\frac12 E(\hat y - w^\top x_q)^2` of any blocks."""
    return flat_loss(population)(blocks.flatten())


@validated
def flat_loss(population: Population) -> Callable[[Tensor], Tensor]:
    r"""The loss as a function of the flattened blocks, differentiable and fit for ``torch.func.vmap``.

    With :math:`V = a b^\top + u U` the odd part gives :math:`\frac12 \mathrm{tr}(\Gamma\Lambda V\Lambda V^\top) -
    \mathrm{tr}(\Lambda^2 V^\top) + \frac12 \mathrm{tr}\Lambda`. The even part :math:`p + q` with :math:`p = a^\top (S +
    x_q x_q^\top / N) U x_q` and :math:`q = u (w^\top S w)(b^\top x_q)` gives :math:`\frac12 E(p + q)^2` by the
    fourth and sixth moments of Gaussian vectors.
    """
    share, lam = 1 / population.length, population.covariance
    lam2 = lam @ lam
    keys = population.key_matrix @ lam
    trace = lam.trace()
    label_square = (1 + 2 * share) * (trace**2 + 2 * lam2.trace())

    def loss(flat: Tensor) -> Tensor:
        big, a, b, u = split(flat, population.dim)
        both = torch.outer(a, b) + u * big
        odd = ((keys @ both @ lam) * both).sum() / 2 - (lam2 * both).sum() + trace / 2
        la, lb = lam @ a, lam @ b
        even = (big + big.T) / 2
        ls = lam @ even
        even_trace = (ls * torch.eye(population.dim, dtype=torch.float64)).sum()
        aa, ab = a @ la, a @ lb
        forward = big.T @ la
        p2 = (
            (1 + share) * forward @ lam @ forward
            + share * aa * ((lam @ big @ lam) * big).sum()
            + 2 * share * ((forward @ la) * even_trace + 2 * forward @ ls @ la)
            + share**2 * (aa * (even_trace**2 + 2 * (ls * ls.T).sum()))
            + share**2 * (4 * (la @ even @ la) * even_trace + 8 * la @ even @ lam @ even @ la)
        )
        q2 = u**2 * (b @ lb) * label_square
        pq = u * (trace * forward @ lb + 2 * share * (lam @ la) @ big @ lb)
        pq = pq + u * trace * share * (ab * even_trace + 2 * la @ even @ lb)
        return odd + (q2 + p2 + 2 * pq) / 2

    return loss


@validated
def block_gradient(population: Population, blocks: Blocks) -> Blocks:
    """The gradient of the loss in every block, by automatic differentiation."""
    return Blocks.unflatten(torch.func.grad(flat_loss(population))(blocks.flatten()), population.dim)


@validated
def block_hessian(population: Population, blocks: Blocks) -> Float[Tensor, "size size"]:
    """The matrix of second derivatives in the order of :meth:`Blocks.flatten`."""
    return torch.func.jacrev(torch.func.grad(flat_loss(population)))(blocks.flatten())


@validated
def block_flow(
    population: Population, start: Blocks, times: Float[Tensor, " time"], *, hold: bool = True
) -> list[Blocks]:
    """Gradient flow of all blocks together, from any start; for small dimensions.

    Args:
        population: The training distribution.
        start: The initial weights.
        times: Ascending times from 0 on at which to report.
        hold: Whether to hold the conserved :meth:`Blocks.balance` to its value by a force that is zero on the exact
            solution. Without it, rounding lets the scale symmetry's free direction wander over long times.

    Raises:
        InputError: If the start has another dimension or the times do not ascend.
        ArithmeticError: If the integration does not reach the last time.
    """
    dim = population.dim
    require_shape("block_flow", "matrix", start.matrix, (dim, dim))
    loss = flat_loss(population)
    first = start.flatten()
    signs = torch.ones_like(first)
    signs[dim * dim : dim * dim + dim] = signs[-1] = -1.0
    spring = population.eigenvalues[-1] ** 2 * population.key_values[-1] if hold else 0.0

    def force(state: Tensor) -> Tensor:
        return -spring * (signs * (state.square() - first.square())).sum() * signs * state

    def velocity(_time: float, numbers: np.ndarray) -> np.ndarray:
        # Twice as fast as torch.func.grad, which the Jacobian below needs.
        state = torch.from_numpy(numbers).clone().requires_grad_()
        slope = torch.autograd.grad(loss(state), state)[0]
        return (force(state.detach()) - slope).numpy()

    bend = torch.func.jacrev(lambda state: force(state) - torch.func.grad(loss)(state))

    path = integrated(
        velocity,
        first,
        times,
        lambda _time, state: bend(torch.from_numpy(state)).numpy(),
        tolerance=1e-9,
    )
    return [Blocks.unflatten(state, dim) for state in path]
