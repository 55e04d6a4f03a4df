"""What the trained layer does on test prompts: risk, rates, and shifts of task, query and covariates."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.compare import Estimate
from insitu.learners import LeastSquares
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.theory.one_step import step_error
from insitu.theory.population import Population
from insitu.theory.risk import (
    Labels,
    Risk,
    average_linear_risk,
    floor_constant,
    guarantee,
    length_for,
    linear_risk,
    risk,
    single_index_labels,
)

__all__ = ["CLAIMS", "Lengths", "Prompts"]

LINKS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "linear": (lambda z: z, 0.0),
    "noisy linear": (lambda z: z, 0.5),
    "quadratic": (lambda z: z + 0.5 * z**2 + 0.3, 0.1),
    "sine": (lambda z: torch.sin(2 * z), 0.0),
    "sign": (torch.sign, 0.0),
}


@dataclass(frozen=True)
class Prompts:
    """Prompts on which a trained layer is sampled.

    Args:
        count: How many per point.
        trained: The training length N.
        tested: Test lengths M.
        spectrum: The eigenvalues of the training covariance.
    """

    count: int
    trained: int = 10
    tested: tuple[int, ...] = (4, 12, 32)
    spectrum: tuple[float, ...] = (1.5, 0.9, 0.6)


@dataclass(frozen=True)
class Lengths:
    """Lengths at which exact formulas are evaluated."""

    lengths: tuple[int, ...]
    spectra: tuple[tuple[float, ...], ...]


def population_of(spectrum: tuple[float, ...], length: int | float) -> Population:
    return Population(torch.diag(torch.tensor(spectrum, dtype=torch.float64)), length)


def layer(population: Population, prompt: Prompt) -> Tensor:
    """The answers of the layer at its global minimum, one query per prompt."""
    seen = (prompt.xs * prompt.ys).mean(1)
    return ((seen @ population.best_step) * prompt.queries[:, 0]).sum(-1)


def gaussian(seed: Seed, covariance: Tensor, *shape: int) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return seed.normal(*shape, len(covariance)) @ (vectors * values.sqrt()).T


def sample(seed: Seed, spread: Tensor, asked: Tensor, weights: Tensor, length: int, noise: float) -> Prompt:
    """Linear prompts, one task per row of weights."""
    count = len(weights)
    xs = gaussian(seed / "inputs", spread, count, length)
    ys = (xs @ weights[:, :, None]) + math.sqrt(noise) * (seed / "noise").normal(count, length, 1)
    return Prompt(xs, ys, gaussian(seed / "queries", asked, count, 1))


def risk_is_exact(run: Run, *, exact: Callable[[Population, int, Labels], Risk] = risk) -> Measurement:
    """Squared errors on sampled prompts over the formula's, for five laws of labels."""
    setting: Prompts = run.setting
    population = population_of(setting.spectrum, setting.trained)
    direction = torch.tensor([1.0, -0.5, 0.8], dtype=torch.float64)
    estimates, lines = {}, []
    for colour, (name, (link, noise)) in enumerate(LINKS.items()):
        labels = single_index_labels(population, direction, link, noise)
        found = []
        for length in setting.tested:
            seed = run.seed / name / length
            xs = gaussian(seed / "inputs", population.covariance, setting.count, length + 1)
            ys = link(xs @ direction) + math.sqrt(noise) * (seed / "noise").normal(setting.count, length + 1)
            prompt = Prompt(xs[:, :length], ys[:, :length, None], xs[:, length:])
            squares = (layer(population, prompt) - ys[:, length]).square()
            found.append(Estimate.mean(squares / exact(population, length, labels).total))
        worst = max(found, key=lambda e: abs(e.value - 1))
        estimates[f"sampled risk over formula, {name} labels"] = worst
        low, high = zip(*(e.interval() for e in found), strict=True)
        lines.append(
            line(name, setting.tested, [e.value for e in found], low=low, high=high, look="points", colour=colour)
        )
    lines.append(line("formula", (setting.tested[0], setting.tested[-1]), (1.0, 1.0), look="dashed", colour=-1))
    figure = Figure(
        (Panel("test length M", "sampled risk / formula", tuple(lines), x_scale="log"),),
        f"Squared error of the trained layer (N = {setting.trained}) on sampled prompts over theorem 4.2, with 99 % "
        "intervals, for five laws of labels.",
        "All points lie around one, with short intervals.",
    )
    return Measurement(estimates, figure)


