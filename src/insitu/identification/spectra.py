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

__all__ = ["PromptView"]


@final
@dataclass(frozen=True, eq=False)
class PromptView:
    """Prompts in float64, with their decompositions made when they are first asked for.

    Args:
        prompt: The prompts.
        offset: What is added to every answer that is made of gains.
    """

    prompt: Prompt
    offset: Float[Tensor, "batch 1 out"] | None = None

    def part(self, rows: Tensor) -> "PromptView":
        """Some of the prompts; what has been computed is kept."""
        p = self.prompt
        kept = PromptView(Prompt(p.xs[rows], p.ys[rows], p.queries[rows]))
        for name in ("spectrum", "distances", "gaps", "labels"):
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
        self.__dict__["labels"] = p.ys.mT @ left
        return sizes, kept, self.labels[:, None] * (p.queries @ right.mT)[:, :, None]

    @cached_property
    def labels(self) -> Float[Tensor, "batch out size"]:
        """The labels along the left singular vectors."""
        _ = self.spectrum
        labels: Tensor = self.__dict__["labels"]
        return labels

    @cached_property
    def centred(self) -> "PromptView":
        """The same prompts with the means of inputs and labels taken off; answers get that of the labels back."""
        p = self.prompt
        x, y = p.xs.mean(1, keepdim=True), p.ys.mean(1, keepdim=True)
        return PromptView(Prompt(p.xs - x, p.ys - y, p.queries - x), y)

    @cached_property
    def extended(self) -> "PromptView":
        """The same prompts with one coordinate more, which is always 1."""
        p = self.prompt
        one = p.xs.new_ones(())
        xs, queries = (torch.cat([t, one.expand(*t.shape[:2], 1)], dim=2) for t in (p.xs, p.queries))
        return PromptView(Prompt(xs, p.ys, queries))

    @cached_property
    def gaps(self) -> Float[Tensor, "batch point point"]:
        """Distances of examples from one another."""
        xs = self.prompt.xs
        return torch.cdist(xs, xs, compute_mode="donot_use_mm_for_euclid_dist")

    @cached_property
    def distances(self) -> Float[Tensor, "batch query point"]:
        """Squared distances of queries from examples."""
        return squared_distances(self.prompt)

    def with_gains(self, gains: Float[Tensor, "*place batch size"]) -> Float[Tensor, "*place batch query out"]:
        """The answers of a learner that is told by its gains, for many sets of gains at once."""
        _, kept, parts = self.spectrum
        answers = torch.einsum("bqok,...bk->...bqo", parts, torch.where(kept, gains, 0.0))
        return answers if self.offset is None else answers + self.offset

    def condition(self) -> Float[Tensor, " batch"]:
        """The condition number of the examples within their span."""
        sizes, kept, _ = self.spectrum
        return sizes[:, 0] / torch.where(kept, sizes, torch.inf).amin(-1).clamp(max=sizes[:, 0])

    @cached_property
    def size(self) -> float:
        """The median over prompts of the mean square of an input's coordinates."""
        return self.prompt.xs.square().mean((1, 2)).median().item()
