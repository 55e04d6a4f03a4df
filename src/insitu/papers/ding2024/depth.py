"""How fast deep networks converge, and to which fixed point."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Figure, Line, Measurement, Panel, Rule, Run, line
from insitu.learners import Kaczmarz, LeastSquares, LinearLearner
from insitu.metrics import Estimate, largest_gap
from insitu.models import AttentionNetwork, Causal, Mask, Prefix, gradient_descent
from insitu.papers.ding2024.setting import Chunks, Depth, chunks, query_error, reading_weights, sample
from insitu.prompt import Episode, Prompt
from insitu.tasks import LinearRegression, UniformCube
from insitu.theory.convergence import Variant, contraction, layers_needed, spectrum, step_limit

__all__ = ["CLAIMS", "LAST", "SHORT_PROMPTS"]

# The quantities that measurements estimate and rules decide.
DEPTH_EXPONENT = "causal layers over length, exponent"
ERROR_RATIO = "causal over prefix query error"
KACZMARZ_DISTANCE = "distance to one Kaczmarz pass"
ERROR_BELOW_LIMIT = "error at 0.98 of the step limit, over its start"
ERROR_ABOVE_LIMIT = "error at 1.02 of the step limit, over its start"
BOUND_RATIO = "error over its geometric bound, largest"
CONTEXT_RESIDUAL = "largest context residual at the fixed point"
DEPTH_DECREASE = "prefix layers lost from one length to the next, least"
PREFIX_SLOPE = "slope of the log error over log max|1 − ηλ|, largest deviation from 1"
CAUSAL_SLOPE = "slope of the log error over log max|1 − η‖x‖²/n|, largest deviation from 1"


def least_squares_distance(points: int) -> str:
    return f"distance to least squares, n={points}"


def mask_error(mask: str, kind: str) -> str:
    return f"{mask} {kind} error"


def rate_excess(rate: float, best: float) -> str:
    return f"prefix error at rate {rate} minus that at {best}"


def diverged_share(rate: float) -> str:
    return f"share of prefix prompts whose error passes 1000 at rate {rate}"


def largest_causal_error(rate: float) -> str:
    return f"largest causal error at rate {rate}"


def unstable_share(points: int) -> str:
    return f"share of prompts with a step limit below the rate, n={points}"


def prefix_lead_share(points: int) -> str:
    return f"share of prompts on which prefix is ahead, n={points}"


def log_mean_ratio(points: int) -> str:
    return f"log10 of the mean prefix over the mean causal error, n={points}"


def prefix_lead(points: int) -> str:
    return f"causal minus prefix error, n={points}"


def layers_at(mask: str, points: int) -> str:
    return f"{mask} layers at n={points}"


# Layers over which a prefix residual is followed: few enough to stay above rounding.
SHORT = 60
# Below this a float64 has too few digits left.
TINY = 1e-250


@dataclass(frozen=True)
class RateSweep:
    """Depth for several rates, on many prompts.

    Args:
        chunks: The prompts.
        layers: Layers.
        rates: The rates to compare.
        causal_share: The share of the prompts, whole chunks, on which the causal mask is measured; its errors vary
            less and cost more.
    """

    chunks: Chunks
    layers: int
    rates: tuple[float, ...]
    causal_share: float = 1.0

    @property
    def dim(self) -> int:
        """The dimension of an input."""
        return self.chunks.dim


@dataclass(frozen=True)
class DepthByLength:
    """Depth needed for several context lengths.

    Args:
        batch: Prompts of each length.
        lengths: The context lengths.
        tolerance: How near to the fixed point.
        rate: The rate of a layer.
        dim: The dimension of an input.
    """

    batch: int
    lengths: tuple[int, ...]
    tolerance: float = 1e-6
    rate: float = 1.6
    dim: int = 16


@dataclass(frozen=True)
class Shortened:
    """A network for long prompts, tested on shorter ones.

    Args:
        chunks: The prompts.
        layers: Layers.
        rate: The rate of a layer, chosen for long prompts.
        lengths: The context lengths, ascending.
    """

    chunks: Chunks
    layers: int
    rate: float
    lengths: tuple[int, int, int]

    @property
    def dim(self) -> int:
        """The dimension of an input."""
        return self.chunks.dim


@torch.no_grad()
def prefix_reaches_least_squares(run: Run, *, mask: Mask | None = None) -> Measurement:
    """The limit, the rate and the step limit of the network under the prefix mask."""
    setting: Depth = run.setting
    mask = mask or Prefix()
    limits = {
        least_squares_distance(n): distance_to(
            LeastSquares(), scaled(sample(run, f"limit {n}", batch=setting.batch, points=n, noise=0.5)), mask, setting
        )
        for n in (setting.points, setting.dim // 2)
    }
    slope, envelope, figure = prefix_slope(run, mask)
    prompt = scaled(sample(run, "edge", batch=setting.batch, points=setting.points)).prompt
    # With the largest eigenvalue scaled to 1 the step limit is 2 for every prompt.
    growth = {factor: residuals(prompt, mask, 2 * factor, setting.layers // 4) for factor in (0.98, 1.02)}
    estimates = {
        **limits,
        PREFIX_SLOPE: slope,
        BOUND_RATIO: envelope,
        ERROR_BELOW_LIMIT: Estimate(shrinkage(growth[0.98]).max().item()),
        ERROR_ABOVE_LIMIT: Estimate(shrinkage(growth[1.02]).min().item()),
    }
    return Measurement(estimates, figure)


@torch.no_grad()
def causal_reaches_one_pass(run: Run, *, mask: Mask | None = None, learner: LinearLearner | None = None) -> Measurement:
    """The limit and the rate of the network under the causal mask."""
    setting: Depth = run.setting
    mask = mask or Causal()
    episode = sample(run, "limit", batch=setting.batch, points=setting.points, noise=0.5)
    residual = residuals(episode.prompt, mask, setting.rate, setting.layers)[-1]
    slope, figure = causal_slope(run, mask)
    estimates = {
        KACZMARZ_DISTANCE: distance_to(learner or Kaczmarz(), episode, mask, setting),
        CONTEXT_RESIDUAL: Estimate(residual.max().item()),
        CAUSAL_SLOPE: slope,
    }
    return Measurement(estimates, figure)


def distance_to(learner: LinearLearner, episode: Episode, mask: Mask, setting: Depth) -> Estimate:
    """The largest distance of the deep network's weights from a learner's."""
    prompt = reading_weights(episode.prompt)
    network = gradient_descent(setting.dim, setting.layers, setting.rate, mask=mask).to(prompt.xs.device)
    return Estimate(largest_gap(network.predict(prompt), learner.predict(prompt)))


def scaled(episode: Episode) -> Episode:
    """Inputs scaled, prompt by prompt, so that the largest eigenvalue of their second moment is 1."""
    prompt = episode.prompt
    size = spectrum(prompt.xs, "prefix").amax(-1).sqrt()[:, None, None]
    return Episode(Prompt(prompt.xs / size, prompt.ys, prompt.queries), episode.answers, episode.latent)


def residuals(prompt: Prompt, mask: Mask, rate: float, layers: int) -> Float[Tensor, "layer batch"]:
    """The size of the residuals of the examples, before the first layer and after each."""
    network = gradient_descent(prompt.dim, layers, rate, mask=mask).to(prompt.xs.device)
    sizes = [state[:, : prompt.points, prompt.dim :].flatten(1).norm(dim=1) for state in network.states(prompt)]
    return torch.stack(sizes)


def shrinkage(sizes: Float[Tensor, "layer batch"]) -> Float[Tensor, " batch"]:
    return sizes[-1] / sizes[0]


def prefix_slope(run: Run, mask: Mask) -> tuple[Estimate, Estimate, Figure]:
    """The network's rate against theory: exactly on its slowest direction, and as a bound on random labels."""
    setting: Depth = run.setting
    prompt = sample(run, "slope", batch=setting.batch, points=setting.points).prompt
    factor = contraction(prompt.xs, setting.rate, "prefix")
    values, vectors = torch.linalg.eigh(prompt.xs.mT @ prompt.xs / setting.points)
    slowest = (1 - setting.rate * values).abs().argmax(-1)
    direction = vectors.take_along_dim(slowest[:, None, None], dim=2)
    # Labels along one eigenvector leave an error along it alone, so its slope shows from the first layer on.
    along = residuals(Prompt(prompt.xs, prompt.xs @ direction, prompt.queries), mask, setting.rate, SHORT)
    slope = along[-1] / along[0]
    deviation = slope.log() / SHORT / factor.log() - 1
    free = residuals(prompt, mask, setting.rate, SHORT)
    layers = torch.arange(SHORT + 1).to(factor)[:, None]
    bound = free[0] * factor**layers
    figure = slope_figure(free, bound, range(SHORT + 1), "the geometric bound")
    return Estimate(deviation.abs().max().item()), Estimate((free / bound).max().item()), figure


