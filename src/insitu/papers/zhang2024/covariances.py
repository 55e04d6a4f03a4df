"""Covariances that vary between prompts: the limit of gradient flow, and why one layer fails."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.learners import LeastSquares
from insitu.metrics import Estimate
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.theory.one_layer.random_covariance import (
    DiagonalCovariances,
    best_product,
    initialisation_limit,
    product_loss,
)

__all__ = ["CLAIMS", "Draws", "Laws"]

# The quantities that measurements estimate and rules decide.
FIRST_ORDER_CHANGE = "largest change of loss to first order at the solved minimum"
OFF_DIAGONAL = "largest off-diagonal entry at the end"
FINAL_DISTANCE = "largest relative distance at the end"
LOSS_RATIO = "least loss of the diagonal formula over the least loss"
LEAST_SQUARES_ERROR = "relative error of least squares"
LIMIT_ERROR = "relative error, exact limit"
SAMPLED_ERROR = "relative error, sampled"
ANSWER_SLOPE = "slope of the answers on the truth"
PRODUCT_DEVIATION = "u U over 2 / (6 + (2d + 10)/N), largest deviation from 1"

EXPONENTIAL = (1.0, 2.0, 6.0)


@dataclass(frozen=True)
class Laws:
    """Problems with exponential eigenvalues.

    Args:
        dims: Their dimensions.
        lengths: Their training lengths.
        horizon: How long to flow.
    """

    dims: tuple[int, ...]
    lengths: tuple[int, ...]
    horizon: float = 1e4


@dataclass(frozen=True)
class Draws:
    """Sampled covariances, and the length of sampled prompts."""

    count: int
    dim: int = 3
    length: int = 6


def exponential(dim: int, length: int | float) -> DiagonalCovariances:
    return DiagonalCovariances.from_moments(torch.tensor(EXPONENTIAL, dtype=torch.float64).expand(dim, 3), length)


def flow_reaches_the_limit(
    run: Run, *, target: Callable[[DiagonalCovariances], tuple[Tensor, Tensor]] = DiagonalCovariances.global_minimum
) -> Measurement:
    """The end of every flow against the corrected closed form, started below the theorem's scale."""
    setting: Laws = run.setting
    distances, shares, others, lines = [], [], [], []
    times = torch.cat([torch.zeros(1).double(), torch.logspace(-3, math.log10(setting.horizon), 60).double()])
    for colour, (dim, length) in enumerate(zip(setting.dims, setting.lengths, strict=True)):
        law = exponential(dim, length)
        shape = (run.seed / dim / "shape").normal(dim, dim)
        spectra = -(1 - (run.seed / dim / "spectra").uniform(20_000, dim)).log()
        scale = 0.5 * initialisation_limit(shape, spectra.clamp(min=1e-12), length)
        start = shape @ shape.T
        start = scale * start / torch.linalg.matrix_norm(start)
        path = law.flow(start, torch.tensor(scale, dtype=torch.float64), times)
        matrix, scalar = target(law)
        distance = torch.linalg.matrix_norm(path.matrices - matrix) / torch.linalg.matrix_norm(matrix)
        distance = torch.maximum(distance, (path.scalars / scalar - 1).abs())
        distances.append(distance[-1].item())
        product = path.scalars[-1] * path.matrices[-1]
        shares.append((product.diagonal() * (6 + (2 * dim + 10) / length) / 2 - 1).abs().max().item())
        others.append((product - torch.diag(product.diagonal())).abs().max().item())
        lines.append(line(f"d={dim}, N={length}", times[1:], distance[1:].clamp(min=1e-17), colour=colour))
    figure = Figure(
        (Panel("time", "relative distance to the closed form", tuple(lines), x_scale="log", y_scale="log"),),
        "Gradient flow on prompts whose covariance is diagonal with exponential entries, against its limit.",
        "Curves that fall steeply to the precision of the integration.",
    )
    estimates = {
        FINAL_DISTANCE: Estimate(max(distances)),
        PRODUCT_DEVIATION: Estimate(max(shares)),
        OFF_DIAGONAL: Estimate(max(others)),
    }
    return Measurement(estimates, figure)


def varying_covariance_is_not_learned(
    run: Run, *, learned: Callable[[int], Tensor] = lambda dim: torch.diag(exponential(dim, math.inf).best_diagonal())
) -> Measurement:
    """Long prompts with exponential covariances: slope on independent queries, error on their own, least squares."""
    setting: Draws = run.setting
    dim = setting.dim
    scales = (-(1 - (run.seed / "scales").uniform(setting.count, dim)).log()).clamp(min=1e-12)
    roots = scales.sqrt()[:, None]
    xs = (run.seed / "inputs").normal(setting.count, setting.length, dim) * roots
    weights = (run.seed / "weights").normal(setting.count, dim, 1)
    moment = (xs * (xs @ weights)).mean(1) @ learned(dim)
    free = (run.seed / "free").normal(setting.count, dim)
    queries = (run.seed / "queries").normal(setting.count, 1, dim) * roots
    truth, free_truth = (queries @ weights)[:, 0, 0], (free * weights[:, :, 0]).sum(-1)
    answers = (queries[:, 0] * moment).sum(-1)
    least_squares = LeastSquares().predict(Prompt(xs, xs @ weights, queries))[:, 0, 0]
    error = 2 * exponential(dim, math.inf).loss(learned(dim)).item() / dim
    figure = Figure(
        (
            Panel(
                "truth",
                "answer",
                (
                    line("layer", free_truth[:200], (free * moment).sum(-1)[:200], look="points"),
                    line("slope 1/3", (-3.0, 3.0), (-1.0, 1.0), look="dashed", colour=-1),
                    line("truth", (-3.0, 3.0), (-3.0, 3.0), look="dotted", colour=-1),
                ),
            ),
        ),
        f"Answers to independent queries after prompts of {setting.length} examples, each with its own covariance.",
        "A cloud around a line of slope one third, well below the diagonal.",
    )
    estimates = {
        ANSWER_SLOPE: Estimate.ratio((free * moment).sum(-1) * free_truth, free_truth.square()),
        SAMPLED_ERROR: Estimate.ratio((answers - truth).square(), truth.square()),
        LIMIT_ERROR: Estimate(error),
        LEAST_SQUARES_ERROR: Estimate(((least_squares - truth).square().mean() / truth.square().mean()).item()),
    }
    return Measurement(estimates, figure)


