"""Beyond the paper: spurious minima of its loss, the optima of related papers, and the staircase of rank-one heads."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.metrics import Estimate
from insitu.models import gradient_descent
from insitu.papers.zhang2024.risks import population_of, sample
from insitu.seed import Seed
from insitu.theory.one_layer.one_step import best_step
from insitu.theory.one_layer.population import Population
from insitu.theory.one_layer.saddles import Staircase, plateau_losses, staircase
from insitu.theory.one_layer.spurious_minima import StationaryPoint, stationary_points

__all__ = ["CLAIMS", "Forms", "RankOneHeads", "Relatives", "Traps"]

# The quantities that measurements estimate and rules decide.
FEWEST_PLATEAUS = "fewest plateaus"
EXTRA_FLAT_DIRECTIONS = "flat directions that no symmetry explains"
FORM_DIFFERENCE = "largest difference between the form and the layer's answer"
PLATEAU_DISTANCE = "largest distance of a plateau from its formula"
TRAP_GRADIENT = "largest gradient at a trap"
TRAP_EXCESS = "least loss of a trap over the global minimum, minus 1"
MOST_PLATEAUS = "most plateaus"
TRAPLESS_PROBLEMS = "problems without a certified trap"
WRONG_SIGNATURES = "prompts with other than d+1 negative and d+1 positive eigenvalues"


def formula_difference(name: str) -> str:
    return f"largest difference, {name}"


@dataclass(frozen=True)
class Forms:
    """Random prompts whose quadratic form in the weights is decomposed."""

    dims: tuple[int, ...]
    lengths: tuple[int, ...]
    prompts: int = 20


@dataclass(frozen=True)
class Traps:
    """Problems whose minima over all blocks are searched."""

    spectra: tuple[tuple[float, ...], ...]
    lengths: tuple[int, ...]
    starts: int


@dataclass(frozen=True)
class Relatives:
    """Problems on which closed forms of several papers are compared."""

    dims: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class RankOneHeads:
    """Rank-one heads and their training distribution."""

    dim: int = 4
    length: int = 31
    heads: int = 5
    start: float = 1e-3
    horizon: float = 4e6
    runs: int = 3


def corner(query: Tensor) -> Tensor:
    """The matrix X of lemma 5.1: the query beside a zero block."""
    dim = len(query)
    matrix = torch.zeros(dim + 1, dim + 1, dtype=query.dtype)
    matrix[:dim, dim] = matrix[dim, :dim] = query
    return matrix


def form_is_indefinite(run: Run, *, block: Callable[[Tensor], Tensor] = corner) -> Measurement:
    """The signs of the eigenvalues of the quadratic form in the weights, and the form against the layer's answer."""
    setting: Forms = run.setting
    wrong, errors, spectrum = 0, [], torch.zeros(1)
    for dim, length in zip(setting.dims, setting.lengths, strict=True):
        for place in range(setting.prompts):
            seed = run.seed / dim / place
            xs, query = (seed / "xs").normal(length, dim), (seed / "query").normal(dim)
            ys = xs @ (seed / "task").normal(dim)
            tokens = torch.cat([torch.cat([xs, query[None]]), torch.cat([ys, ys.new_zeros(1)])[:, None]], dim=1)
            moment = tokens.T @ tokens / length
            form = torch.kron(block(query), moment) / 2
            spectrum = torch.linalg.eigvalsh(form)
            edge = 1e-9 * spectrum[-1]
            signs = [int((spectrum < -edge).sum()), int((spectrum > edge).sum())]
            wrong += signs != [dim + 1, dim + 1]
            weights = (seed / "weights").normal(dim + 1, dim + 1)
            flat = weights.T.flatten()
            answer = weights[:, dim] @ moment @ weights[:, :dim] @ query
            errors.append(abs((flat @ form @ flat - answer).item()))
    places = torch.arange(1.0, len(spectrum) + 1)
    figure = Figure(
        (Panel("index", "eigenvalue", (line(f"d={setting.dims[-1]}", places, spectrum, look="points"),)),),
        "Eigenvalues of one prompt's quadratic form in the weights.",
        "As many negative as positive eigenvalues, and zeros between them.",
    )
    estimates = {
        WRONG_SIGNATURES: Estimate(float(wrong)),
        FORM_DIFFERENCE: Estimate(max(errors)),
    }
    return Measurement(estimates, figure)


Search = Callable[[Population, Seed, int], list[StationaryPoint]]


