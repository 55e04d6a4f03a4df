r"""The exact loss of one linear-attention layer on augmented tokens when all of its blocks are free.

A layer with heads :math:`(A_h, B_h)` answers :math:`\sum_h B_h M_T A_h e_T` from tokens :math:`e_t = (s_t, s_{t-1})`,
:math:`s_0 = 0`, where :math:`M_T = \sum_{t \le T} e_t e_t^*`. One gradient step is :math:`A` matching :math:`s_{t-1}`
with :math:`s_T` by the identity and :math:`B` writing a multiple of :math:`s_t`. The loss is a trigonometric
polynomial in the angles, and equally spaced angles, more than its degree, integrate that exactly: an expectation over a
grid, not a sample.

References:
    Derived. Sander et al. (2024) restrict the form of the blocks; without that a layer does better than one step.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final, get_args

import numpy as np
import scipy
import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative, require_one_of
from insitu.seed import Seed
from insitu.tasks import orbit, rotation_blocks
from insitu.theory.arguments import validated
from insitu.theory.sequences.diagonal_heads import Commuting

__all__ = ["Blocks", "FreeLayer", "LayerWeights"]

Blocks = Literal["all", "step"]
# Sequences on the grid of angles; more would not fit in memory with their moments.
LARGEST = 20_000


@validated
@final
@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The weights of a layer's heads.

    Args:
        scores: A_h: rows are the blocks (s_t, s_{t-1}) of a key, columns the blocks (s_T, s_{T-1}) of the query.
        values: B_h: what is written into the answer from the blocks (s_t, s_{t-1}).
    """

    scores: Float[Tensor, "head two two"]
    values: Float[Tensor, "head dim two"]


