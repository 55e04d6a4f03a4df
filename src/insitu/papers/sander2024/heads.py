"""Attention with positions on plain tokens, for independent eigenvalues."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, heatmap, line
from insitu.metrics import Estimate
from insitu.papers.sander2024.steps import CONTEXTS, parts
from insitu.tasks import conjugate_pairs
from insitu.theory.sequences.diagonal_heads import Commuting, DiagonalHeads, HeadWeights
from insitu.theory.sequences.head_minima import Minimum, descend, minima, random_heads

__all__ = ["CLAIMS", "Descents", "Problems", "Samples", "independent_minima"]

# The quantities that measurements estimate and rules decide.
LOSS_DISTANCE = "largest distance of a loss from d − H"
IDENTITY_DISTANCE = "largest distance of p C from the identity"
PROJECTOR_DISTANCE = "largest distance of the applied matrix from a projector"
STRAY_EFFECT = "largest effect of P off its superdiagonal, relative"
STRAY_ENTRY = "largest entry of P off its superdiagonal, relative, d heads"
FINAL_LOSS = "largest final loss, summed"
FEW_HEADS_MIXING = "largest mixing of at most d heads"
LARGEST_SCALE = "largest |c|³ over (T − 1)/d"
RELEASED_RATIO = "released formula over the sampled loss, smallest"
LOSS_RATIO = "sampled over exact loss, farthest from 1"
MANY_HEADS_MIXING = "smallest mixing of more than d heads"
SMALLEST_SCALE = "smallest |c|³ over (T − 1)/d"


@dataclass(frozen=True)
class Samples:
    """Problems whose loss is sampled at random weights."""

    sizes: tuple[tuple[int, int], ...]
    heads: int
    batch: int


@dataclass(frozen=True)
class Problems:
    """Problems that are minimised from many starts.

    Args:
        dim: The number of eigenvalues.
        length: The greatest length.
        heads: The numbers of heads.
        starts: Starts for each.
    """

    dim: int
    length: int
    heads: tuple[int, ...]
    starts: int


@dataclass(frozen=True)
class Descents:
    """Plain gradient descent on the exact loss, the recipe of the released code."""

    dim: int
    length: int
    heads: int
    rate: float
    steps: int
    starts: int


def exact_losses(problem: DiagonalHeads, heads: HeadWeights) -> Tensor:
    return problem.losses(heads.merged, heads.positions)


def squared_errors(problem: DiagonalHeads, heads: HeadWeights, drawn: Tensor) -> Tensor:
    """The squared errors of sequences at every length, ``(sequence, row)``."""
    s = conjugate_pairs(drawn) if problem.paired else drawn
    return (problem.predict(heads, s[:, :-1]) - s[:, 2:]).abs().square().sum(-1)


def losses_are_exact(run: Run, *, losses: Callable[[DiagonalHeads, HeadWeights], Tensor] = exact_losses) -> Measurement:
    """Sampled over exact losses of random weights, and the released formula beside them."""
    setting: Samples = run.setting
    ratios, released, lines = [], [], []
    for colour, context in enumerate(CONTEXTS):
        for dim, length in setting.sizes:
            problem = DiagonalHeads(dim, length, context)
            place = run.seed / context / dim / length
            stack = random_heads(problem, setting.heads, place, 1, dim**-0.5)
            heads = HeadWeights(stack.keys[0], stack.values[0], stack.positions[0])
            # A million sequences do not fit into memory together; their errors do.
            drawn = parts(place, context, dim, length, setting.batch)
            errors = torch.cat([squared_errors(problem, heads, part) for part in drawn])
            exact = losses(problem, heads)
            ratios += [Estimate.mean(errors[:, row] / exact[row]) for row in range(problem.rows)]
            extra = heads.positions.diagonal() ** 2 * heads.merged.square().sum()
            if not problem.paired:
                as_released = exact + extra
                released.append((as_released.sum() / errors.mean(0).sum()).item())
        lengths = list(range(2, length + 1))
        lines.append(line(f"samples, {context}", lengths, errors.mean(0), look="points", colour=colour))
        lines.append(line(f"exact, {context}", lengths, exact, look="dashed", colour=colour))
    lines.append(line("released formula, unitary", lengths, as_released, look="dotted", colour=-1))
    figure = Figure(
        (Panel("length T", "loss", tuple(lines)),),
        f"Loss of random weights at d = {setting.sizes[-1][0]}; the released formula for independent eigenvalues "
        "counts the diagonal of P twice.",
        "Points on two dashed curves; a dotted curve lies above one of them.",
    )
    worst = max(ratios, key=lambda ratio: abs(ratio.value - 1))
    estimates = {
        LOSS_RATIO: worst,
        RELEASED_RATIO: Estimate(min(released)),
    }
    return Measurement(estimates, figure)


def independent_minima(run: Run, *, context: Commuting = "unitary") -> dict[int, list[Minimum]]:
    """Minima for every number of heads."""
    setting: Problems = run.setting
    problem = DiagonalHeads(setting.dim, setting.length, context)
    return {heads: minima(problem, heads, run.seed / heads, setting.starts) for heads in setting.heads}


INDEPENDENT_MINIMA = Study("sander2024.independent_minima", independent_minima)


def weights_figure(minimum: Minimum, caption: str, alt: str) -> Figure:
    """The four panels of the paper's figure: A, B, B'A and P."""
    heads = minimum.heads
    positions = heads.positions.clone()
    positions[torch.ones_like(positions).triu(2) > 0] = torch.nan
    panels = (
        Panel("coordinate", "head", heatmap=heatmap(heads.keys), title="A"),
        Panel("coordinate", "head", heatmap=heatmap(heads.values), title="B"),
        Panel("coordinate", "coordinate", heatmap=heatmap(heads.merged), title="BᵀA"),
        Panel("key", "query", heatmap=heatmap(positions), title="P"),
    )
    return Figure(panels, caption, alt)


def beside_superdiagonal(minimum: Minimum, effect: bool = False) -> float:
    """The largest entry of P off its superdiagonal over those on it, or what the diagonal adds to an answer."""
    diagonal = (minimum.heads.positions.diagonal() / minimum.heads.positions.diagonal(1)).abs().max()
    if effect:
        diagonal = diagonal * minimum.heads.merged.sum(1).norm() / minimum.heads.merged.norm()
    return max(minimum.stray, diagonal.item())


def heads_buy_one_dimension_each(run: Run, *, price: int = 1) -> Measurement:
    """The loss at the end of every descent against d - H, and the weights there."""
    setting: Problems = run.setting
    study: dict[int, list[Minimum]] = run.study
    few = {heads: ends for heads, ends in study.items() if heads <= setting.dim}
    gap = max(abs(m.loss - (setting.dim - price * heads)) for heads, ends in few.items() for m in ends)
    everything = [m for ends in few.values() for m in ends]
    beside = max(beside_superdiagonal(m) for m in study[setting.dim])
    # With fewer heads C 1 may vanish, and then the diagonal of P is free: what counts is its product with C 1.
    effect = max(beside_superdiagonal(m, effect=True) for m in everything)
    projector = max((m.applied @ m.applied.T - m.applied).abs().max().item() for m in everything)
    ranks = {heads: {round(m.applied.trace().item(), 3) for m in ends} for heads, ends in few.items()}
    square = study[setting.dim][0]
    losses = [min(m.loss for m in study[heads]) for heads in setting.heads]
    worst = [max(m.loss for m in study[heads]) for heads in setting.heads]
    panel = Panel(
        "heads",
        "loss per length",
        (
            line("all starts", setting.heads, losses, low=losses, high=worst),
            line("d − H", setting.heads, [max(0, setting.dim - h) for h in setting.heads], look="dashed", colour=-1),
        ),
    )
    figure = weights_figure(
        square,
        f"Minimum of the exact loss with as many heads as eigenvalues (d = {setting.dim}, T = {setting.length}), and "
        "the least loss over the number of heads.",
        "Heat maps: BᵀA is a multiple of the identity, P is constant on its superdiagonal; a line falls by one a head.",
    )
    figure = Figure((*figure.panels, panel), figure.caption, figure.alt)
    estimates = {
        LOSS_DISTANCE: Estimate(gap),
        STRAY_ENTRY: Estimate(beside),
        STRAY_EFFECT: Estimate(effect),
        PROJECTOR_DISTANCE: Estimate(projector),
    }
    return Measurement(estimates, figure, (f"ranks of the projector by heads: {ranks}.",))


def heads_become_orthogonal(run: Run, *, apart: Callable[[Minimum], float] = lambda m: m.mixing) -> Measurement:
    """Entries of A B' off its diagonal, for few and for many heads."""
    setting: Problems = run.setting
    study: dict[int, list[Minimum]] = run.study
    largest = [max(apart(m) for m in study[heads]) for heads in setting.heads]
    smallest = [min(apart(m) for m in study[heads]) for heads in setting.heads]
    few = [v for heads, v in zip(setting.heads, largest, strict=True) if heads <= setting.dim]
    many = [v for heads, v in zip(setting.heads, smallest, strict=True) if heads > setting.dim]
    overlaps = [(h, study[h][0].heads.overlap) for h in (setting.dim, setting.heads[-1])]
    panels = [Panel("head", "head", heatmap=heatmap(matrix), title=f"A Bᵀ, {h} heads") for h, matrix in overlaps]
    curve = Panel(
        "heads",
        "largest entry off the diagonal over the mean on it",
        (line("largest over starts", setting.heads, [max(v, 1e-17) for v in largest]),),
        y_scale="log",
    )
    figure = Figure(
        (*panels, curve),
        f"Orthogonality of heads at the minimum, d = {setting.dim}.",
        "The product A Bᵀ is diagonal for as many heads as eigenvalues and full for more.",
    )
    estimates = {
        FEW_HEADS_MIXING: Estimate(max(few)),
        MANY_HEADS_MIXING: Estimate(min(many)),
    }
    return Measurement(estimates, figure)