def traps_exist(run: Run, *, search: Search = stationary_points) -> Measurement:
    """Certified minima over all blocks that are not global, in every problem."""
    setting: Traps = run.setting
    without, slopes, excesses, extra, lines, notes = 0, [0.0], [], [0], [], []
    for colour, (spectrum, length) in enumerate(zip(setting.spectra, setting.lengths, strict=True)):
        population = population_of(spectrum, length)
        points = search(population, run.seed / colour, setting.starts)
        traps = [point for point in points if point.is_spurious]
        without += not traps
        slopes += [trap.slope for trap in traps]
        excesses += [trap.excess for trap in traps]
        extra += [trap.flat_directions - trap.symmetries for trap in traps]
        label = f"Λ = diag{spectrum}, N = {length}"
        certified = [p for p in points if p.is_minimum]
        notes.append(f"{label}: " + ", ".join(f"loss {p.loss:.4f} from {p.starts} starts" for p in certified) + ".")
        shares = [p.starts / setting.starts for p in certified]
        lines.append(line(label, [1 + p.excess for p in certified], shares, look="points", colour=colour))
    figure = Figure(
        (Panel("loss / least loss", "share of the starts", tuple(lines)),),
        f"Certified minima over all blocks, from {setting.starts} random starts each.",
        "For every problem a point at one and another to its right.",
    )
    estimates = {
        TRAPLESS_PROBLEMS: Estimate(float(without)),
        TRAP_GRADIENT: Estimate(max(slopes)),
        EXTRA_FLAT_DIRECTIONS: Estimate(float(max(extra))),
        TRAP_EXCESS: Estimate(min(excesses, default=0.0)),
    }
    return Measurement(estimates, figure, tuple(notes))


def one_formula_for_all(run: Run, *, best: Callable[..., Tensor] = best_step) -> Measurement:
    """The best step against the closed forms of four papers, and layers against steps."""
    setting: Relatives = run.setting
    gaps: dict[str, list[float]] = {name: [] for name in ("Zhang and Ahn", "Wu", "Mahankali", "layers")}
    for dim, length in zip(setting.dims, setting.lengths, strict=True):
        seed, eye = run.seed / dim, torch.eye(dim, dtype=torch.float64)
        root = (seed / "covariance").normal(dim, dim)
        spread = (root @ root.T + (root @ root.T).T) / (2 * dim) + 0.3 * eye
        keys = Population(spread, length).key_matrix
        inverse = torch.linalg.inv(spread)
        gaps["Zhang and Ahn"].append(distance(best(spread, length), torch.linalg.inv(keys)))
        wu = torch.linalg.inv((1 + 1 / length) * spread + (spread.trace() + 0.6 / 0.5) / length * eye)
        gaps["Wu"].append(distance(best(spread, length, weights=0.5 * eye, noise_variance=0.6), wu))
        prior = (inverse + inverse.T) / 2
        white = length / (length + 1 + dim + 0.6) * inverse
        gaps["Mahankali"].append(distance(best(spread, length, weights=prior, noise_variance=0.6), white))
        prompt = sample(seed, spread, spread, (seed / "tasks").normal(4, dim), length, 0.0)
        step, weights = best(spread, length), torch.zeros(4, dim, 1, dtype=torch.float64)
        for rate in (1.0, 0.5, 0.25):
            missing = prompt.ys - prompt.xs @ weights
            weights = weights + rate * step @ (prompt.xs.mT @ missing) / length
        answers = gradient_descent(dim, 3, (1.0, 0.5, 0.25), preconditioner=step).predict(prompt)
        gaps["layers"].append((answers - prompt.queries @ weights).abs().max().item())
    curves = [
        line(name, setting.dims, np.maximum(differences, 1e-17).tolist(), colour=i)
        for i, (name, differences) in enumerate(gaps.items())
    ]
    figure = Figure(
        (Panel("dimension", "difference", tuple(curves), y_scale="log"),),
        "One formula for the best step against the closed forms of related papers, and L layers against L steps.",
        "Curves at the rounding of float64.",
    )
    estimates = {formula_difference(name): Estimate(max(differences)) for name, differences in gaps.items()}
    return Measurement(estimates, figure)


def distance(a: Tensor, b: Tensor) -> float:
    return (torch.linalg.matrix_norm(a - b) / torch.linalg.matrix_norm(b)).item()