def rates_and_floor(run: Run, *, average: Callable[[Population, float], Risk] = average_linear_risk) -> Measurement:
    """Log-log slopes of the exact excess risk in M at infinite N, and in N at infinite M."""
    setting: Lengths = run.setting
    tested, trained, floors, lines = [], [], [], []
    for colour, spectrum in enumerate(setting.spectra):
        by_test = [average(population_of(spectrum, math.inf), m).excess for m in setting.lengths]
        by_train = [average(population_of(spectrum, n), math.inf).excess for n in setting.lengths]
        tested.append(last_slope(setting.lengths, by_test))
        trained.append(last_slope(setting.lengths, by_train))
        last = population_of(spectrum, setting.lengths[-1])
        floors.append(abs(by_train[-1] * setting.lengths[-1] ** 2 / floor_constant(last) - 1))
        lines.append(line(f"M, d={len(spectrum)}", setting.lengths, by_test, colour=colour))
        lines.append(line(f"N, d={len(spectrum)}", setting.lengths, by_train, colour=colour, look="dashed"))
    figure = Figure(
        (Panel("length", "excess risk", tuple(lines), x_scale="log", y_scale="log"),),
        "Exact excess risk against the test length M at infinite N (solid) and the training length N at infinite M "
        "(dashed).",
        "Straight lines of slope minus one, and dashed ones twice as steep.",
    )
    estimates = {
        "slope in M, largest deviation from −1": Estimate(max(abs(s + 1) for s in tested)),
        "slope in N, largest deviation from −2": Estimate(max(abs(s + 2) for s in trained)),
        "N² risk over its limit, largest deviation from 1": Estimate(max(floors)),
    }
    return Measurement(estimates, figure)


def last_slope(lengths: tuple[int, ...], values: list[float]) -> float:
    return math.log(values[-1] / values[-2]) / math.log(lengths[-1] / lengths[-2])


def guarantee_holds(run: Run, *, needed: Callable[[Population, float], int] = length_for) -> Measurement:
    """The exact risk at the promised test length against the promised bound."""
    setting: Lengths = run.setting
    shares, lines = [], []
    for colour, spectrum in enumerate(setting.spectra):
        found = []
        for length in setting.lengths:
            population = population_of(spectrum, length)
            bounds = [(e, average_linear_risk(population, needed(population, e)).total) for e in (1.0, 0.1, 0.01)]
            found.append(max(total / (guarantee(population) + excess) for excess, total in bounds))
        shares += found
        lines.append(line(f"d={len(spectrum)}", setting.lengths, found, colour=colour))
    ends = (setting.lengths[0], setting.lengths[-1])
    lines.append(line("bound", ends, (1.0, 1.0), look="dotted", colour=-1))
    figure = Figure(
        (Panel("training length N", "risk / (η + ε)", tuple(lines), x_scale="log", y_scale="log"),),
        "Exact risk at the test length of corollary 4.3 over its bound, the worst of three ε.",
        "Curves that stay at or below the dotted line at one.",
    )
    return Measurement({"largest risk over η + ε": Estimate(max(shares))}, figure)


def task_shift(run: Run, *, step: Callable[[Population], Tensor] = lambda p: p.best_step) -> Measurement:
    """One fixed task with noisy labels: how the error falls with M, and the slope of the answers on the truth."""
    setting: Prompts = run.setting
    weights = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    endless = population_of(setting.spectrum, math.inf)
    lengths = (100, 1000, 10_000, 100_000)
    matrix, task = step(endless), torch.outer(weights, weights)
    excess = [step_error(matrix, endless.covariance, m, weights=task, noise_variance=0.5) for m in lengths]
    formula = [linear_risk(endless, m, weights, 0.5).excess for m in lengths]
    long = population_of(setting.spectrum, setting.trained)
    rows = weights.expand(setting.count, 3)
    prompt = sample(run.seed, long.covariance, long.covariance, rows, setting.tested[-1], 0.5)
    truth = (prompt.queries[:, 0] * weights).sum(-1)
    seen = (prompt.xs * prompt.ys).mean(1)
    answers = ((seen @ step(long)) * prompt.queries[:, 0]).sum(-1)
    figure = Figure(
        (
            Panel(
                "test length M",
                "error above the noise",
                (line("exact", lengths, excess), line("theorem 4.2", lengths, formula, look="dashed", colour=-1)),
                x_scale="log",
                y_scale="log",
            ),
        ),
        "Error of the layer trained on infinitely long noiseless prompts, on one fixed task with noisy labels.",
        "A straight line of slope minus one, on its dashed formula.",
    )
    estimates = {
        "slope of the error in M": Estimate(last_slope(lengths, excess)),
        "slope of the answers on the truth, long prompts": Estimate.ratio(answers * truth, truth.square()),
    }
    return Measurement(estimates, figure)