@validated
@final
@dataclass(frozen=True)
class FreeLayer:
    """The task of all lengths T = 2..length of a commuting context.

    Args:
        dim: The dimension d.
        length: The greatest length.
        context: *unitary* for d independent eigenvalues, *orthogonal* for d/2 real rotations.

    Raises:
        InputError: If the dimension does not fit, the length is below 2, or the grid of angles would be too large.

    Example:
        >>> layer = FreeLayer(dim=1, length=8)
        >>> round(layer.loss(layer.step(0.2)).item(), 12)  # 3 / (2 * 8 - 1), the best rate
        1.4
    """

    dim: int
    length: int
    context: Commuting = "unitary"

    def __post_init__(self) -> None:
        require_count("FreeLayer", "dim", self.dim, least=1)
        require_count("FreeLayer", "length", self.length, least=2)
        require_one_of("FreeLayer", "context", self.context, get_args(Commuting))
        if self.context == "orthogonal" and self.dim % 2:
            raise InputError(f"FreeLayer: rotations need an even dim; got {self.dim}.")
        if self.nodes**self.angles > LARGEST:
            raise InputError(
                f"FreeLayer: {self.angles} angles with {self.nodes} nodes each are "
                f"{self.nodes**self.angles} sequences, beyond {LARGEST}. Take a smaller dim or length."
            )

    @property
    def angles(self) -> int:
        """How many independent angles W has."""
        return self.dim // 2 if self.context == "orthogonal" else self.dim

    @property
    def nodes(self) -> int:
        """How many angles make the average exact: more than the degree 3 (T - 1), of real entries twice that."""
        return (6 if self.context == "orthogonal" else 3) * self.length

    @cached_property
    def sequences(self) -> Inexact[Tensor, "node time dim"]:
        """The sequences of T + 1 entries on the grid of angles."""
        line = 2 * torch.pi * torch.arange(self.nodes, dtype=torch.float64) / self.nodes
        grid = torch.cartesian_prod(*[line] * self.angles).view(-1, self.angles)
        matrices = rotation_blocks(grid) if self.context == "orthogonal" else torch.exp(1j * grid).diag_embed()
        return orbit(matrices, torch.ones(self.dim, dtype=torch.float64), self.length + 1)

    @cached_property
    def tokens(self) -> Inexact[Tensor, "node length two"]:
        """e_1..e_T."""
        now = self.sequences[:, :-1]
        before = torch.cat([torch.zeros_like(now[:, :1]), now[:, :-1]], dim=1)
        return torch.cat([now, before], dim=-1)

    @cached_property
    def moments(self) -> Inexact[Tensor, "node row two two"]:
        """M_T for T = 2..length."""
        return torch.einsum("nti,ntj->ntij", self.tokens, self.tokens.conj()).cumsum(1)[:, 1:]

    @validated
    def losses(self, weights: LayerWeights) -> Float[Tensor, " row"]:
        """The loss at T = 2..length."""
        scores, values = weights.scores.to(self.tokens), weights.values.to(self.tokens)
        # All heads side by side as the columns of one product: the order of contraction matters for speed.
        scored = (self.tokens[:, 1:] @ scores.flatten(0, 1).mT).unflatten(-1, (len(scores), -1))
        mixed = (self.moments @ scored.mT).mT.flatten(-2)
        answers = mixed @ values.transpose(0, 1).flatten(1).mT
        return (answers - self.sequences[:, 2:]).abs().square().sum(-1).mean(0)

    @validated
    def loss(self, weights: LayerWeights) -> Float[Tensor, ""]:
        """The loss summed over lengths."""
        return self.losses(weights).sum()

    @validated
    def step(self, rate: float) -> LayerWeights:
        """One gradient step."""
        unit, zero = torch.eye(self.dim, dtype=torch.float64), torch.zeros(self.dim, self.dim, dtype=torch.float64)
        scores = torch.cat([torch.cat([zero, zero], 1), torch.cat([unit, zero], 1)])
        return LayerWeights(scores[None], rate * torch.cat([unit, zero], 1)[None])

    @validated
    def minimise(
        self, heads: int, seed: Seed, starts: int = 4, scale: float = 0.3, blocks: Blocks = "all"
    ) -> LayerWeights:
        """The best weights that L-BFGS finds from several starts.

        Args:
            heads: The number of heads.
            seed: The seed of the starts.
            starts: Their number.
            scale: The standard deviation of a starting weight.
            blocks: *all* blocks are free, or those that a gradient *step* uses; the others stay zero.

        Raises:
            InputError: If a number is not positive.
        """
        require_count("FreeLayer.minimise", "heads", heads, least=1)
        require_count("FreeLayer.minimise", "starts", starts, least=1)
        require_not_negative("FreeLayer.minimise", "scale", scale, zero=False)
        require_one_of("FreeLayer.minimise", "blocks", blocks, get_args(Blocks))
        free = self._free(heads, blocks)
        size = int(sum(part.sum() for part in (free.scores, free.values)))
        ends = [self._descended(free, scale * (seed / start).normal(size)) for start in range(starts)]
        return min(ends, key=lambda weights: self.loss(weights).item())

    def _free(self, heads: int, blocks: Blocks) -> LayerWeights:
        """One where a weight is trained, and zero elsewhere."""
        d, one = self.dim, 1.0 if blocks == "all" else 0.0
        scores = torch.full((heads, 2 * d, 2 * d), one, dtype=torch.float64)
        values = torch.full((heads, d, 2 * d), one, dtype=torch.float64)
        scores[:, d:, :d] = values[..., :d] = 1.0
        return LayerWeights(scores, values)

    def _descended(self, free: LayerWeights, start: Float[Tensor, " size"]) -> LayerWeights:
        """The end point of L-BFGS."""

        def weights(flat: Tensor) -> LayerWeights:
            scores, values = flat.split([int(free.scores.sum()), int(free.values.sum())])
            parts = ((free.scores, scores), (free.values, values))
            return LayerWeights(*(torch.zeros_like(m).masked_scatter(m.bool(), v) for m, v in parts))

        def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
            at = torch.from_numpy(flat).requires_grad_()
            loss = self.loss(weights(at))
            (slope,) = torch.autograd.grad(loss, at)
            return loss.item(), slope.numpy()

        options = {"maxiter": 2000, "maxcor": 40, "ftol": 1e-14, "gtol": 1e-8}
        result = scipy.optimize.minimize(value_and_slope, start.numpy(), jac=True, method="L-BFGS-B", options=options)
        return weights(torch.from_numpy(result.x))
