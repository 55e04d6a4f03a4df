"""What the trained layer does on test prompts from the training covariance: risk, rates and a guarantee."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.metrics import Estimate
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.risk import (
    Labels,
    Risk,
    average_linear_risk,
    floor_constant,
    guarantee,
    layer_risk,
    length_for,
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


def risk_is_exact(run: Run, *, exact: Callable[[Population, int, Labels], Risk] = layer_risk) -> Measurement:
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
        lines.append(line(f"M, {named(spectrum)}", setting.lengths, by_test, colour=colour))
        lines.append(line(f"N, {named(spectrum)}", setting.lengths, by_train, colour=colour, look="dashed"))
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


def named(spectrum: tuple[float, ...]) -> str:
    """A covariance in a legend: its eigenvalues from the largest to the smallest, and how many there are."""
    largest, smallest = max(spectrum), min(spectrum)
    ends = f"{largest:g}" if largest == smallest else f"{largest:g} to {smallest:g}"
    return f"d={len(spectrum)}, λ {ends}"


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
        lines.append(line(named(spectrum), setting.lengths, found, colour=colour))
    ends = (setting.lengths[0], setting.lengths[-1])
    lines.append(line("bound", ends, (1.0, 1.0), look="dotted", colour=-1))
    figure = Figure(
        (Panel("training length N", "risk / (η + ε)", tuple(lines), x_scale="log", y_scale="log"),),
        "Exact risk at the test length of corollary 4.3 over its bound, the worst of three ε.",
        "Curves that stay at or below the dotted line at one.",
    )
    return Measurement({"largest risk over η + ε": Estimate(max(shares))}, figure)


SPECTRA = ((1.0,) * 3, (1.5, 0.9, 0.6), (2.0, 1.0, 0.5, 0.25, 0.1))

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
)
