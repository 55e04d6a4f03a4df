"""Attention with positions on plain tokens, for conjugate pairs: the recurrence, its family, and traps."""

from collections.abc import Callable

import torch

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, line
from insitu.metrics import Estimate
from insitu.papers.sander2024.heads import Descents, Problems, weights_figure
from insitu.theory.sequences.diagonal_heads import DiagonalHeads, HeadWeights
from insitu.theory.sequences.head_minima import Minimum, descend, minima, random_heads

__all__ = ["CLAIMS", "paired_minima"]

# The quantities that measurements estimate and rules decide.
BEST_RATIO_DISTANCE = "distance of p_{T−1}/p_T from −1/2, best start"
LOSS_REDUCTION = "final loss over the first, best start"
PRODUCT_DISTANCE = "largest distance of p C from blocks of ones"
BEST_PRODUCT_DISTANCE = "largest distance of p C from blocks of ones, best start"
RATIO_DISTANCE = "largest distance of p_{T−1}/p_T from −1/2"
LOSS_DISTANCE = "largest distance of the best loss from d − 2H"
FAMILY_DISTANCE = "largest distance of the ratio from −ρ/(1 + ρ)"
TRAP_EXCESS = "largest excess of a certified local minimum"
BEST_EXCESS = "largest excess of the best start"
LARGEST_LOSS = "largest loss"
VALLEY_DECREASE = "loss along the valley, at 10⁴ over at 1"
RHO_SPREAD = "spread of ρ over starts"


def paired_minima(run: Run) -> dict[int, list[Minimum]]:
    """Minima for every number of heads."""
    setting: Problems = run.setting
    problem = DiagonalHeads(setting.dim, setting.length, "orthogonal")
    return {heads: minima(problem, heads, run.seed / heads, setting.starts) for heads in setting.heads}


PAIRED_MINIMA = Study("sander2024.paired_minima", paired_minima)


def summary_of(ends: list[Minimum]) -> str:
    """How many starts ended in what way."""
    kinds = [m.kind for m in ends]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))


def notes(study: dict[int, list[Minimum]]) -> tuple[str, ...]:
    return tuple(f"{heads} heads: {summary_of(ends)}." for heads, ends in study.items())


def few_heads_find_the_recurrence(run: Run, *, ratio: float = -0.5) -> Measurement:
    """Exact minima with d/2 to d - 1 heads against the recurrence, and the loss along the valley."""
    setting: Problems = run.setting
    study = {h: ends for h, ends in run.study.items() if setting.dim / 2 <= h < setting.dim}
    zeros = [m for ends in study.values() for m in ends if m.kind == "global"]
    problem = DiagonalHeads(setting.dim, setting.length, "orthogonal")
    expected = problem.family(rho=1.0).merged
    best = max(min(m.excess for m in ends) for ends in study.values())
    gaps = [(m.applied - expected).abs().max().item() for m in zeros]
    leans = [10.0**i for i in range(5)]
    valley = [problem.loss(problem.valley(lean)).item() for lean in leans]
    example = zeros[0] if zeros else min(run.study[setting.heads[-1]], key=lambda m: m.loss)
    figure = weights_figure(example, "", "")
    panel = Panel(
        "p_{T−1} / p_T",
        "summed loss",
        (line("along the valley", leans, valley),),
        x_scale="log",
        y_scale="log",
    )
    figure = Figure(
        (*figure.panels, panel),
        f"A minimum with fewer heads than coordinates (d = {setting.dim}, T = {setting.length}), and the loss along a "
        "valley that leads to infinity.",
        "BᵀA has constant blocks of two by two; P has a diagonal of half the size and opposite sign of the other.",
    )
    estimates = {
        BEST_EXCESS: Estimate(best),
        RATIO_DISTANCE: Estimate(max((abs(m.ratio - ratio) for m in zeros), default=1.0)),
        PRODUCT_DISTANCE: Estimate(max(gaps, default=1.0)),
        VALLEY_DECREASE: Estimate(valley[-1] / valley[0]),
    }
    return Measurement(estimates, figure, notes(study))