def causal_slope(run: Run, mask: Mask) -> tuple[Estimate, Figure]:
    """The late slope of the residuals, which obey a homogeneous recursion and so fall without a floor."""
    setting: Depth = run.setting
    prompt = sample(run, "slope", batch=setting.batch, points=setting.points).prompt
    sizes = residuals(prompt, mask, setting.rate, setting.layers)
    factor = contraction(prompt.xs, setting.rate, "causal")
    last = (sizes > TINY).sum(0) - 1
    first = last * 3 // 4
    ends = [sizes.take_along_dim(place[None], dim=0)[0] for place in (first, last)]
    slope = (ends[1] / ends[0]).log() / (last - first)
    layers = torch.arange(setting.layers + 1).to(factor)[:, None]
    theory = (ends[1].log() + (layers - last) * factor.log()).exp()
    looks = range(0, setting.layers + 1, max(1, setting.layers // 200))
    figure = slope_figure(sizes[looks], theory[looks], looks, "the asymptotic slope")
    return Estimate((slope / factor.log() - 1).abs().max().item()), figure


def slope_figure(
    sizes: Float[Tensor, "place batch"], theory: Float[Tensor, "place batch"], layers: range, name: str
) -> Figure:
    """Residuals of three prompts against depth, with the prediction of the theory for each."""
    lines = []
    for b in range(min(3, sizes.shape[1])):
        accurate = sizes[:, b] > TINY
        places = torch.tensor(layers)[accurate.cpu()].tolist()
        lines.append(line(f"prompt {b + 1}", places, sizes[accurate, b].tolist(), colour=b))
        label = name if b == 0 else ""
        lines.append(line(label, places, theory[accurate, b].tolist(), look="dashed", colour=-1))
    return Figure(
        (Panel("layer", "size of the context residuals", tuple(lines), y_scale="log"),),
        f"Residuals of the examples against depth for three prompts; dashed: {name} of the theory.",
        "Falling lines on a log axis, one per prompt, each ending parallel to its predicted slope.",
    )


@torch.no_grad()
def causal_query_error_stalls(run: Run, *, prefix: Mask | None = None, causal: Mask | None = None) -> Measurement:
    """Context and query errors against depth under both masks (figure 2, left and middle)."""
    setting: RateSweep = run.setting
    few = replace(setting.chunks, batch=int(setting.chunks.batch * setting.causal_share))
    curves = {
        "prefix": depth_curves(run, prefix or Prefix(), setting.rates[0], setting.chunks),
        "causal": depth_curves(run, causal or Causal(), setting.rates[0], few),
    }
    estimates = {mask_error(m, kind): Estimate.mean(curves[m][kind][-1]) for m in curves for kind in curves[m]}
    # Paired on the prompts that both have seen; chunks are drawn by their number, so these are the first.
    both = curves["causal"]["query"][-1], curves["prefix"]["query"][-1, : few.batch]
    estimates[ERROR_RATIO] = Estimate.ratio(*both)
    panels = tuple(
        Panel(
            "layer",
            "mean squared error",
            tuple(mean_line(name, curves[name][kind], colour) for colour, name in enumerate(curves)),
            title=f"{kind} error",
            y_scale="log",
        )
        for kind in ("context", "query")
    )
    figure = Figure(
        panels,
        "Mean squared error against depth with 99 % bands. The causal context error falls; its query error does not.",
        "Left, context errors of both masks fall alike. Right, the prefix query error falls on; the causal one stalls.",
    )
    return Measurement(estimates, figure)


def depth_curves(run: Run, mask: Mask, rate: float, prompts: Chunks) -> dict[str, Float[Tensor, "layer batch"]]:
    """Squared errors on the context and on a query from the input law, per layer and prompt."""
    setting: RateSweep | Shortened = run.setting
    law = UniformCube(setting.dim)
    network = gradient_descent(setting.dim, setting.layers, rate, mask=mask).to(run.device)
    parts = [
        errors_by_layer(network, episode, law)
        for episode in chunks(prompts, LinearRegression(law), run.seed / "prompts", run.device)
    ]
    context, query = (torch.cat(part, dim=1).cpu() for part in zip(*parts, strict=True))
    return {"context": context, "query": query}


def errors_by_layer(network: AttentionNetwork, episode: Episode, law: UniformCube) -> tuple[Tensor, Tensor]:
    prompt = reading_weights(episode.prompt)
    context, query = [], []
    for state in network.states(prompt):
        context.append(state[:, : prompt.points, prompt.dim :].square().mean((1, 2)))
        query.append(query_error(network.answers(prompt, state).mT, episode.latent, law))
    return torch.stack(context), torch.stack(query)


def mean_line(label: str, errors: Float[Tensor, "place batch"], colour: int, x: list[int] | None = None) -> Line:
    """The mean over prompts with its interval."""
    estimates = [Estimate.mean(row) for row in errors]
    low, high = zip(*(estimate.interval() for estimate in estimates), strict=True)
    places = range(len(estimates)) if x is None else x
    return line(label, places, [e.value for e in estimates], low=low, high=high, colour=colour)


@torch.no_grad()
def best_rate_is_the_largest_stable(run: Run, *, prefix: Mask | None = None, causal: Mask | None = None) -> Measurement:
    """The query error at the last layer for every rate, under both masks."""
    setting: RateSweep = run.setting
    masks = {"prefix": prefix or Prefix(), "causal": causal or Causal()}
    ends = {
        name: {rate: depth_curves(run, mask, rate, setting.chunks)["query"][-1] for rate in setting.rates}
        for name, mask in masks.items()
    }
    *stable, unstable = setting.rates
    best = stable[-1]
    estimates = {
        rate_excess(rate, best): Estimate.mean(ends["prefix"][rate] - ends["prefix"][best]) for rate in stable[:-1]
    }
    # The worst prompt dominates a mean over prompts of which some diverge; the share that diverged is stable.
    diverged = (ends["prefix"][unstable] > 1e3).double()
    estimates[diverged_share(unstable)] = Estimate.mean(diverged)
    estimates[largest_causal_error(unstable)] = Estimate(ends["causal"][unstable].max().item())
    lines = tuple(
        line(name, setting.rates, [ends[name][rate].mean().item() for rate in setting.rates], colour=colour)
        for colour, name in enumerate(ends)
    )
    figure = Figure(
        (Panel("rate", f"query error at layer {setting.layers}", lines, x_scale="log", y_scale="log"),),
        "Mean query error at the last layer against the rate. At the largest rate prefix descent diverges.",
        "The prefix error falls with the rate up to 1.6 and explodes at 3.2; the causal error is flat.",
    )
    return Measurement(estimates, figure)


@torch.no_grad()
def rate_overshoots_on_short_prompts(
    run: Run, *, prefix: Mask | None = None, causal: Mask | None = None
) -> Measurement:
    """Query errors at the last layer under both masks, and step limits, at every length."""
    setting: Shortened = run.setting
    law = UniformCube(setting.dim)
    estimates: dict[str, Estimate] = {}
    ends = []
    for n in setting.lengths:
        prompts = replace(setting.chunks, points=n)
        ahead, behind = (
            depth_curves(run, mask, setting.rate, prompts)["query"][-1]
            for mask in (prefix or Prefix(), causal or Causal())
        )
        episodes = chunks(prompts, LinearRegression(law), run.seed / "prompts", run.device)
        limits = torch.cat([step_limit(episode.prompt.xs, "prefix").cpu() for episode in episodes])
        beyond = (limits < setting.rate).double()
        estimates[unstable_share(n)] = Estimate.mean(beyond)
        estimates[prefix_lead_share(n)] = Estimate.mean((ahead < behind).double())
        # A few divergent prompts dominate the means, so their ratio has no useful interval.
        estimates[log_mean_ratio(n)] = Estimate((ahead.mean() / behind.mean()).log10().item())
        estimates[prefix_lead(n)] = Estimate.mean(behind - ahead)
        ends.append((ahead, behind))
    lines = [
        line(
            f"{mask}, {name}", setting.lengths, [summary(pair[place]).item() for pair in ends], colour=place, look=look
        )
        for place, mask in enumerate(("prefix", "causal"))
        for name, summary, look in (("mean", torch.mean, "solid"), ("median", torch.median, "dashed"))
    ]
    figure = Figure(
        (Panel("examples in the context", f"query error at layer {setting.layers}", tuple(lines), y_scale="log"),),
        "A network with the best rate for 40 examples, tested on fewer: mean and median over prompts.",
        "The median prefix error lies below the causal one throughout; its mean explodes at the shortest context.",
    )
    return Measurement(estimates, figure)


@torch.no_grad()
def depth_scales_oppositely(run: Run, *, falling: Variant = "prefix", rising: Variant = "causal") -> Measurement:
    """The layers needed to come within a tolerance of the fixed point, against context length."""
    setting: DepthByLength = run.setting
    task = LinearRegression(UniformCube(setting.dim))
    depth: dict[Variant, list[Tensor]] = {falling: [], rising: []}
    for n in setting.lengths:
        prompt = task.sample(run.seed / n, setting.batch, n).to(run.device).prompt
        for variant in depth:
            layers = layers_needed(prompt.xs, prompt.ys, setting.rate, setting.tolerance, variant)
            depth[variant].append(layers.double())
    logs = {v: torch.stack(d).log() for v, d in depth.items()}
    places = torch.tensor(setting.lengths, dtype=torch.float64).log()
    centred = places - places.mean()
    exponent = {v: Estimate.mean(centred @ log / centred.square().sum()) for v, log in logs.items()}
    falls = [Estimate.mean(a - b) for a, b in zip(depth[falling], depth[falling][1:], strict=False)]
    estimates = {
        DEPTH_DECREASE: min(falls, key=lambda e: e.interval()[0]),
        DEPTH_EXPONENT: exponent[rising],
        **{layers_at("prefix", n): Estimate.mean(d) for n, d in zip(setting.lengths, depth[falling], strict=True)},
        **{layers_at("causal", n): Estimate.mean(d) for n, d in zip(setting.lengths, depth[rising], strict=True)},
    }
    lines = tuple(
        mean_line(name, torch.stack(depth[v]), colour, x=list(setting.lengths))
        for colour, (name, v) in enumerate([("prefix", falling), ("causal", rising)])
    )
    figure = Figure(
        (
            Panel(
                "examples in the context",
                f"layers to within {setting.tolerance:g}",
                lines,
                x_scale="log",
                y_scale="log",
            ),
        ),
        "Layers needed to come within the tolerance of the fixed point, with 99 % bands.",
        "The prefix curve falls with the context length, the causal curve rises almost in proportion to it.",
    )
    return Measurement(estimates, figure)


LIMIT = Depth(batch=8, layers=4000, rate=1.0)

CLAIMS = (
    Claim(
        id="ding2024.prefix-reaches-least-squares",
        statement="Under the prefix mask, the network converges geometrically in depth to the least-squares solution, "
        "of minimum norm if there are fewer examples than dimensions. The factor is max|1 − ηλ|, and the network "
        "converges if and only if the rate η is below 2/λ_max.",
        source="Proposition 3; step limit and factor derived",
        rules=(
            Rule(least_squares_distance(40), high=1e-10),
            Rule(least_squares_distance(8), high=1e-10),
            Rule(PREFIX_SLOPE, high=0.01),
            Rule(BOUND_RATIO, high=1 + 1e-9),
            Rule(ERROR_BELOW_LIMIT, high=1e-6),
            Rule(ERROR_ABOVE_LIMIT, low=1e6),
        ),
        measure=prefix_reaches_least_squares,
        quick=LIMIT,
        full=Depth(batch=64, layers=8000, rate=1.0),
        quick_seconds=1.3,
        full_hours=0.006,
    ),
    Claim(
        id="ding2024.causal-reaches-one-online-pass",
        statement="Under the causal mask, the network converges in depth to the result of one pass of online gradient "
        "descent with the normalised rate 1/‖x‖² (a Kaczmarz pass). Every position fits its own example exactly, and "
        "the asymptotic factor is max|1 − η‖x_j‖²/n|.",
        source="Propositions 4 and 5",
        rules=(
            Rule(KACZMARZ_DISTANCE, high=1e-10),
            Rule(CONTEXT_RESIDUAL, high=1e-10),
            Rule(CAUSAL_SLOPE, high=0.01),
        ),
        measure=causal_reaches_one_pass,
        quick=Depth(batch=8, layers=3000),
        full=Depth(batch=64, layers=6000),
        quick_seconds=1.9,
        full_hours=0.008,
    ),
    Claim(
        id="ding2024.causal-query-error-stalls",
        statement="At 50 layers the context error is near 10⁻⁵ under both masks. The prefix query error falls with "
        "it; the causal query error stays above 0.1, more than a thousand times larger.",
        source="Figure 2, left and middle; section 5.1",
        rules=(
            Rule(mask_error("causal", "query"), low=0.3, high=0.45, printed="above 10⁻¹"),
            Rule(mask_error("prefix", "query"), low=5e-5, high=2e-4, printed="falls with the context error"),
            Rule(ERROR_RATIO, low=1e3),
            Rule(mask_error("prefix", "context"), low=4e-6, high=2.5e-5, printed="about 10⁻⁵ (axis)"),
            Rule(mask_error("causal", "context"), low=4e-6, high=2.5e-5, printed="about 10⁻⁵ (axis)"),
        ),
        measure=causal_query_error_stalls,
        quick=RateSweep(Chunks(batch=6144, points=40, chunk=256), layers=50, rates=(1.6,), causal_share=1 / 3),
        full=RateSweep(Chunks(batch=65536, points=40), layers=50, rates=(1.6,)),
        quick_seconds=4.9,
        full_hours=0.03,
    ),
    Claim(
        id="ding2024.best-rate-is-the-largest-stable",
        statement="Of the rates 0.1, 0.2, ..., 3.2, the rate 1.6 gives the smallest prefix query error after 50 "
        "layers. At 3.2 gradient descent under the prefix mask diverges, while the causal iteration still converges.",
        source="Section 5.1, appendix E.1",
        rules=(
            *(Rule(rate_excess(rate, 1.6), low=0.0) for rate in (0.8, 0.4, 0.2, 0.1)),
            Rule(diverged_share(3.2), low=0.5, printed="diverges"),
            Rule(largest_causal_error(3.2), high=1e3, printed="converges"),
        ),
        measure=best_rate_is_the_largest_stable,
        quick=RateSweep(Chunks(batch=256, points=40, chunk=256), layers=50, rates=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2)),
        full=RateSweep(Chunks(batch=16384, points=40), layers=50, rates=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2)),
        quick_seconds=2.1,
        full_hours=0.04,
    ),
)