def query_shift(run: Run, *, error: Callable[..., float] = step_error) -> Measurement:
    """Queries of another covariance: sampled error over formula, its limit, and a query orthogonal to the prompt."""
    setting: Prompts = run.setting
    population = population_of(setting.spectrum, setting.trained)
    asked = torch.tensor([[2.0, 0.7, 0.0], [0.7, 1.0, -0.4], [0.0, -0.4, 3.0]], dtype=torch.float64)
    found = []
    for length in setting.tested:
        weights = (run.seed / "weights" / length).normal(setting.count, 3)
        prompt = sample(run.seed / length, population.covariance, asked, weights, length, 0.0)
        squares = (layer(population, prompt) - (prompt.queries[:, 0] * weights).sum(-1)).square()
        exact = error(population.best_step, population.covariance, length, query=asked)
        found.append(Estimate.mean(squares / exact))
    long = population_of(setting.spectrum, 10**7)
    last = error(long.best_step, long.covariance, 10**7, query=asked)
    low, high = zip(*(e.interval() for e in found), strict=True)
    figure = Figure(
        (
            Panel(
                "test length M",
                "sampled error / formula",
                (
                    line("sampled", setting.tested, [e.value for e in found], low=low, high=high, look="points"),
                    line("formula", setting.tested, [1.0] * len(found), look="dashed", colour=-1),
                ),
                x_scale="log",
            ),
        ),
        "Squared error on queries of another covariance over the exact formula, with 99 % intervals.",
        "Points around one.",
    )
    estimates = {
        "sampled error over formula": max(found, key=lambda e: abs(e.value - 1)),
        "error at N = M = 10⁷": Estimate(last),
        "largest answer to a query orthogonal to the prompt, white inputs": Estimate(orthogonal_answer(run.seed)),
    }
    return Measurement(estimates, figure)


def orthogonal_answer(seed: Seed) -> float:
    """White inputs that leave out the last coordinate's direction, and a query along it."""
    population = population_of((1.0,) * 4, 10)
    basis = torch.linalg.qr((seed / "basis").normal(4, 4))[0]
    xs = (seed / "span").normal(50, 6, 3) @ basis[:3]
    ys = xs @ (seed / "task").normal(50, 4, 1)
    return layer(population, Prompt(xs, ys, basis[3].expand(50, 1, 4))).abs().max().item()


def covariate_shift(run: Run, *, answer: Callable[[Population, Prompt], Tensor] = layer) -> Measurement:
    """Prompts and queries scaled by c: slope of the answers on the truth, relative error, and least squares."""
    setting: Prompts = run.setting
    population = population_of(setting.spectrum, setting.trained)
    spread = population.covariance
    slopes, errors, fits = {}, [], []
    for scale in (0.5, 1.5, 2.0):
        weights = (run.seed / "weights").normal(setting.count, 3)
        wide = scale**2 * spread
        prompt = sample(run.seed / str(scale), wide, wide, weights, setting.tested[-1], 0.0)
        truth = (prompt.queries[:, 0] * weights).sum(-1)
        slopes[scale] = Estimate.ratio(answer(population, prompt) * truth, truth.square())
        fits.append((LeastSquares().predict(prompt)[:, 0, 0] - truth).abs().max().item())
        long = population_of(setting.spectrum, 10**7)
        relative = step_error(long.best_step, wide, 10**7) / wide.trace().item()
        errors.append(abs(relative / (scale**2 - 1) ** 2 - 1))
    scales = tuple(slopes)
    grid = torch.linspace(0.4, 2.1, 40)
    low, high = zip(*(e.interval() for e in slopes.values()), strict=True)
    measured = [e.value for e in slopes.values()]
    figure = Figure(
        (
            Panel(
                "scale c of the test inputs",
                "slope of the answers on the truth",
                (
                    line("sampled", scales, measured, low=low, high=high, look="points"),
                    line("c²", grid, grid**2, look="dashed", colour=-1),
                    line("least squares", grid, torch.ones(40), look="dotted", colour=1),
                ),
            ),
        ),
        f"Slope of the trained layer's answers on the truth (N = {setting.trained}) when all inputs are scaled by c.",
        "Points on a parabola, away from the constant of least squares.",
    )
    worst = max(slopes, key=lambda c: abs(slopes[c].value / c**2 - 1))
    found = slopes[worst]
    estimates = {
        "slope over c²": Estimate(found.value / worst**2, found.error / worst**2, found.samples),
        "relative error over (c² − 1)² at N = M = 10⁷, largest deviation from 1": Estimate(max(errors)),
        "largest error of least squares": Estimate(max(fits)),
    }
    return Measurement(estimates, figure)