def wishart(seed: Seed, count: int, dim: int) -> Tensor:
    """Covariances of random directions around an anisotropic mean."""
    scale = torch.linspace(2.0, 0.5, dim, dtype=torch.float64).sqrt()
    root = scale[:, None] * seed.normal(count, dim, dim + 1)
    covariances = root @ root.mT / (dim + 1) + 0.05 * torch.eye(dim, dtype=torch.float64)
    return (covariances + covariances.mT) / 2


def printed_product(covariances: Tensor, length: int) -> Tensor:
    """The formula of theorem 4.5 read for any covariances."""
    trace = covariances.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    keyed = ((1 + 1 / length) * covariances @ covariances + trace / length * covariances) @ covariances
    return torch.linalg.solve(keyed.mean(0), (covariances @ covariances).mean(0))


def formula_needs_diagonals(run: Run, *, law: Callable[[Seed, int, int], Tensor] = wishart) -> Measurement:
    """The loss of the theorem's formula over the least loss, on covariances that do not commute."""
    setting: Draws = run.setting
    shares, slopes, lengths = [], [], (2, 6, 20, 100)
    matrices = law(run.seed / "law", setting.count, setting.dim)
    for length in lengths:
        best = best_product(matrices, length)
        least = product_loss(best, matrices, length)
        shares.append(product_loss(printed_product(matrices, length), matrices, length) / least)
        move = 1e-4 * (run.seed / "move" / length).normal(setting.dim, setting.dim)
        ends = [product_loss(best + s * move, matrices, length) for s in (1, -1)]
        slopes.append(abs(ends[0] - ends[1]) / least)
    figure = Figure(
        (
            Panel(
                "training length N",
                "loss / least loss",
                (
                    line("formula for diagonals", lengths, shares),
                    line("least loss", lengths, [1.0] * len(lengths), look="dashed", colour=-1),
                ),
                x_scale="log",
            ),
        ),
        f"Loss of theorem 4.5's formula on {setting.count} Wishart covariances over the loss of the solved minimum.",
        "A curve above one at every length.",
    )
    estimates = {
        LOSS_RATIO: Estimate(min(shares)),
        FIRST_ORDER_CHANGE: Estimate(max(slopes)),
    }
    return Measurement(estimates, figure)


CLAIMS = (
    Claim(
        id="zhang2024.random-covariance-flow-reaches-its-limit",
        statement="Trained on prompts with random diagonal covariances, gradient flow converges to one fixed diagonal "
        "matrix, E[Λ²] E[ΓΛ²]⁻¹.",
        source="Theorem 4.5, equations 4.12 and C.4; the limit of u as corrected",
        rules=(
            Rule(FINAL_DISTANCE, high=1e-8),
            Rule(PRODUCT_DEVIATION, high=1e-8),
            Rule(OFF_DIAGONAL, high=1e-8),
        ),
        measure=flow_reaches_the_limit,
        quick=Laws((3, 5, 20), (6, 10, 40)),
        full=Laws((3, 5, 10, 20, 40), (6, 10, 4, 40, 100)),
        quick_seconds=0.044,
        full_hours=0.001,
    ),
    Claim(
        id="zhang2024.random-covariances-are-not-learned",
        statement="With exponential eigenvalues and infinitely long prompts, the layer answers a third of the truth "
        "on average, with a relative error of one third. Least squares makes no error.",
        source="Section 4.3, equation 4.13; the error is derived",
        rules=(
            Rule(ANSWER_SLOPE, low=0.3, high=0.367, printed="1/3"),
            Rule(SAMPLED_ERROR, low=0.27, high=0.4),
            Rule(LIMIT_ERROR, low=1 / 3 - 1e-9, high=1 / 3 + 1e-9),
            Rule(LEAST_SQUARES_ERROR, high=1e-9),
        ),
        measure=varying_covariance_is_not_learned,
        quick=Draws(count=16_000, dim=4, length=400),
        full=Draws(count=100_000, dim=4, length=1000),
        quick_seconds=2.6,
        full_hours=0.01,
    ),
    Claim(
        id="zhang2024.diagonal-formula-needs-diagonals",
        statement="On random covariances that are not diagonal, the fixed matrix of theorem 4.5 is not the minimum: "
        "the solution of the linear system for the minimum has a smaller loss.",
        source="Beyond theorem 4.5; derived",
        rules=(
            Rule(LOSS_RATIO, low=1.0001),
            Rule(FIRST_ORDER_CHANGE, high=1e-10),
        ),
        measure=formula_needs_diagonals,
        quick=Draws(count=2000),
        full=Draws(count=50_000),
        quick_seconds=0.034,
        full_hours=0.001,
    ),
)
