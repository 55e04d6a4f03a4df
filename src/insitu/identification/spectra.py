r"""Prompts as the candidates see them: what many learners share is computed once per prompt.

With the singular value decomposition :math:`X = \sum_k \sigma_k u_k v_k^\top` of the examples, every learner that is
a function of the moments answers :math:`\sum_k \gamma(\sigma_k) (Y^\top u_k) (v_k \cdot x_q)` with gains
:math:`\gamma` of its own: :math:`1/\sigma` for least squares, :math:`\sigma / (\sigma^2 + \lambda)` for ridge,
:math:`(1 - (1 - \eta\sigma^2/n)^T) / \sigma` for T steps of gradient descent.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from insitu.learners.neighbours import squared_distances
from insitu.prompt import Prompt

__all__ = ["View"]


@final
@dataclass(frozen=True, eq=False)
class View:
    """Prompts in float64, with their decompositions made when they are first asked for."""

    prompt: Prompt

    def part(self, rows: Tensor) -> "View":
        """Some of the prompts; what has been computed is kept."""
        p = self.prompt
        kept = View(Prompt(p.xs[rows], p.ys[rows], p.queries[rows]))
        for name in ("spectrum", "distances"):
            if name in self.__dict__:
                value = self.__dict__[name]
                kept.__dict__[name] = tuple(t[rows] for t in value) if isinstance(value, tuple) else value[rows]
        return kept

    @cached_property
    def spectrum(self) -> tuple[Float[Tensor, "batch size"], Bool[Tensor, "batch size"], Tensor]:
        """Singular values, which of them are not zero, and the parts ``(batch, query, out, size)`` of the answers."""
        p = self.prompt
        left, sizes, right = torch.linalg.svd(p.xs, full_matrices=False)
        kept = sizes > torch.finfo(sizes.dtype).eps * max(p.xs.shape[-2:]) * sizes[:, :1]
        labels, asked = p.ys.mT @ left, p.queries @ right.mT
        return sizes, kept, labels[:, None] * asked[:, :, None]

    @cached_property
    def distances(self) -> Float[Tensor, "batch query point"]:
        """Squared distances of queries from examples."""
        return squared_distances(self.prompt)

    def with_gains(self, gains: Float[Tensor, "*place batch size"]) -> Float[Tensor, "*place batch query out"]:
        """The answers of a learner that is told by its gains, for many sets of gains at once."""
        _, kept, parts = self.spectrum
        return torch.einsum("bqok,...bk->...bqo", parts, torch.where(kept, gains, 0.0))

    def condition(self) -> Float[Tensor, " batch"]:
        """The condition number of the examples within their span."""
        sizes, kept, _ = self.spectrum
        return sizes[:, 0] / torch.where(kept, sizes, torch.inf).amin(-1).clamp(max=sizes[:, 0])

    @cached_property
    def size(self) -> float:
        """The median over prompts of the mean square of an input's coordinates."""
        return self.prompt.xs.square().mean((1, 2)).median().item()
