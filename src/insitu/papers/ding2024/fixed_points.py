"""The fixed point of causal attention: its error without noise, under shift, under noise, and normalised by length."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.learners import Kaczmarz, LeastSquares, LinearLearner
from insitu.metrics import Estimate, largest_gap
from insitu.models import Causal, gradient_descent
from insitu.papers.ding2024.depth import mean_line
from insitu.papers.ding2024.setting import (
    Chunks,
    chunks,
    least_certain,
    query_error,
    reading_weights,
    sample,
)
from insitu.tasks import Gaussian, Law, LinearRegression, UniformCube
from insitu.theory.convergence import (
    Variant,
    causal_error,
    gaussian_inverse_square,
    normalised_causal_error,
    shrink_and_project,
    stationary_weights,
    triangle,
    uniform_inverse_square,
)

__all__ = ["CLAIMS"]

# The quantities that measurements estimate and rules decide.
DEPTH_GAP = "deep network against fixed point"
PROJECTION_GAP = "fixed point against shrink and project"
LARGEST_PREFIX_ERROR = "largest prefix error over lengths and shifts"
NORMALISED_SLOPE = "log-log slope of the normalised error, shift 0"
NORMALISED_ERROR = "normalised error, n=300, shift 0"


def error_ratio(points: int) -> str:
    return f"measured over expected, n={points}"


def error_at_length(points: int) -> str:
    return f"query error, n={points}"


def error_at_shift(shift: int) -> str:
    return f"causal error, n=300, shift {shift}"


def shift_increase(shift: int) -> str:
    return f"error at shift {shift} minus that at {shift - 1}, least certain length"


def noise_excess(mask: str, law: str) -> str:
    return f"{mask} excess over noise variance, {law}"


def normalisation_cost(shift: int) -> str:
    return f"normalised minus causal error, shift {shift}, least certain length"


def eigenvalue_ratio(points: int) -> str:
    return f"ratio of eigenvalue spreads over n/2, n={points}"


def condition_ratio(points: int) -> str:
    return f"ratio of 2-norm condition numbers over n/2, n={points}"


PrefixWeights = Callable[[Tensor, Tensor], Tensor]
SHIFTS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Places:
    """Errors at several context lengths, on many prompts.

    Args:
        chunks: The prompts; as long as the longest length.
        lengths: The context lengths at which to look.
    """

    chunks: Chunks
    lengths: tuple[int, ...]

    @property
    def dim(self) -> int:
        """The dimension of an input."""
        return self.chunks.dim


@dataclass(frozen=True)
class Normalised:
    """The study of the length-normalised variant.

    Args:
        places: The prompts and lengths of the error curves.
        batch: Prompts for the identities and the condition numbers.
        layers: The depth of the network that must reach the fixed point.
        rate: Its rate, below the step limit.
    """

    places: Places
    batch: int
    layers: int
    rate: float = 0.2

    @property
    def dim(self) -> int:
        """The dimension of an input."""
        return self.places.dim


@dataclass(frozen=True)
class NoisyPrompts:
    """Long noisy prompts.

    Args:
        places: The prompts and the lengths at which to look.
        settled: From this length on the error is taken to have reached its floor, and is averaged.
        noise: The standard deviation of the label noise.
    """

    places: Places
    settled: int
    noise: float = 1.0


def errors_at(
    run: Run, places: Places, law: Law, weights: Mapping[str, PrefixWeights], name: str, noise: float = 0.0
) -> dict[str, Float[Tensor, "length batch"]]:
    """Query errors, for every kind of weights, learned from the first n examples, for every length n."""
    parts: dict[str, list[Tensor]] = {kind: [] for kind in weights}
    rows = [n - 1 for n in places.lengths]
    for episode in chunks(places.chunks, LinearRegression(law, noise=noise), run.seed / name, run.device):
        for kind, learn in weights.items():
            estimate = learn(episode.prompt.xs, episode.prompt.ys)[:, rows]
            parts[kind].append(query_error(estimate, episode.latent, law).T.cpu())
    return {kind: torch.cat(errors, dim=1) for kind, errors in parts.items()}


def causal_error_decays(run: Run, *, learner: LinearLearner | None = None) -> Measurement:
    """The query error of the causal fixed point against its exact expectation."""
    setting: Places = run.setting
    law = UniformCube(setting.dim)
    weights = {"causal": (learner or Kaczmarz()).prefix_weights}
    errors = errors_at(run, setting, law, weights, "prompts")["causal"]
    expected = causal_error(setting.dim, setting.lengths[-1], second_moment=1 / 3)
    measured = {n: Estimate.mean(row) for n, row in zip(setting.lengths, errors, strict=True)}
    estimates = {}
    for n in (20, 40, 60, 80, 100):
        theory = expected[n - 1].item()
        estimates[error_ratio(n)] = Estimate(
            measured[n].value / theory, measured[n].error / theory, measured[n].samples
        )
    estimates |= {error_at_length(n): measured[n] for n in (94, 102)}
    lengths = list(setting.lengths)
    every = range(1, lengths[-1] + 1)
    lines = (
        mean_line("causal fixed point", errors, 0, x=lengths),
        line("(d/3)(1 − 1/d)ⁿ", every, expected, look="dashed", colour=-1),
    )
    figure = Figure(
        (Panel("examples in the context", "query error", lines, y_scale="log"),),
        "Query error of infinitely deep causal attention, without noise and shift, and its exact expectation.",
        "A straight line on a log axis, falling by the factor 15/16 per example; measurement and theory coincide.",
    )
    return Measurement(estimates, figure)


def shift_slows_causal(
    run: Run, *, causal: LinearLearner | None = None, prefix: LinearLearner | None = None
) -> Measurement:
    """The causal fixed point under shifted inputs, beside least squares: figure 2, right."""
    setting: Places = run.setting
    laws = [UniformCube(setting.dim, shift=float(mu)) for mu in SHIFTS]
    few = Places(Chunks(64, setting.chunks.points, setting.dim), setting.lengths)
    kaczmarz = {"causal": (causal or Kaczmarz()).prefix_weights}
    least_squares = {"prefix": (prefix or LeastSquares()).prefix_weights}
    # One seed for all shifts: the same cube and the same functions, so gaps are paired.
    errors = [errors_at(run, setting, law, kaczmarz, "prompts")["causal"] for law in laws]
    exact = [errors_at(run, few, law, least_squares, "few")["prefix"] for law in laws]
    estimates = {
        shift_increase(mu): least_certain([Estimate.mean(gap) for gap in errors[mu] - errors[mu - 1]])
        for mu in SHIFTS[1:]
    }
    estimates |= {error_at_shift(mu): Estimate.mean(errors[mu][-1]) for mu in SHIFTS}
    worst = max(e.mean(1).max().item() for e in exact)
    estimates[LARGEST_PREFIX_ERROR] = Estimate(worst)
    lengths = list(setting.lengths)
    lines = tuple(mean_line(f"mean {mu}", errors[mu], mu, x=lengths) for mu in SHIFTS)
    figure = Figure(
        (Panel("examples in the context", "query error", lines, y_scale="log"),),
        "Query error of infinitely deep causal attention for inputs uniform on the cube around a mean; 99 % bands. "
        f"Least squares, the prefix fixed point, stays at {worst:.0e} or below throughout.",
        "Four falling curves on a log axis: the larger the mean of the inputs, the slower the error falls.",
    )
    return Measurement(estimates, figure)


def causal_has_a_noise_floor(
    run: Run, *, causal: LinearLearner | None = None, prefix: LinearLearner | None = None
) -> Measurement:
    """Excess query error over the noise variance against context length, for two input laws."""
    setting: NoisyPrompts = run.setting
    lengths, dim = list(setting.places.lengths), setting.places.dim
    settled = [n >= setting.settled for n in lengths]
    laws = {
        "uniform": (UniformCube(dim), 1 / 3, uniform_inverse_square(dim)),
        "Gaussian": (Gaussian(dim), 1.0, gaussian_inverse_square(dim)),
    }
    estimates, panels = {}, []
    for name, (law, moment, inverse) in laws.items():
        weights = {
            "causal": (causal or Kaczmarz()).prefix_weights,
            "prefix": (prefix or LeastSquares()).prefix_weights,
        }
        errors = errors_at(run, setting.places, law, weights, name, setting.noise)
        excess = {kind: error / setting.noise**2 for kind, error in errors.items()}
        estimates[noise_excess("causal", name)] = Estimate.mean(excess["causal"][settled].mean(0))
        estimates[noise_excess("prefix", name)] = Estimate.mean(excess["prefix"][-1])
        theory = causal_error(dim, lengths[-1], second_moment=moment, noise=setting.noise, inverse_square=inverse)
        lines = [mean_line(kind, error, colour, x=lengths) for colour, (kind, error) in enumerate(excess.items())]
        lines.append(line("causal, theory", lengths, theory[[n - 1 for n in lengths]], look="dashed", colour=-1))
        panels.append(
            Panel(
                "examples in the context",
                "excess query error / noise variance",
                tuple(lines),
                title=f"{name} inputs",
                x_scale="log",
                y_scale="log",
            )
        )
    figure = Figure(
        tuple(panels),
        "Excess query error under label noise with 99 % bands: one Kaczmarz pass reaches a floor, least squares "
        "does not. Dashed: the exact expectation of the causal fixed point.",
        "For both input laws the causal curve levels off near 1, on its theory; the prefix curve keeps falling.",
    )
    return Measurement(estimates, figure)


def normalised_is_slower(
    run: Run, *, normalised: PrefixWeights = shrink_and_project, variant: Variant = "normalised"
) -> Measurement:
    """The length-normalised causal variant: its fixed point, its error and its conditioning."""
    setting: Normalised = run.setting
    estimates = {
        **normalised_identities(run, normalised, variant),
        **conditioning(run, setting.places.lengths, variant),
    }
    estimates_of_errors, figure = normalised_errors(run, normalised)
    return Measurement({**estimates, **estimates_of_errors}, figure)


@torch.no_grad()
def normalised_identities(run: Run, normalised: PrefixWeights, variant: Variant) -> dict[str, Estimate]:
    setting: Normalised = run.setting
    prompt = sample(run, "identities", batch=setting.batch, points=40, noise=0.5).prompt
    fixed = stationary_weights(prompt.xs, prompt.ys, variant)
    network = gradient_descent(setting.dim, setting.layers, setting.rate, mask=Causal(), normaliser="visible").to(
        run.device
    )
    deep = network.predict(reading_weights(prompt)).mT
    return {
        PROJECTION_GAP: Estimate(largest_gap(fixed, normalised(prompt.xs, prompt.ys))),
        DEPTH_GAP: Estimate(largest_gap(deep, fixed[:, -1])),
    }


def normalised_errors(run: Run, normalised: PrefixWeights) -> tuple[dict[str, Estimate], Figure]:
    setting: Normalised = run.setting
    places = setting.places
    lengths = list(places.lengths)
    estimates, panels = {}, []
    for mu in SHIFTS:
        law = UniformCube(setting.dim, shift=float(mu))
        weights = {"slow": normalised, "fast": Kaczmarz().prefix_weights}
        slow, fast = errors_at(run, places, law, weights, "prompts").values()
        gaps = [Estimate.mean(gap) for gap in slow - fast]
        estimates[normalisation_cost(mu)] = least_certain(gaps)
        lines = [mean_line("normalised", slow, 1, x=lengths), mean_line("causal", fast, 0, x=lengths)]
        if mu == 0:
            theory = normalised_causal_error(setting.dim, lengths[-1], second_moment=1 / 3)
            lines.append(line("normalised, theory", range(1, lengths[-1] + 1), theory, look="dashed", colour=-1))
            estimates[NORMALISED_ERROR] = Estimate.mean(slow[-1])
            estimates[NORMALISED_SLOPE] = slope(slow, lengths, 100, 300)
        panels.append(Panel("examples", "query error", tuple(lines), title=f"mean {mu}", y_scale="log"))
    figure = Figure(
        tuple(panels),
        "Query errors of the fixed points of causal attention with and without length normalisation; 99 % bands.",
        "For every mean of the inputs the normalised variant lies above; at mean 0 it falls like a power only.",
    )
    return estimates, figure


def slope(errors: Float[Tensor, "length batch"], lengths: Sequence[int], first: int, last: int) -> Estimate:
    """The slope of the log mean error against the log length between two lengths."""
    ratio = Estimate.ratio(errors[lengths.index(last)], errors[lengths.index(first)])
    stretch = math.log(last / first)
    return Estimate(math.log(ratio.value) / stretch, ratio.error / ratio.value / stretch, ratio.samples)


def conditioning(run: Run, lengths: Sequence[int], variant: Variant) -> dict[str, Estimate]:
    """How much worse conditioned the normalised system is, by eigenvalues and by singular values, over n/2."""
    estimates = {}
    for n in (40, 100, 300):
        # Short prompts vary more and cost less.
        size = run.setting.batch * 300 // n
        prompt = sample(run, f"conditioning {n}", batch=size, points=n).prompt
        plain, scaled = triangle(prompt.xs, "causal"), triangle(prompt.xs, variant)
        values = [m.diagonal(dim1=-2, dim2=-1) for m in (scaled, plain)]
        above, below = (v.amax(-1) / v.amin(-1) for v in values)
        estimates[eigenvalue_ratio(n)] = Estimate.mean(above / below / (n / 2))
        norms = [torch.linalg.cond(m) for m in (scaled, plain)]
        estimates[condition_ratio(n)] = Estimate.mean(norms[0] / norms[1] / (n / 2))
    return estimates


GRID = tuple(range(20, 301, 20))
LONG = (20, 30, 50, 70, 100, 150, 200, 300, 500, 700, *range(1000, 3001, 50))

CLAIMS = (
    Claim(
        id="ding2024.causal-error-decays-geometrically",
        statement="Without noise and with centred inputs, the query error of the causal fixed point is (d/3)(1 − "
        "1/d)ⁿ: it falls geometrically with the number of examples. At d = 16 it takes about a hundred examples to "
        "fall below 10⁻².",
        source="Figure 2, right (mean 0); the formula is derived from proposition 5",
        rules=(
            *(Rule(error_ratio(n), low=0.9, high=1.1) for n in (20, 40, 60, 80, 100)),
            Rule(error_at_length(94), low=1e-2, printed="more than 100 examples to get below 10⁻²"),
            Rule(error_at_length(102), high=1e-2),
        ),
        measure=causal_error_decays,
        quick=Places(
            Chunks(batch=65536, points=102, chunk=2048), lengths=(*range(2, 94, 4), 20, 40, 60, 80, 94, 100, 102)
        ),
        full=Places(
            Chunks(batch=1048576, points=102, chunk=2048), lengths=(*range(2, 94, 4), 20, 40, 60, 80, 94, 100, 102)
        ),
        quick_seconds=2.5,
        full_hours=0.01,
    ),
    Claim(
        id="ding2024.mean-shift-slows-causal",
        statement="The further the mean of the inputs lies from zero, the slower the query error of the causal fixed "
        "point falls with the number of examples, at every length. The prefix fixed point is exact for every mean.",
        source="Figure 2, right; section 5.1",
        rules=(
            *(Rule(shift_increase(mu), low=0.0) for mu in SHIFTS[1:]),
            Rule(error_at_shift(0), low=1e-8, high=4e-8),
            Rule(error_at_shift(1), low=1.5e-3, high=6e-3),
            Rule(error_at_shift(2), low=0.31, high=1.24),
            Rule(error_at_shift(3), low=1.35, high=5.4),
            Rule(LARGEST_PREFIX_ERROR, high=1e-22),
        ),
        measure=shift_slows_causal,
        quick=Places(Chunks(batch=8192, points=300), lengths=GRID),
        full=Places(Chunks(batch=262144, points=300), lengths=GRID),
        quick_seconds=3.1,
        full_hours=0.03,
    ),
    Claim(
        id="ding2024.causal-has-a-noise-floor",
        statement="With noisy labels the causal fixed point does not approach the optimum, however many examples "
        "there are. Its excess error tends to about d E[x₁²] E‖x‖⁻² times the noise variance (1.06 for the uniform "
        "cube, 1.14 for the Gaussian, d = 16), while that of least squares falls to zero.",
        source="Proposition 5 and its discussion; label noise is not in the paper",
        rules=(
            Rule(noise_excess("causal", "uniform"), low=1.0, high=1.1),
            Rule(noise_excess("causal", "Gaussian"), low=1.09, high=1.2),
            Rule(noise_excess("prefix", "uniform"), high=0.02),
            Rule(noise_excess("prefix", "Gaussian"), high=0.02),
        ),
        measure=causal_has_a_noise_floor,
        quick=NoisyPrompts(Places(Chunks(batch=192, points=3000, chunk=64), lengths=LONG), settled=1000),
        full=NoisyPrompts(Places(Chunks(batch=4096, points=3000, chunk=64), lengths=LONG), settled=1000),
        quick_seconds=1.8,
        full_hours=0.01,
    ),
    Claim(
        id="ding2024.length-normalisation-is-slower",
        statement="With division by the position instead of the context length, the fixed point shrinks before it "
        "projects. It is worse than plain causal attention at every length and shift, and its error falls only like "
        "n⁻². Its linear system is about n/2 times worse conditioned by eigenvalues, but much less so in the 2-norm.",
        source="Propositions 7 and 8, appendix D, figure 4",
        rules=(
            Rule(PROJECTION_GAP, high=1e-10),
            Rule(DEPTH_GAP, high=1e-10),
            *(Rule(normalisation_cost(mu), low=0.0) for mu in SHIFTS),
            Rule(NORMALISED_ERROR, low=0.0135, high=0.054),
            Rule(NORMALISED_SLOPE, low=-2.2, high=-1.8),
            *(Rule(eigenvalue_ratio(n), low=0.5, high=2.0, printed="about 1") for n in (40, 100, 300)),
            *(Rule(condition_ratio(n), high=0.5) for n in (40, 100, 300)),
        ),
        measure=normalised_is_slower,
        quick=Normalised(Places(Chunks(batch=3072, points=300), lengths=GRID), batch=16, layers=4000),
        full=Normalised(Places(Chunks(batch=131072, points=300), lengths=GRID), batch=64, layers=6000),
        quick_seconds=3.9,
        full_hours=0.05,
    ),
)
