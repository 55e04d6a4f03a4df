"""The weighted squared error of answers, bounded for every prompt, and what it says of the numbers behind them."""

import functools
import itertools
import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from insitu.identification.evidence import Evidence
from insitu.identification.scoring import Noise, noise_of
from insitu.metrics.estimate import CONFIDENCE

__all__ = ["Affine", "Objective", "Residual", "finite"]

Residual = Float[Tensor, "*place entry"]


# Half the width of an interval is never shown smaller than this: nothing is known to the last digit.
LEAST = 1e-14
# What others say of a number that one prompt determines alone, as a share.
ALONE = 1e-6
HUGE, TINY = 1e150, 1e-300


class Objective:
    """The weighted squared error of answers on the prompts of the evidence.

    Args:
        given: The prompts with their answers.
        noise: The noise of the answers, where more prompts than these tell it.
    """

    def __init__(self, given: Evidence, noise: Noise | None = None) -> None:
        self.evidence = given
        if noise is not None:
            self.noise = noise
        shape = given.blocks[0].answers.shape[1:]
        self.weights, self.shares = given.weights()
        self.roots = [(w / shape.numel()).sqrt()[:, None, None] for w in self.weights]
        # Prompts whose copies are one cluster, numbered through all blocks.
        starts = itertools.accumulate((int(b.copies.max()) + 1 for b in given.blocks), initial=0)
        self.clusters = torch.cat([b.copies + s for b, s in zip(given.blocks, starts, strict=False)])
        self.entries = shape.numel()
        # What a prompt counts at most, and what each of its entries counts then.
        self.bounds = torch.cat(self.shares)[:, None]
        self.lost = (self.bounds / self.entries).sqrt()

    @cached_property
    def noise(self) -> Noise:
        """The noise of the answers; that of these prompts where no other is given."""
        return noise_of(self.evidence)

    def residual(self, answers: Sequence[Tensor]) -> Residual:
        """The weighted differences, all prompts in one vector; for many sets of answers, a vector for each."""
        pairs = zip(self.roots, answers, self.evidence.blocks, strict=True)
        return torch.cat([(root * (g - block.answers)).flatten(-3) for root, g, block in pairs], dim=-1)

    def bounded(self, answers: Sequence[Tensor]) -> Residual:
        r"""The weighted differences, no prompt counting for more than its weight.

        The squared relative error x of a prompt counts as x / (1 + x), so that a few prompts on which an iteration
        runs away do not hide how good it is on the others.
        """
        return self.bounded_residual(self.residual(answers))

    def bounded_residual(self, residual: Residual) -> Residual:
        """The same for differences that are weighted already."""
        each = residual.unflatten(-1, (-1, self.entries))
        error = each.square().sum(-1, keepdim=True) / self.bounds
        found = each * (1 + error).rsqrt()
        if not math.isfinite(error.sum().item()):
            found = torch.where(error.isfinite(), found, self.lost)
        return found.flatten(-2)

    def expected(self, squares: Sequence[Float[Tensor, " _"]]) -> float:
        """What mean squared errors, one for each prompt, add up to."""
        return sum((w * square).sum().item() for w, square in zip(self.weights, squares, strict=True))

    def variances(self) -> Residual:
        """What noise of the answers adds to the variance of every weighted difference."""
        variance, pairs = self.noise.variance, zip(self.roots, self.evidence.blocks, strict=True)
        parts = [root.square() * variance[b.group][:, None, None].expand_as(b.answers) for root, b in pairs]
        return torch.cat([part.flatten() for part in parts])

    def rounding(self) -> float:
        """What rounding of the answers alone may leave."""
        return self.expected([block.rounding for block in self.evidence.blocks])

    def floor(self) -> float:
        """What is left where nothing is made of a difference."""
        return self.expected([block.floor for block in self.evidence.blocks])

    def per_prompt(self, residual: Residual) -> Float[Tensor, " cluster"]:
        """The squared error by prompt, copies together."""
        each = residual.view(-1, self.entries).square().sum(1)
        return each.new_zeros(int(self.clusters.max()) + 1).index_add_(0, self.clusters, each)

    def half_widths(
        self,
        residual: Residual,
        slopes: Float[Tensor, "entry number"],
        curvature: Float[Tensor, "number number"] | None = None,
    ) -> Float[Tensor, " number"]:
        """Half the width of the interval of every number, sampling error and rounding together.

        The sampling error is the sandwich formula with one score for each prompt as if the numbers had been fitted
        without it (Bell and McCaffrey, 2002): where a few prompts tell most, their own residuals are too small.

        ``curvature`` is half the second derivative of the loss, where the residual is not nearly linear.
        """
        count = slopes.shape[1]
        if not count:
            return slopes.new_zeros(0)
        bread = slopes.mT @ slopes if curvature is None else curvature
        information = torch.linalg.pinv(bread, hermitian=True)
        scores = self.left_out(residual, slopes)
        freedom = max(len(scores) - count, 1)
        spread = information @ (scores.mT @ scores) @ information
        quantile = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
        loss = finite(residual)
        # What is left below the floor is rounding of the model's own, whatever the answers' precision says.
        moved = ((loss if self.rounding() < loss <= self.floor() else self.rounding()) * information.diagonal()).clamp(
            min=0
        )
        half = (quantile * spread.diagonal().clamp(min=0).sqrt() + moved.sqrt()).clamp(min=LEAST)
        # A number that moves nothing is not determined at all.
        return torch.where(information.diagonal() > 0, half, torch.inf)

    def left_out(self, residual: Residual, slopes: Float[Tensor, "entry number"]) -> Float[Tensor, "cluster number"]:
        r"""The score of every prompt, copies together, with the residual that a fit without it would leave.

        With slopes :math:`J_i` and residual :math:`r_i` of a prompt it is :math:`(1 - J_i^\top J_i A^{-1})^{-1}
        J_i^\top r_i`, where A is the sum of all :math:`J_i^\top J_i`.
        """
        count = slopes.shape[1]
        each = slopes.view(-1, self.entries, count)
        scores = (each * residual.view(-1, self.entries, 1)).sum(1)
        clusters = self.clusters.unique(return_inverse=True)[1]
        size = int(clusters.max()) + 1
        summed = scores.new_zeros(size, count).index_add_(0, clusters, scores)
        products = scores.new_zeros(size, count, count).index_add_(0, clusters, each.mT @ each)
        # A prompt that alone determines a number would leave anything.
        rest = (1 + ALONE) * torch.eye(count, dtype=scores.dtype) - products @ torch.linalg.pinv(
            slopes.mT @ slopes, hermitian=True
        )
        return torch.linalg.solve(rest, summed)


