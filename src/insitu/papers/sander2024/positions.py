"""Attention whose positions alone are trained."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, heatmap, line
from insitu.metrics import Estimate
from insitu.papers.sander2024.steps import CONTEXTS
from insitu.theory.sequences.diagonal_heads import Commuting, DiagonalHeads, HeadWeights
from insitu.theory.sequences.position_attention import PositionDescent, Positions, arc_moments, sample_moments

__all__ = ["CLAIMS", "Arcs", "Plain"]

# The quantities that measurements estimate and rules decide.
LOSS_DISTANCE = "largest distance of a loss from the stated one"
POSITION_DISTANCE = "largest distance of a position from the stated one"
SAMPLING_DISTANCE = "largest distance of a position on samples"
DIAGONAL_RISE = "largest rise of the diagonal entry with μ"


def diagonal_entry(concentration: int) -> str:
    return f"diagonal entry of the last row, μ = {concentration}"


def superdiagonal_entry(concentration: int) -> str:
    return f"superdiagonal entry of the last row, μ = {concentration}"


@dataclass(frozen=True)
class Plain:
    """Sizes of problems whose heads are all ones."""

    dims: tuple[int, ...]
    length: int


@dataclass(frozen=True)
class Arcs:
    """The recipe of the positional experiment: angles on arcs, descent that stops early.

    Args:
        concentrations: How many arcs make the circle.
        length: The number of inputs.
        batch: Sequences of a sampled run.
        rate: The step size.
        stop: The loss at which descent stops.
        most: After how many steps it stops at the latest.
    """

    concentrations: tuple[int, ...] = (50, 100, 200, 300)
    length: int = 30
    batch: int = 1000
    rate: float = 0.5
    stop: float = 1e-3
    most: int = 100_000


def ones(problem: DiagonalHeads, positions: Tensor) -> HeadWeights:
    """One head with A = B = I on tokens that only share a scalar weight: C is all ones."""
    unit = torch.ones(1, problem.dim, dtype=torch.float64)
    return HeadWeights(unit, unit, positions)


def stationary_positions(problem: DiagonalHeads, visible: int) -> Tensor:
    """The positions where the gradient of the loss vanishes, by least squares on its affine map."""
    zero = torch.zeros(problem.rows, problem.length, dtype=torch.float64)
    offset = problem.gradient(ones(problem, zero)).positions
    positions = zero.clone()
    for row in range(problem.rows):
        columns = range(min(problem.length, row + 1 + visible))
        slopes = []
        for column in columns:
            moved = zero.clone()
            moved[row, column] = 1.0
            slopes.append((problem.gradient(ones(problem, moved)).positions - offset)[row])
        matrix = torch.stack(slopes, dim=1)[: len(columns)]
        answer = torch.linalg.lstsq(matrix, -offset[row, : len(columns), None], driver="gelsd").solution
        positions[row, : len(columns)] = answer[:, 0]
    return positions


def closed_form(context: Commuting, dim: int) -> tuple[float, float, float]:
    """The last position, the one before it, and the loss."""
    if context == "unitary":
        return 1 / dim, 0.0, dim - 1
    return 1 / (dim - 1), -1 / (dim * (dim - 1)), dim * (dim - 2) / (dim - 1)


def positions_alone_have_an_optimum(run: Run, *, visible: int = 1) -> Measurement:
    """Stationary positions and their loss against the closed forms."""
    setting: Plain = run.setting
    gaps, losses, lines, panels = [], [], [], []
    for colour, context in enumerate(CONTEXTS):
        heights = []
        for dim in setting.dims:
            problem = DiagonalHeads(dim, setting.length, context)
            positions = stationary_positions(problem, visible)
            last, before, loss = closed_form(context, dim)
            rows = torch.arange(problem.rows)
            expected = torch.zeros_like(positions)
            expected[rows, rows + 1], expected[rows, rows] = last, before
            gaps.append((positions - expected).abs().max().item())
            least = problem.loss(ones(problem, positions)).item() / problem.rows
            losses.append(abs(least - loss))
            heights.append(least / dim)
        lines.append(line(context, setting.dims, heights, colour=colour))
        panels.append(Panel("key", "query", heatmap=heatmap(positions), title=f"P, {context}, d = {dim}"))
    figure = Figure(
        (*panels, Panel("dimension d", "least loss per coordinate", tuple(lines))),
        "Trained positions alone: the optimal P and its loss.",
        "P on its superdiagonal, with a small negative diagonal for pairs; losses rise towards one with the dimension.",
    )
    estimates = {
        POSITION_DISTANCE: Estimate(max(gaps)),
        LOSS_DISTANCE: Estimate(max(losses)),
    }
    return Measurement(estimates, figure)


def recipe(setting: Arcs, moments: Float[Tensor, " lag"]) -> PositionDescent:
    """The descent of the released code."""
    return Positions(moments).descend(setting.rate, setting.stop, setting.most)


def concentration_broadens_positions(
    run: Run, *, descent: Callable[[Arcs, Float[Tensor, " lag"]], PositionDescent] = recipe
) -> Measurement:
    """The last row of P after descent on exact moments, beside a run on samples."""
    setting: Arcs = run.setting
    estimates, rows, images, notes = {}, [], [], []
    sampled_gap, diagonals = 0.0, []
    for colour, concentration in enumerate(setting.concentrations):
        exact = descent(setting, arc_moments(setting.length, concentration))
        angles = 2 * torch.pi / concentration * (run.seed / concentration).uniform(setting.batch)
        sampled = recipe(setting, sample_moments(setting.length, angles))
        sampled_gap = max(sampled_gap, (exact.positions - sampled.positions).abs().max().item())
        last = exact.positions[-1]
        diagonals.append(last[-2].item())
        estimates[diagonal_entry(concentration)] = Estimate(last[-2].item())
        estimates[superdiagonal_entry(concentration)] = Estimate(last[-1].item())
        places = list(range(1, setting.length + 1))
        rows.append(line(f"μ = {concentration}", places, last, colour=colour))
        rows.append(line("", places, sampled.positions[-1], look="points", colour=colour))
        visible = torch.where(torch.ones_like(exact.positions).tril(1) > 0, exact.positions, torch.nan)
        images.append(Panel("key", "query", heatmap=heatmap(visible), title=f"P, μ = {concentration}"))
        steps = f"{exact.steps} steps, {sampled.steps} on samples"
        notes.append(f"μ = {concentration}: {steps}; the last row sums to {last.sum():.3f}.")
    estimates[SAMPLING_DISTANCE] = Estimate(sampled_gap)
    rises = [b - a for a, b in pairwise(diagonals)]
    estimates[DIAGONAL_RISE] = Estimate(max(rises))
    figure = Figure(
        (*images, Panel("key", "weight in the last row", tuple(rows))),
        "Positions after descent that stops early, for eigenvalues on smaller and smaller arcs; points are a run on "
        "samples. The paper's figure hides the superdiagonal.",
        "Images of P that broaden around the diagonal with the concentration, and their last rows.",
    )
    return Measurement(estimates, figure, tuple(notes))


# Diagonal entries of the released arrays; superdiagonal ones of an earlier run here, as the released are masked.
DIAGONAL = {50: 0.334, 100: 0.242, 200: 0.183, 300: 0.132}
SUPERDIAGONAL = {50: 0.456, 100: 0.288, 200: 0.205, 300: 0.140}

CLAIMS = (
    Claim(
        id="sander2024.positions-alone-have-an-optimum",
        statement="With A = B = I and trained positions, the optimum is p_T = 1/d for independent eigenvalues, and "
        "p_T = 1/(d − 1) with p_{T−1} = −1/(d(d − 1)) for conjugate pairs. The least losses are d − 1 and d(d − 2)/(d "
        "− 1).",
        source="Positional encoding attention only; derived here",
        rules=(
            Rule(POSITION_DISTANCE, high=1e-10),
            Rule(LOSS_DISTANCE, high=1e-10),
        ),
        measure=positions_alone_have_an_optimum,
        quick=Plain(dims=(2, 4, 6, 10), length=8),
        full=Plain(dims=(2, 4, 6, 10, 20, 32), length=20),
        quick_seconds=0.052,
        full_hours=0.001,
    ),
    Claim(
        id="sander2024.concentration-broadens-positions",
        statement="For eigenvalues on a small arc, gradient descent on positions with early stopping finds a broad "
        "kernel, although the last entry alone has zero loss. The smaller the arc, the broader the kernel.",
        source="Figure 6, positional encoding attention only",
        rules=(
            *(
                Rule(diagonal_entry(mu), value - 0.01, value + 0.01, printed=f"{value}")
                for mu, value in DIAGONAL.items()
            ),
            *(Rule(superdiagonal_entry(mu), value - 0.01, value + 0.01) for mu, value in SUPERDIAGONAL.items()),
            Rule(DIAGONAL_RISE, high=0.0),
            Rule(SAMPLING_DISTANCE, high=0.02),
        ),
        measure=concentration_broadens_positions,
        quick=Arcs(),
        full=Arcs(),
        quick_seconds=0.55,
        full_hours=0.001,
    ),
)
