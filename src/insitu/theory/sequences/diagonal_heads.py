r"""The exact loss of linear attention with positions on plain tokens, for commuting contexts.

With diagonal heads :math:`A_h = \mathrm{diag}(a_h)`, :math:`B_h = \mathrm{diag}(b_h)` the layer answers from the
sequence :math:`s_1, \dots, s_T`, its query being the token before the last,

.. math:: o_k = \sum_{t=1}^{T} p_t \sum_j C_{kj}\, \bar s_{T-1,j}\, s_{t,j}\, s_{t,k}, \qquad C = B^\top A,

where :math:`p` is row T - 1 of the positions P. With :math:`s_t = \lambda^{t-1}` every term is a monomial in the
eigenvalues, and different monomials are orthogonal. Collecting equal ones gives the loss as a sum of squares, so that
nothing cancels near its zeros. Let k' be the conjugate partner of k, r = C 1, :math:`q = \sum_{t \ne T-1} p_t` and
:math:`q_2 = \sum_{t \le T-2} p_t^2`. For conjugate pairs

.. math:: \ell_T = q_2 \sum_{j \ne k'} C_{kj}^2 + p_T^2 \sum_{j \ne k, k'} C_{kj}^2 + \sum_k (p_T C_{kk} - 1)^2
        + \sum_k (p_{T-1} r_k + q\, C_{kk'})^2 .

For independent eigenvalues there is no partner: drop k' and the last :math:`q\, C_{kk'}`.

References:
    Sander et al. (2024), tokens that are not augmented. The code released with it adds
    :math:`p_{T-1}^2 \|C\|_F^2` to the loss for independent eigenvalues, whose least value stays the same.
"""

from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from insitu.errors import InputError, require_count, require_one_of
from insitu.theory.arguments import validated

__all__ = ["Commuting", "DiagonalHeads", "HeadWeights"]

Commuting = Literal["unitary", "orthogonal"]


@validated
@final
@dataclass(frozen=True, eq=False)
class HeadWeights:
    """The weights of the layer, perhaps of several copies of it.

    Args:
        keys: The diagonals a_h, which merge key and query.
        values: The diagonals b_h, which merge value and output.
        positions: P: row i weighs the tokens of the sequence of length T = i + 2, whose query is token i + 1. What lies
            above the first superdiagonal is not seen.
    """

    keys: Float[Tensor, "*copy head dim"]
    values: Float[Tensor, "*copy head dim"]
    positions: Float[Tensor, "*copy row column"]

    @property
    def merged(self) -> Float[Tensor, "*copy dim dim"]:
        """C = B'A, the only way in which the heads act."""
        return self.values.mT @ self.keys

    @property
    def overlap(self) -> Float[Tensor, "*copy head head"]:
        """A B', diagonal where the heads are orthogonal."""
        return self.keys @ self.values.mT