def descent_recovers_the_matrix(run: Run, *, context: Commuting = "unitary") -> Measurement:
    """Gradient descent on the exact loss: the product of C and P, and the scale at which they settle."""
    setting: Descents = run.setting
    problem = DiagonalHeads(setting.dim, setting.length, context)
    start = random_heads(problem, setting.heads, run.seed, setting.starts)
    heads, losses = descend(problem, start, setting.rate, setting.steps)
    ends = [
        Minimum(problem, HeadWeights(*part), loss.item() / problem.rows, loss.item() / problem.rows, 0.0, 0.0)
        for *part, loss in zip(heads.keys, heads.values, heads.positions, losses[-1], strict=True)
    ]
    unit = torch.eye(setting.dim, dtype=torch.float64)
    gap = max((end.applied - unit).abs().max().item() for end in ends)
    scales = heads.merged.diagonal(dim1=-2, dim2=-1).mean(-1)
    balance = scales.abs() ** 3 * setting.dim / problem.rows
    figure = weights_figure(ends[0], "", "")
    place = list(range(len(losses)))
    curves = tuple(line("", place, losses[:, i].clamp(min=1e-17), colour=i) for i in range(setting.starts))
    panels = (*figure.panels, Panel("step", "summed loss", curves, y_scale="log"))
    figure = Figure(
        panels,
        f"Gradient descent on the exact loss from small weights (d = {setting.dim}, T = {setting.length}, "
        f"{setting.heads} heads, rate {setting.rate:g}): the weights of the first start, and the losses of all.",
        "BᵀA is a multiple of the identity, P lives on the superdiagonal, and losses fall to zero.",
    )
    estimates = {
        IDENTITY_DISTANCE: Estimate(gap),
        FINAL_LOSS: Estimate(losses[-1].max().item()),
        SMALLEST_SCALE: Estimate(balance.min().item()),
        LARGEST_SCALE: Estimate(balance.max().item()),
    }
    return Measurement(estimates, figure, (f"scales c of BᵀA: {[round(c, 4) for c in scales.tolist()]}.",))