SPECTRA = ((1.0,) * 3, (1.5, 0.9, 0.6), (2.0, 1.0, 0.5, 0.25, 0.1))
LONG = Prompts(count=2000, trained=1500, tested=(1500,))
LONG_FULL = Prompts(count=20_000, trained=4000, tested=(1500,))

CLAIMS = (
    Claim(
        id="zhang2024.test-risk-is-exact",
        statement="On any test distribution with the training covariance, the trained layer's risk is the best linear "
        "predictor's plus tr[Cov(xy) Γ⁻² Λ]/M plus a squared bias of order 1/N², an equality at every M and N.",
        source="Theorem 4.2, equation 4.6",
        rules=tuple(Rule(f"sampled risk over formula, {name} labels", low=0.95, high=1.05) for name in LINKS),
        measure=risk_is_exact,
        quick=Prompts(count=120_000),
        full=Prompts(count=1_000_000),
        quick_seconds=10.0,
        full_hours=0.05,
    ),
    Claim(
        id="zhang2024.excess-falls-as-1-over-m-and-1-over-n-squared",
        statement="The excess risk falls as 1/M in the test length and as 1/N² in the training length, where it is a "
        "floor that no test length removes.",
        source="Theorem 4.2 and the discussion after it; the constant is derived",
        rules=(
            Rule("slope in M, largest deviation from −1", high=0.01),
            Rule("slope in N, largest deviation from −2", high=0.01),
            Rule("N² risk over its limit, largest deviation from 1", high=0.01),
        ),
        measure=rates_and_floor,
        quick=Lengths((10, 100, 1000, 10_000, 100_000), SPECTRA),
        full=Lengths((10, 100, 1000, 10_000, 100_000, 1_000_000), SPECTRA),
        quick_seconds=0.5,
        full_hours=0.01,
    ),
    Claim(
        id="zhang2024.learns-linear-functions-up-to-a-floor",
        statement="With M of at least (d+1) tr(Λ)/ε test examples the risk on linear tasks is at most "
        "(1 + 2d + d²κ) tr(Λ)/N² + ε.",
        source="Corollary 4.3",
        rules=(Rule("largest risk over η + ε", high=1.0),),
        measure=guarantee_holds,
        quick=Lengths((1, 3, 10, 100, 1000), SPECTRA),
        full=Lengths((1, 2, 3, 5, 10, 30, 100, 300, 1000, 10_000), SPECTRA),
        quick_seconds=0.5,
        full_hours=0.01,
    ),
    Claim(
        id="zhang2024.task-shift-is-tolerated",
        statement="On any fixed task with noisy labels, although trained without noise, the layer's error falls to the "
        "noise as 1/M and its answers approach the truth as both lengths grow.",
        source="Section 4.2, task shift",
        rules=(
            Rule("slope of the error in M", low=-1.01, high=-0.99),
            Rule("slope of the answers on the truth, long prompts", low=0.98, high=1.02),
        ),
        measure=task_shift,
        quick=LONG,
        full=LONG_FULL,
        quick_seconds=1.5,
        full_hours=0.02,
    ),
    Claim(
        id="zhang2024.query-shift-is-tolerated",
        statement="For queries of any other covariance the error is given exactly and vanishes as both lengths grow; a "
        "query orthogonal to all examples is answered by zero if Λ is a multiple of I.",
        source="Section 4.2, query shift; the error is derived, the condition on Λ is a correction",
        rules=(
            Rule("sampled error over formula", low=0.95, high=1.05),
            Rule("error at N = M = 10⁷", high=1e-5),
            Rule("largest answer to a query orthogonal to the prompt, white inputs", high=1e-12),
        ),
        measure=query_shift,
        quick=Prompts(count=240_000),
        full=Prompts(count=1_000_000),
        quick_seconds=2.0,
        full_hours=0.02,
    ),
    Claim(
        id="zhang2024.covariate-shift-is-not-tolerated",
        statement="If all test inputs are scaled by c the answers approach c² times the truth, a relative error of "
        "(c² − 1)², while least squares is not affected.",
        source="Section 4.2, covariate shift; the relative error is derived",
        rules=(
            Rule("slope over c²", low=0.97, high=1.03),
            Rule("relative error over (c² − 1)² at N = M = 10⁷, largest deviation from 1", high=1e-3),
            Rule("largest error of least squares", high=1e-9),
        ),
        measure=covariate_shift,
        quick=LONG,
        full=LONG_FULL,
        quick_seconds=3.0,
        full_hours=0.02,
    ),
)
