r"""Gain curves: by which factor each direction of the examples is fitted.

A learner that sees the examples through their moments answers :math:`\sum_k \frac{\phi(\sigma_k)}{\sigma_k} (Y^\top
u_k)(v_k \cdot x_q)` with the singular values and vectors of the inputs. Its gain :math:`\phi` is 1 for least squares,
:math:`\sigma^2 / (\sigma^2 + \lambda)` for ridge, :math:`1 - (1 - \eta \sigma^2 / n)^T` for descent, a step for
principal components. Here :math:`\phi` is whatever fits the answers best: linear between knots, by least squares, with
a band at 99 %; what it leaves says whether there is such a curve at all.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.identification.evidence import Evidence, LengthBlock
from insitu.identification.objective import Objective

__all__ = ["GainCurve", "gain_curves"]

# Knots at most; and singular values for each of them at least.
KNOTS, VALUES = 12, 6


@final
@dataclass(frozen=True)
class GainCurve:
    r"""The gain at one context length.

    Args:
        points: The context length.
        sizes: Singular values of the inputs, as :math:`\sigma / \sqrt n`.
        gains: The factor by which directions of these sizes are fitted.
        low: The lower ends of its intervals.
        high: The upper ends.
        unexplained: The share of the answers that no such curve explains.
    """

    points: int
    sizes: tuple[float, ...]
    gains: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    unexplained: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = zip(self.sizes, self.gains, self.low, self.high, strict=True)
        return {
            "points": self.points,
            "curve": [dict(zip(("size", "gain", "low", "high"), row, strict=True)) for row in rows],
            "unexplained": self.unexplained,
        }


def gain_curves(given: Evidence) -> list[GainCurve]:
    """The gain of the answers at every context length, the shortest first."""
    curves = [curve_of(Evidence((block,), given.diagnostics, given.kind)) for block in given.blocks]
    return sorted((curve for curve in curves if curve is not None), key=lambda curve: curve.points)


def curve_of(given: Evidence) -> GainCurve | None:
    """The gain at the one length of the evidence; none where the inputs are too few or all zero."""
    (block,) = given.blocks
    places = knots(block)
    if len(places) < 2:
        return None
    objective = Objective(given)
    columns = torch.stack([block.view.with_gains(row) for row in hats(block, places)], dim=-1)
    root = objective.roots[0]
    # A prompt whose answers run away counts as much as another one, and no more.
    table = (root[..., None] * columns).flatten(0, 2)
    goal = (root * block.answers).flatten()
    gains = torch.linalg.lstsq(table, goal[:, None], driver="gelsd").solution[:, 0]
    half = objective.half_widths(table @ gains - goal, table)
    missed = (table @ gains - goal).square().sum() / goal.square().sum().clamp(min=1e-300)
    sizes = (places / block.view.prompt.points**0.5).tolist()
    low, high = tuple((gains - half).tolist()), tuple((gains + half).tolist())
    return GainCurve(block.view.prompt.points, tuple(sizes), tuple(gains.tolist()), low, high, missed.item())


def knots(block: LengthBlock) -> Float[Tensor, " knot"]:
    """Quantiles of the singular values."""
    sizes, kept, _ = block.view.spectrum
    values = sizes[kept].sort().values
    count = min(KNOTS, len(values) // VALUES)
    if count < 2:
        return values[:0]
    return torch.quantile(values, torch.linspace(0, 1, count, dtype=values.dtype)).unique()


def hats(block: LengthBlock, places: Float[Tensor, " knot"]) -> Float[Tensor, "knot batch size"]:
    """For each knot the gains over singular values of the function that is 1 there and 0 at the other knots."""
    sizes, kept, _ = block.view.spectrum
    right = torch.searchsorted(places, sizes.contiguous()).clamp(1, len(places) - 1)
    low, high = places[right - 1], places[right]
    share = ((sizes - low) / (high - low)).clamp(0, 1)
    index = torch.arange(len(places))[:, None, None]
    height = torch.where(index == right, share, 0.0) + torch.where(index == right - 1, 1 - share, 0.0)
    return height / torch.where(kept, sizes, 1.0)
