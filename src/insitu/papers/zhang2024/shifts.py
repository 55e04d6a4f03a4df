"""Shifts of the task, the queries and the covariates: which of them the trained layer tolerates."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.learners import LeastSquares
from insitu.metrics import Estimate
from insitu.papers.zhang2024.risks import Prompts, last_slope, layer, population_of, sample
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.theory.one_layer.one_step import step_error
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.risk import linear_risk

__all__ = ["CLAIMS"]

# The quantities that measurements estimate and rules decide.
LIMIT_ERROR = "error at N = M = 10⁷"
ORTHOGONAL_ANSWER = "largest answer to a query orthogonal to the prompt, white inputs"
LEAST_SQUARES_ERROR = "largest error of least squares"
ERROR_DEVIATION = "relative error over (c² − 1)² at N = M = 10⁷, largest deviation from 1"
ERROR_RATIO = "sampled error over formula"
ANSWER_SLOPE = "slope of the answers on the truth, long prompts"
ERROR_SLOPE = "slope of the error in M"
SLOPE_RATIO = "slope over c²"


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
    moment = (prompt.xs * prompt.ys).mean(1)
    answers = ((moment @ step(long)) * prompt.queries[:, 0]).sum(-1)
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
        ERROR_SLOPE: Estimate(last_slope(lengths, excess)),
        ANSWER_SLOPE: Estimate.ratio(answers * truth, truth.square()),
    }
    return Measurement(estimates, figure)


def query_shift(run: Run, *, error: Callable[..., float] = step_error) -> Measurement:
    """Queries of another covariance: sampled error over formula, its limit, and a query orthogonal to the prompt."""
    setting: Prompts = run.setting
    population = population_of(setting.spectrum, setting.trained)
    query_covariance = torch.tensor([[2.0, 0.7, 0.0], [0.7, 1.0, -0.4], [0.0, -0.4, 3.0]], dtype=torch.float64)
    ratios = []
    for length in setting.tested:
        weights = (run.seed / "weights" / length).normal(setting.count, 3)
        prompt = sample(run.seed / length, population.covariance, query_covariance, weights, length, 0.0)
        squares = (layer(population, prompt) - (prompt.queries[:, 0] * weights).sum(-1)).square()
        exact = error(population.best_step, population.covariance, length, query=query_covariance)
        ratios.append(Estimate.mean(squares / exact))
    long = population_of(setting.spectrum, 10**7)
    last = error(long.best_step, long.covariance, 10**7, query=query_covariance)
    low, high = zip(*(e.interval() for e in ratios), strict=True)
    figure = Figure(
        (
            Panel(
                "test length M",
                "sampled error / formula",
                (
                    line("sampled", setting.tested, [e.value for e in ratios], low=low, high=high, look="points"),
                    line("formula", setting.tested, [1.0] * len(ratios), look="dashed", colour=-1),
                ),
                x_scale="log",
            ),
        ),
        "Squared error on queries of another covariance over the exact formula, with 99 % intervals.",
        "Points around one.",
    )
    estimates = {
        ERROR_RATIO: max(ratios, key=lambda e: abs(e.value - 1)),
        LIMIT_ERROR: Estimate(last),
        ORTHOGONAL_ANSWER: Estimate(orthogonal_answer(run.seed)),
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
    slope = slopes[worst]
    estimates = {
        SLOPE_RATIO: Estimate(slope.value / worst**2, slope.error / worst**2, slope.samples),
        ERROR_DEVIATION: Estimate(max(errors)),
        LEAST_SQUARES_ERROR: Estimate(max(fits)),
    }
    return Measurement(estimates, figure)


LONG = Prompts(count=2000, trained=1500, tested=(1500,))
LONG_FULL = Prompts(count=20_000, trained=4000, tested=(1500,))

CLAIMS = (
    Claim(
        id="zhang2024.task-shift-is-tolerated",
        statement="On any fixed task with noisy labels, the error of the layer, trained without noise, falls to the "
        "noise level as 1/M. Its answers approach the truth as both lengths grow.",
        source="Section 4.2, task shift",
        rules=(
            Rule(ERROR_SLOPE, low=-1.01, high=-0.99),
            Rule(ANSWER_SLOPE, low=0.98, high=1.02),
        ),
        measure=task_shift,
        quick=LONG,
        full=LONG_FULL,
        quick_seconds=0.28,
        full_hours=0.001,
    ),
    Claim(
        id="zhang2024.query-shift-is-tolerated",
        statement="For queries of any other covariance the error has an exact formula and vanishes as both lengths "
        "grow. A query orthogonal to all examples is answered with zero if Λ is a multiple of I.",
        source="Section 4.2, query shift; the error is derived, the condition on Λ is a correction",
        rules=(
            Rule(ERROR_RATIO, low=0.95, high=1.05),
            Rule(LIMIT_ERROR, high=1e-5),
            Rule(ORTHOGONAL_ANSWER, high=1e-12),
        ),
        measure=query_shift,
        quick=Prompts(count=240_000),
        full=Prompts(count=1_000_000),
        quick_seconds=2.3,
        full_hours=0.003,
    ),
    Claim(
        id="zhang2024.covariate-shift-is-not-tolerated",
        statement="If all test inputs are scaled by c, the answers approach c² times the truth, a relative error of "
        "(c² − 1)². Least squares is not affected.",
        source="Section 4.2, covariate shift; the relative error is derived",
        rules=(
            Rule(SLOPE_RATIO, low=0.97, high=1.03),
            Rule(ERROR_DEVIATION, high=1e-3),
            Rule(LEAST_SQUARES_ERROR, high=1e-9),
        ),
        measure=covariate_shift,
        quick=LONG,
        full=LONG_FULL,
        quick_seconds=1.6,
        full_hours=0.004,
    ),
)