@validated
@final
@dataclass(frozen=True)
class DiagonalHeads:
    """The task on which the layer is judged: all lengths T = 2..length of a commuting context.

    Args:
        dim: The number d of eigenvalues.
        length: The greatest length.
        context: *unitary* for independent eigenvalues, uniform on the circle, *orthogonal* for conjugate pairs in
            adjacent coordinates.

    Raises:
        InputError: If the dimension is below 1, odd for pairs, or the length below 2.

    Example:
        >>> problem = DiagonalHeads(dim=4, length=6, context="orthogonal")
        >>> problem.loss(problem.family(rho=1.0)).item()
        0.0
    """

    dim: int
    length: int
    context: Commuting = "unitary"

    def __post_init__(self) -> None:
        require_count("DiagonalHeads", "dim", self.dim, least=1)
        require_count("DiagonalHeads", "length", self.length, least=2)
        require_one_of("DiagonalHeads", "context", self.context, get_args(Commuting))
        if self.paired and self.dim % 2:
            raise InputError(f"DiagonalHeads: conjugate pairs need an even dim; got {self.dim}.")

    @property
    def paired(self) -> bool:
        """Whether eigenvalues come in conjugate pairs."""
        return self.context == "orthogonal"

    @property
    def rows(self) -> int:
        """The number of lengths, T = 2..length, and so of rows of P."""
        return self.length - 1

    @validated
    def losses(
        self, merged: Float[Tensor, "*copy dim dim"], positions: Float[Tensor, "*copy row column"]
    ) -> Float[Tensor, "*copy row"]:
        """The loss at every length, from C and P."""
        self._require_fit(merged, positions)
        return Terms(self, merged, positions).losses()

    @validated
    def loss(self, heads: HeadWeights) -> Float[Tensor, "*copy"]:
        """The loss summed over lengths."""
        return self.losses(heads.merged, heads.positions).sum(-1)

    @validated
    def gradient(self, heads: HeadWeights) -> HeadWeights:
        """The gradient of the summed loss in all weights, from its formula."""
        return self.loss_and_gradient(heads)[1]

    @validated
    def loss_and_gradient(self, heads: HeadWeights) -> tuple[Float[Tensor, "*copy"], HeadWeights]:
        """The summed loss and its gradient."""
        merged, positions = heads.merged, heads.positions
        self._require_fit(merged, positions)
        terms = Terms(self, merged, positions)
        early = terms.early_square.sum(-1)
        late = terms.last.square().sum(-1)
        slope = 2 * merged * (early + late)[..., None, None]
        by_own = terms.own * early[..., None] + (terms.miss * terms.last[..., None]).sum(-2)
        by_row = (terms.stray * terms.at[..., None]).sum(-2)
        slope = slope + 2 * by_row[..., :, None]
        place = torch.arange(self.dim)
        slope[..., place, place] = 2 * (by_own + by_row)
        if self.paired:
            by_cross = (terms.stray * terms.total[..., None]).sum(-2)
            slope[..., place, partners(self.dim)] = 2 * (by_cross + by_row)
        pull = (terms.stray * terms.cross[..., None, :]).sum(-1)
        below = 2 * positions * terms.whole[..., None, None] + 2 * pull[..., None]
        rows = torch.arange(self.rows)
        moved = below.tril(-1)
        moved[..., rows, rows] = 2 * (terms.stray * terms.row[..., None, :]).sum(-1)
        moved[..., rows, rows + 1] = 2 * (
            terms.last * terms.far[..., None] + (terms.miss * terms.own[..., None, :]).sum(-1) + pull
        )
        return terms.losses().sum(-1), HeadWeights(heads.values @ slope, heads.keys @ slope.mT, moved)

    @validated
    def minimum(self, heads: int) -> float:
        r"""The least loss at each length, over all weights of so many heads.

        d - H for independent eigenvalues: the loss is at least :math:`\|p_T C - I\|_F^2` with C of rank H at most. For
        pairs d - 2H: entries :math:`C_{kk'}` cost nothing there, so it is the distance of a rank-H matrix to one of
        2 x 2 blocks with a free antidiagonal, whose rank can be halved.

        Example:
            >>> [DiagonalHeads(6, 4, "orthogonal").minimum(heads) for heads in (1, 2, 3, 6)]
            [4.0, 2.0, 0.0, 0.0]
        """
        require_count("DiagonalHeads.minimum", "heads", heads, least=1)
        return float(max(0, self.dim - (2 if self.paired else 1) * heads))

    @validated
    def family(self, rho: float = 0.0, scale: float = 1.0) -> HeadWeights:
        r"""The weights of zero loss: all of them up to the factors of C and, for pairs, one parameter.

        .. math:: C = c\, \mathrm{blockdiag} \begin{pmatrix} 1 & \rho \\ \rho & 1 \end{pmatrix}, \quad
            p_T = \frac1c, \quad p_{T-1} = -\frac{\rho}{c (1 + \rho)}, \quad p_t = 0 \text{ else}.

        :math:`\rho = 0` multiplies :math:`\lambda = s_T \bar s_{T-1}`, read off the last two tokens, with :math:`s_T`;
        :math:`\rho = 1` needs d/2 heads only and is the recurrence
        :math:`s_{T+1} = 2 \cos\theta\, s_T - s_{T-1}` of :func:`~insitu.theory.sequences.rotations.three_term_step`.

        Args:
            rho: The parameter :math:`\rho`; zero for independent eigenvalues.
            scale: The factor c, which the loss does not see.

        Raises:
            InputError: If the scale is zero, rho is -1, or not zero for independent eigenvalues.
        """
        if scale == 0 or rho == -1 or (rho and not self.paired):
            raise InputError(
                "DiagonalHeads.family: needs a scale other than 0 and a rho other than -1, which is 0 unless "
                f"eigenvalues are paired; got rho={rho!r} and scale={scale!r} for context={self.context!r}."
            )
        unit = torch.eye(self.dim, dtype=torch.float64)
        keys = values = unit
        if self.paired and rho == 1:
            keys = values = unit[::2] + unit[1::2]
        elif self.paired:
            keys = unit + rho * unit[partners(self.dim)]
        rows = torch.arange(self.rows)
        positions = torch.zeros(self.rows, self.length, dtype=torch.float64)
        positions[rows, rows + 1] = 1 / scale
        positions[rows, rows] = -rho / (scale * (1 + rho))
        return HeadWeights(scale * keys, values, positions)

    @validated
    def valley(self, lean: float) -> HeadWeights:
        r"""Weights of d/2 + 1 heads whose loss falls to zero as they run off to infinity, far from the family.

        .. math:: C = \mathrm{blockdiag} \begin{pmatrix} 1 & -1 \\ -1 & 1 \end{pmatrix} + \frac{1}{d L}\, 1 1^\top,
            \quad p_T = 1, \quad p_{T-1} = L .

        The large entry times the small part of C cancels what the pairs add, up to terms of size 1/L: an infimum that
        no weights attain, beside the minimum at :math:`\rho = 1`.

        Args:
            lean: :math:`L = p_{T-1} / p_T`.

        Raises:
            InputError: If eigenvalues are not paired, or the lean is zero.
        """
        if not self.paired or lean == 0:
            raise InputError(
                f"DiagonalHeads.valley: is for conjugate pairs and a lean other than 0; got lean={lean!r} for "
                f"context={self.context!r}."
            )
        unit = torch.eye(self.dim, dtype=torch.float64)
        planes = unit[::2] - unit[1::2]
        ones = unit.sum(0, keepdim=True)
        positions = self.family().positions
        rows = torch.arange(self.rows)
        positions[rows, rows] = lean
        return HeadWeights(torch.cat([planes, ones / (self.dim * lean)]), torch.cat([planes, ones]), positions)

    @validated
    def best_positions(self, merged: Float[Tensor, "dim dim"]) -> Float[Tensor, "row column"]:
        """The positions of least loss for given heads.

        The loss of a length is quadratic in its row: solved for the diagonal entry, then for the entries before, which
        are all equal, then for the last.

        Raises:
            InputError: If C is of another shape.
        """
        positions = torch.zeros(self.rows, self.length, dtype=torch.float64)
        self._require_fit(merged, positions)
        terms = Terms(self, merged, positions)
        own, cross, row, whole = terms.own, terms.cross, terms.row, terms.whole
        size = row.square().sum()
        turn = (row * cross).sum() / size if size > 0 else size
        rest = (cross - turn * row).square().sum()
        for i in range(self.rows if whole > 0 else 0):
            # The entries before the diagonal answer x = -share * p_T each.
            share = rest / (whole + i * rest)
            last = own.sum() / (whole + share * whole)
            positions[i, :i] = -share * last
            positions[i, i + 1] = last
            positions[i, i] = -turn * (positions[i, :i].sum() + last)
        return positions

    @validated
    def predict(
        self, heads: HeadWeights, sequence: Complex[Tensor, "batch time dim"], lag: int = 1
    ) -> Complex[Tensor, "batch row dim"]:
        """The answers of the layer at T = 2..length, with token T - lag as the query, to sequences of that length."""
        shape = sequence.shape[1:]
        if shape != (self.length, self.dim):
            raise InputError(
                f"DiagonalHeads.predict: expected sequences of shape (batch, {self.length}, {self.dim}); got "
                f"{tuple(sequence.shape)}."
            )
        merged = heads.merged.to(sequence)
        answers = []
        for row in range(self.rows):
            past = sequence[:, : row + 2]
            scores = (sequence[:, row + 1 - lag, None].conj() * past) @ merged.mT
            answers.append(torch.einsum("t,btk->bk", heads.positions[row, : row + 2].to(sequence), scores * past))
        return torch.stack(answers, dim=1)

    def _require_fit(self, merged: Tensor, positions: Tensor) -> None:
        expected = (self.dim, self.dim), (self.rows, self.length)
        if (merged.shape[-2:], positions.shape[-2:]) != expected:
            raise InputError(
                f"DiagonalHeads: expected heads of width {self.dim} and positions of shape {expected[1]}; got C of "
                f"shape {tuple(merged.shape)} and positions of shape {tuple(positions.shape)}."
            )