SHORT_PROMPTS = Claim(
    id="ding2024.a-rate-for-long-prompts-overshoots-on-short-ones",
    statement="The best rate for 40 examples exceeds the step limit of some prompts with as many examples as "
    "dimensions, because the spectrum of their second moment is wider. Gradient descent under the prefix mask "
    "diverges on them, and with it the mean error over prompts, although prefix is ahead on most. With twice as many "
    "examples prefix is ahead in the mean as well.",
    source="Not in the paper: the network of section 5.1 in the setting of table 6",
    rules=(
        Rule(unstable_share(16), low=0.01, high=0.5),
        Rule(prefix_lead_share(16), low=0.5, high=0.99),
        Rule(log_mean_ratio(16), low=0.0),
        Rule(prefix_lead_share(24), low=0.95),
        Rule(prefix_lead(32), low=0.0),
    ),
    measure=rate_overshoots_on_short_prompts,
    quick=Shortened(Chunks(batch=1024, points=40, chunk=256), layers=50, rate=1.6, lengths=(16, 24, 32)),
    full=Shortened(Chunks(batch=16384, points=40), layers=50, rate=1.6, lengths=(16, 24, 32)),
    quick_seconds=2.6,
    full_hours=0.01,
)

LAST = Claim(
    id="ding2024.depth-scales-oppositely",
    statement="At a fixed rate, the number of layers needed to come within 10⁻⁶ of the fixed point falls with the "
    "context length under the prefix mask and grows almost in proportion to it under the causal mask.",
    source="Propositions 3 and 4 (both called linear there); the scaling is derived",
    rules=(
        Rule(DEPTH_DECREASE, low=0.0),
        Rule(DEPTH_EXPONENT, low=0.7, high=1.3),
        Rule(layers_at("prefix", 640), low=20, high=36),
        Rule(layers_at("causal", 640), low=1300, high=2300),
    ),
    measure=depth_scales_oppositely,
    quick=DepthByLength(batch=24, lengths=(40, 80, 160, 320, 640)),
    full=DepthByLength(batch=64, lengths=(40, 80, 160, 320, 640, 1280)),
    quick_seconds=5.3,
    full_hours=0.03,
)