QUICK = Problems(dim=6, length=7, heads=(1, 2, 3, 4, 5, 6, 8), starts=4)
FULL = Problems(dim=10, length=20, heads=(1, 2, 4, 6, 8, 9, 10, 12, 16), starts=16)
REDUCED = "six eigenvalues and sequences of seven; the paper's figure has ten and twenty."

CLAIMS = (
    Claim(
        id="sander2024.loss-of-heads-is-exact",
        statement="The population loss of diagonal heads with positions and query sₜ₋₁ is a sum of squares in closed "
        "form, for independent eigenvalues and for conjugate pairs. For independent eigenvalues the formula of the "
        "released code exceeds it.",
        source="Tokens that are not augmented, the loss; derived here",
        rules=(
            Rule(LOSS_RATIO, low=0.95, high=1.05),
            Rule(RELEASED_RATIO, low=1.01),
        ),
        measure=losses_are_exact,
        quick=Samples(((2, 5), (4, 8), (6, 6)), heads=3, batch=50_000),
        full=Samples(((2, 5), (4, 8), (6, 6), (10, 20)), heads=10, batch=1_000_000),
        quick_seconds=2.2,
        full_hours=0.2,
    ),
    Claim(
        id="sander2024.heads-buy-one-dimension-each",
        statement="For independent eigenvalues the least loss of H heads is d − H at every length, and every start "
        "reaches it. There, P acts by its superdiagonal alone and C p is an orthogonal projector. With H = d the "
        "layer multiplies sₜ by λ = sₜ s̄ₜ₋₁.",
        source="Unitary context, theorem on the minimisers; figure 3, left",
        rules=(
            Rule(LOSS_DISTANCE, high=1e-6),
            Rule(STRAY_ENTRY, high=1e-4),
            Rule(STRAY_EFFECT, high=1e-4),
            Rule(PROJECTOR_DISTANCE, high=1e-5),
        ),
        measure=heads_buy_one_dimension_each,
        study=INDEPENDENT_MINIMA,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.28,
        full_hours=0.1,
        reduced=REDUCED,
    ),
    Claim(
        id="sander2024.heads-become-orthogonal",
        statement="For independent eigenvalues and at most as many heads, the heads at the minimum are orthogonal: A "
        "Bᵀ = c I. More heads than eigenvalues are not orthogonal.",
        source="Unitary context, orthogonality of heads",
        rules=(
            Rule(FEW_HEADS_MIXING, high=1e-5),
            Rule(MANY_HEADS_MIXING, low=0.1),
        ),
        measure=heads_become_orthogonal,
        study=INDEPENDENT_MINIMA,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.001,
        full_hours=0.001,
        reduced=REDUCED,
    ),
    Claim(
        id="sander2024.descent-recovers-the-matrix",
        statement="A hundred steps of gradient descent on the exact loss from small weights reach p C = I. The "
        "factors settle where gradient flow balances them, at |c|³ near (T − 1)/d, with a random sign.",
        source="Figure 3, left: its recipe; the balance is derived here",
        rules=(
            Rule(IDENTITY_DISTANCE, high=1e-6),
            Rule(FINAL_LOSS, high=1e-6),
            Rule(SMALLEST_SCALE, low=0.8),
            Rule(LARGEST_SCALE, high=1.2),
        ),
        measure=descent_recovers_the_matrix,
        quick=Descents(dim=10, length=20, heads=10, rate=0.01, steps=100, starts=8),
        full=Descents(dim=10, length=20, heads=10, rate=0.01, steps=100, starts=256),
        quick_seconds=0.028,
        full_hours=0.001,
    ),
)