def partners(dim: int) -> Tensor:
    """The index of every coordinate's conjugate partner."""
    return torch.arange(dim).view(-1, 2).flip(1).flatten()


class Terms:
    """The terms of the loss and its gradient."""

    def __init__(self, problem: DiagonalHeads, merged: Tensor, positions: Tensor) -> None:
        visible = positions.tril(-1)
        self.early_square = visible.square().sum(-1)
        self.at = positions.diagonal(0, -2, -1)
        self.last = positions.diagonal(1, -2, -1)
        self.total = visible.sum(-1) + self.last
        self.own = merged.diagonal(dim1=-2, dim2=-1)
        self.row = merged.sum(-1)
        free = 1 - torch.eye(problem.dim, dtype=merged.dtype, device=merged.device)
        self.cross = torch.zeros_like(self.own)
        if problem.paired:
            place = torch.arange(problem.dim)
            self.cross = merged[..., place, partners(problem.dim)]
            free[place, partners(problem.dim)] = 0
        self.far = (merged * free).square().sum((-2, -1))
        self.whole = self.far + self.own.square().sum(-1)
        self.miss = self.last[..., None] * self.own[..., None, :] - 1
        self.stray = self.at[..., None] * self.row[..., None, :] + self.total[..., None] * self.cross[..., None, :]

    def losses(self) -> Float[Tensor, "*copy row"]:
        early = self.early_square * self.whole[..., None]
        late = self.last.square() * self.far[..., None]
        return early + late + self.miss.square().sum(-1) + self.stray.square().sum(-1)