class Affine(Objective):
    r"""The same for answers that may be :math:`a\,g + b` instead of g: the best factor and offset, every time."""

    def residual(self, answers: Sequence[Tensor]) -> Residual:
        factor, offset = self.map(answers)
        return super().residual([factor * g + offset for g in answers])

    def map(self, answers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The factor and the offset that bring answers nearest; one of each for every set of answers.

        An offset is one number for each output, the factor one for all of them.
        """
        given = [block.answers for block in self.evidence.blocks]
        weights = [root.square() for root in self.roots]
        total = sum(w.sum() * g.shape[1] for w, g in zip(weights, given, strict=True))
        mean = functools.partial(weighted_mean, weights, total)
        finite_answers = [g.nan_to_num(0.0, 0.0, 0.0).clamp(-HUGE, HUGE) for g in answers]
        centre, middle = mean(finite_answers), mean(given)
        moved = [g - centre[..., None, None, :] for g in finite_answers]
        product = mean([m * (f - middle) for m, f in zip(moved, given, strict=True)]).sum(-1)
        square = mean([m.square() for m in moved]).sum(-1)
        factor = product / square.clamp(min=TINY)
        offset = middle - factor[..., None] * centre
        return factor[..., None, None, None], offset[..., None, None, :]


def weighted_mean(weights: Sequence[Tensor], total: Tensor | float, values: Sequence[Tensor]) -> Tensor:
    """The mean over prompts and queries of numbers in blocks, whose weights add up to ``total``."""
    return torch.stack([(w * v).sum((-3, -2)) for w, v in zip(weights, values, strict=True)]).sum(0) / total


def finite(residual: Residual) -> float:
    """The sum of squares; infinite where it is not a number."""
    value = residual.square().sum().item()
    return value if math.isfinite(value) else math.inf