def descent_finds_the_recurrence(run: Run, *, ratio: float = -0.5) -> Measurement:
    """Gradient descent on the exact loss from several starts: the weights of the best, and where the others end."""
    setting: Descents = run.setting
    problem = DiagonalHeads(setting.dim, setting.length, "orthogonal")
    start = random_heads(problem, setting.heads, run.seed, setting.starts)
    record = max(1, setting.steps // 200)
    heads, losses = descend(problem, start, setting.rate, setting.steps, record)
    best = int(losses[-1].argmin())
    loss = losses[-1, best].item() / problem.rows
    minimum = Minimum(
        problem,
        HeadWeights(heads.keys[best], heads.values[best], heads.positions[best]),
        loss,
        loss,
        slope=0.0,
        least_curvature=0.0,
    )
    blocks = problem.family(rho=1.0).merged
    steps = [min(i * record, setting.steps) for i in range(len(losses))]
    curves = tuple(line("", steps, losses[:, i], colour=i) for i in range(setting.starts))
    figure = weights_figure(minimum, "", "")
    figure = Figure(
        (*figure.panels, Panel("step", "summed loss", curves, y_scale="log")),
        f"Gradient descent on the exact loss from small weights (d = {setting.dim}, T = {setting.length}, "
        f"{setting.heads} heads, rate {setting.rate:g}): the weights of the best start, and the losses of all.",
        "BᵀA has constant blocks of two by two; P a superdiagonal and a diagonal of half its size and opposite sign.",
    )
    leans = (heads.positions.diagonal(0, -2, -1) / heads.positions.diagonal(1, -2, -1)).mean(-1)
    estimates = {
        BEST_RATIO_DISTANCE: Estimate(abs(minimum.ratio - ratio)),
        BEST_PRODUCT_DISTANCE: Estimate((minimum.applied - blocks).abs().max().item()),
        LOSS_REDUCTION: Estimate((losses[-1, best] / losses[0, best]).item()),
    }
    ends = ", ".join(f"{lean:.3f} at {end:.2g}" for lean, end in zip(leans.tolist(), losses[-1].tolist(), strict=True))
    return Measurement(estimates, figure, (f"p_(T−1)/p_T of every start, at its final summed loss: {ends}.",))


def ratio_of_family(rho: float) -> float:
    return -rho / (1 + rho)


def many_heads_leave_a_family(run: Run, *, relation: Callable[[float], float] = ratio_of_family) -> Measurement:
    """With at least d heads: the ratio of positions against rho, over all starts."""
    setting: Problems = run.setting
    study = {h: ends for h, ends in run.study.items() if h >= setting.dim}
    everything = [m for ends in study.values() for m in ends]
    rhos = [m.rho for m in everything]
    gap = max(abs(m.ratio - relation(m.rho)) for m in everything)
    grid = torch.linspace(min(*rhos, -0.3), max(*rhos, 1.0), 61)
    lines = [line("− ρ / (1 + ρ)", grid, [ratio_of_family(r) for r in grid.tolist()], look="dashed", colour=-1)]
    for colour, (heads, ends) in enumerate(study.items()):
        name = f"{heads} heads"
        lines.append(line(name, [m.rho for m in ends], [m.ratio for m in ends], look="points", colour=colour))
    figure = Figure(
        (Panel("ρ = C_{kk′} / C_{kk}", "p_{T−1} / p_T", tuple(lines)),),
        f"Where descents with at least d heads end (d = {setting.dim}, T = {setting.length}): anywhere on a curve.",
        "Points scattered along a falling dashed curve.",
    )
    estimates = {
        LARGEST_LOSS: Estimate(max(m.loss for m in everything)),
        FAMILY_DISTANCE: Estimate(gap),
        RHO_SPREAD: Estimate(max(rhos) - min(rhos)),
    }
    return Measurement(estimates, figure, notes(study))


def too_few_heads_lose_two_each(run: Run, *, price: int = 2) -> Measurement:
    """With fewer than d/2 heads: the least loss over starts, and the local minima in which others end."""
    setting: Problems = run.setting
    study = {h: ends for h, ends in run.study.items() if h < setting.dim / 2}
    gap = max(abs(min(m.loss for m in ends) - (setting.dim - price * h)) for h, ends in study.items())
    traps = [m for ends in study.values() for m in ends if m.kind == "local"]
    above = max((m.excess for m in traps), default=0.0)
    lines = [
        line("d − 2H", tuple(study), [float(setting.dim - 2 * h) for h in study], look="dashed", colour=-1),
    ]
    for kind, colour in (("global", 0), ("local", 1), ("escaping", 2), ("unsettled", 3)):
        points = [(h, m.loss) for h, ends in run.study.items() for m in ends if m.kind == kind]
        if points:
            lines.append(line(kind, *zip(*points, strict=True), look="points", colour=colour))
    figure = Figure(
        (Panel("heads", "loss per length", tuple(lines)),),
        f"Where descents end, d = {setting.dim}, T = {setting.length}. Local minima are certified by the Hessian.",
        "Points for every start: the lowest on a falling dashed line, some above it.",
    )
    estimates = {
        LOSS_DISTANCE: Estimate(gap),
        TRAP_EXCESS: Estimate(above),
    }
    return Measurement(estimates, figure, notes(study))


# One start in five reaches zero with half as many heads as coordinates: 32 miss it once in a thousand runs.
QUICK = Problems(dim=6, length=7, heads=(1, 2, 3, 4, 6), starts=32)
FULL = Problems(dim=10, length=20, heads=(1, 2, 4, 5, 6, 8, 9, 10, 16), starts=64)
REDUCED = "three planes and sequences of seven; the paper's figure has five planes and twenty."

CLAIMS = (
    Claim(
        id="sander2024.few-heads-find-the-recurrence",
        statement="For conjugate pairs and d/2 to d − 1 heads, the recurrence is the only zero of the loss: C p has "
        "blocks of ones and p_{T−1} = −p_T/2. Starts that miss it stop in local minima or drift along a valley to "
        "infinity.",
        source="Orthogonal context, theorem on the minimisers; figure 3, right. The valley is derived here",
        rules=(
            Rule(BEST_EXCESS, high=1e-6),
            Rule(RATIO_DISTANCE, high=1e-4),
            Rule(PRODUCT_DISTANCE, high=1e-4),
            Rule(VALLEY_DECREASE, high=1e-6),
        ),
        measure=few_heads_find_the_recurrence,
        study=PAIRED_MINIMA,
        quick=QUICK,
        full=FULL,
        quick_seconds=5.4,
        full_hours=0.5,
        reduced=REDUCED,
    ),
    Claim(
        id="sander2024.descent-finds-the-recurrence",
        statement="Gradient descent on the exact loss for conjugate pairs, with fewer heads than coordinates and from "
        "small weights, finds the recurrence from the best of several starts. A start that enters the valley does not "
        "settle with steps of this size.",
        source="Figure 3, right: its recipe",
        rules=(
            Rule(BEST_RATIO_DISTANCE, high=0.02),
            Rule(BEST_PRODUCT_DISTANCE, high=0.02),
            Rule(LOSS_REDUCTION, high=1e-4),
        ),
        measure=descent_finds_the_recurrence,
        quick=Descents(dim=10, length=20, heads=8, rate=1e-3, steps=10_000, starts=8),
        full=Descents(dim=10, length=20, heads=8, rate=1e-3, steps=100_000, starts=32),
        quick_seconds=2.5,
        full_hours=0.03,
        reduced="ten thousand steps in place of a hundred thousand.",
    ),
    Claim(
        id="sander2024.many-heads-leave-a-family",
        statement="For conjugate pairs and at least d heads, the loss is zero on a one-parameter family, p_{T−1}/p_T "
        "= −ρ/(1 + ρ) with ρ = C_{kk′}/C_{kk}. Gradient descent ends anywhere on it.",
        source="Orthogonal context, all minimisers; derived here",
        rules=(
            Rule(LARGEST_LOSS, high=1e-9),
            Rule(FAMILY_DISTANCE, high=1e-4),
            Rule(RHO_SPREAD, low=0.05),
        ),
        measure=many_heads_leave_a_family,
        study=PAIRED_MINIMA,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.003,
        full_hours=0.001,
        reduced=REDUCED,
    ),
    Claim(
        id="sander2024.too-few-heads-lose-two-each",
        statement="For conjugate pairs and fewer than d/2 heads, the least loss is d − 2H at every length, and there "
        "are local minima above it.",
        source="Orthogonal context, fewer heads than planes; derived here",
        rules=(
            Rule(LOSS_DISTANCE, high=1e-6),
            Rule(TRAP_EXCESS, low=0.1),
        ),
        measure=too_few_heads_lose_two_each,
        study=PAIRED_MINIMA,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.001,
        full_hours=0.001,
        reduced=REDUCED,
    ),
)