def heads_climb_down(run: Run, *, flow: Callable[..., Staircase] = staircase) -> Measurement:
    """Flows of rank-one heads from small starts: how many plateaus, and how far from the formula's losses."""
    setting: RankOneHeads = run.setting
    values = torch.arange(1, setting.dim + 1, dtype=torch.float64)
    population = Population(torch.diag(values / values.sum()), setting.length)
    expected = plateau_losses(population)
    counts, misses, lines = [], [], []
    for place in range(setting.runs):
        path = flow(population, run.seed / place, setting.heads, setting.start, setting.horizon)
        plateaus = path.plateaus()
        counts.append(len(plateaus))
        misses.append((plateaus - expected).abs().max().item() if len(plateaus) == len(expected) else 1.0)
        lines.append(line(f"run {place + 1}", path.times[1:], path.losses[1:], colour=place))
    for m, level in enumerate(expected.tolist()):
        ends = (setting.horizon / 1e5, setting.horizon)
        lines.append(line("formula" if not m else "", ends, (level, level), look="dotted", colour=-1))
    figure = Figure(
        (Panel("time", "loss", tuple(lines), x_scale="log"),),
        f"Loss of {setting.heads} heads with rank-one keys and queries from starts of size {setting.start:g}; dotted, "
        "the plateaus of the formula.",
        "Staircases that rest on the dotted lines one after the other.",
    )
    estimates = {
        FEWEST_PLATEAUS: Estimate(float(min(counts))),
        MOST_PLATEAUS: Estimate(float(max(counts))),
        PLATEAU_DISTANCE: Estimate(max(misses)),
    }
    return Measurement(estimates, figure)


CLAIMS = (
    Claim(
        id="zhang2024.loss-is-not-convex",
        statement="The answer is a quadratic form in the weights with exactly d+1 negative and d+1 positive "
        "eigenvalues, so the loss is not convex.",
        source="Lemma 5.1; the counts are derived",
        rules=(
            Rule(WRONG_SIGNATURES, high=0.0),
            Rule(FORM_DIFFERENCE, high=1e-9),
        ),
        measure=form_is_indefinite,
        quick=Forms((1, 2, 4, 6), (3, 5, 9, 10)),
        full=Forms((1, 2, 4, 6, 10, 20), (3, 5, 9, 10, 20, 40), prompts=100),
        quick_seconds=0.013,
        full_hours=0.002,
    ),
    Claim(
        id="zhang2024.traps-outside-the-slice",
        statement="Over all blocks, including those that stay at zero from the paper's initialisation, the loss has "
        "strict local minima, up to its symmetries, that are not global.",
        source="Beyond the paper, which starts with the mixing blocks at zero; derived",
        rules=(
            Rule(TRAPLESS_PROBLEMS, high=0.0),
            Rule(TRAP_GRADIENT, high=1e-8),
            Rule(EXTRA_FLAT_DIRECTIONS, high=0.0),
            Rule(TRAP_EXCESS, low=0.1),
        ),
        measure=traps_exist,
        quick=Traps(((3.0, 2.0, 1.0), (3.0, 2.0, 1.0), (1.0, 1.0)), (5, 50, 5), starts=24),
        full=Traps(((3.0, 2.0, 1.0), (3.0, 2.0, 1.0), (1.0, 1.0)), (5, 50, 5), starts=400),
        quick_seconds=1.4,
        full_hours=0.006,
    ),
    Claim(
        id="zhang2024.one-formula-behind-four-papers",
        statement="The best preconditioned step for any weight prior and noise reduces to the optima of Zhang, Ahn, "
        "Wu and Mahankali. L layers with this preconditioner take L steps.",
        source="Beyond the paper; Ahn et al. 2023, lemma 1",
        rules=tuple(
            Rule(formula_difference(name), high=1e-11) for name in ("Zhang and Ahn", "Wu", "Mahankali", "layers")
        ),
        measure=one_formula_for_all,
        quick=Relatives((1, 3, 8), (2, 6, 20)),
        full=Relatives((1, 3, 8, 20, 50), (2, 6, 20, 40, 100)),
        quick_seconds=0.006,
        full_hours=0.001,
    ),
    Claim(
        id="zhang2024.rank-one-heads-learn-in-steps",
        statement="With separate rank-one keys and queries, gradient flow from a small start rests at d+1 losses that "
        "are known in closed form: it learns one eigenvector after the other.",
        source="Zhang, Singh, Latham and Saxe (2025)",
        rules=(
            Rule(FEWEST_PLATEAUS, low=5.0, high=5.0),
            Rule(MOST_PLATEAUS, low=5.0, high=5.0),
            Rule(PLATEAU_DISTANCE, high=1e-3),
        ),
        measure=heads_climb_down,
        quick=RankOneHeads(),
        full=RankOneHeads(start=1e-4, horizon=4e7, runs=10),
        quick_seconds=0.71,
        full_hours=0.002,
    ),
)
