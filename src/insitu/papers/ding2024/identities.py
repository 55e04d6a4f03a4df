"""What each layer computes, exactly: gradient descent under the prefix mask, a coupled iteration under the causal."""

import torch

from insitu.claims import Claim, Figure, Line, Measurement, Panel, Rule, Run, line
from insitu.learners import GradientDescent
from insitu.learners.moments import Moments
from insitu.metrics import Estimate, largest_gap
from insitu.models import Causal, Mask, Prefix, SelfVisible, gradient_descent
from insitu.papers.ding2024.setting import Depth, sample
from insitu.theory.convergence import place_iterates

__all__ = ["CLAIMS"]

# The quantities that measurements estimate and rules decide.
FIRST_LAYER_GAP = "first layer, causal against prefix"
LARGEST_ANSWER = "largest answer, queries see themselves"
LARGEST_DEVIATION = "largest deviation"
LARGEST_ERROR = "largest error, queries do not"


def deviation_from(start: str) -> str:
    """The quantity of a network that starts from such weights."""
    return f"largest deviation, {start} start"


@torch.no_grad()
def prefix_is_descent(run: Run, *, mask: Mask | None = None) -> Measurement:
    """Every layer of the constructed network against gradient descent, from zero and from random weights."""
    setting: Depth = run.setting
    prompt = sample(run, "prompts", batch=setting.batch, points=setting.points).prompt
    start = (run.seed / "start").normal(1, setting.dim)
    gram, cross = prompt.xs.mT @ prompt.xs, prompt.ys.mT @ prompt.xs
    moments = Moments(gram, cross, gram.new_full((1, 1, 1), setting.points))
    lines, estimates = [], {}
    for colour, (name, first) in enumerate([("zero", None), ("random", start)]):
        network = gradient_descent(setting.dim, setting.layers, setting.rate, mask=mask or Prefix(), start=first).to(
            run.device
        )
        learner = GradientDescent(steps=setting.layers, rate=setting.rate, start=first)
        offset = torch.zeros_like(start) if first is None else first
        gaps = []
        for state, weights in zip(network.states(prompt), learner.iterates(moments), strict=True):
            residual = prompt.ys - prompt.xs @ (weights - offset.to(weights)).mT
            on_context = largest_gap(state[:, : setting.points, setting.dim :], residual)
            on_query = largest_gap(network.answers(prompt, state), prompt.queries @ weights.mT)
            gaps.append(max(on_context, on_query))
        estimates[deviation_from(name)] = Estimate(max(gaps))
        lines.append(line(f"{name} start", range(len(gaps)), gaps, colour=colour))
    figure = deviation_figure(lines, "gradient descent")
    return Measurement(estimates, figure)


@torch.no_grad()
def causal_is_coupled_iteration(run: Run, *, mask: Mask | None = None) -> Measurement:
    """Every layer under the causal mask against equation 10, and its first layer against the prefix mask's."""
    setting: Depth = run.setting
    prompt = sample(run, "prompts", batch=setting.batch, points=setting.points).prompt
    networks = [
        gradient_descent(setting.dim, setting.layers, setting.rate, mask=m).to(run.device)
        for m in (mask or Causal(), Prefix())
    ]
    iterates = place_iterates(prompt.xs, prompt.ys, setting.rate, setting.layers)
    gaps = []
    for state, weights in zip(networks[0].states(prompt), iterates, strict=True):
        residual = prompt.ys - torch.einsum("bjod,bjd->bjo", weights, prompt.xs)
        on_context = largest_gap(state[:, : setting.points, setting.dim :], residual)
        on_query = largest_gap(networks[0].answers(prompt, state), prompt.queries @ weights[:, -1].mT)
        gaps.append(max(on_context, on_query))
    first = [network.predict_layers(prompt)[1] for network in networks]
    estimates = {
        LARGEST_DEVIATION: Estimate(max(gaps)),
        FIRST_LAYER_GAP: Estimate(largest_gap(*first)),
    }
    return Measurement(estimates, deviation_figure([line("causal", range(len(gaps)), gaps)], "equation 10"))


def deviation_figure(lines: list[Line], reference: str) -> Figure:
    """Deviation against depth, on a log axis."""
    panel = Panel("layer", "largest deviation", (*lines, bound_line("bound", lines[0].x, 1e-12)), y_scale="log")
    return Figure(
        (panel,),
        f"Largest deviation of the network's context and query read-outs from {reference}, per layer.",
        f"Deviation from {reference} against layer: it stays near machine precision, far below the bound 1e-12.",
    )


def bound_line(label: str, x: tuple[float, ...], height: float) -> Line:
    """A dotted horizontal line over the range of ``x``."""
    return line(label, [x[0], x[-1]], [height, height], look="dotted", colour=-1)


@torch.no_grad()
def queries_must_not_see_themselves(run: Run, *, seeing: Mask | None = None, blind: Mask | None = None) -> Measurement:
    """Deep networks whose queries attend to themselves, and networks whose queries do not."""
    setting: Depth = run.setting
    episode = sample(run, "prompts", batch=setting.batch, points=setting.points)
    prompt, depths = episode.prompt, [0, *log_places(setting.layers)]
    size, miss = {}, {}
    for name, mask in (("seeing", seeing or SelfVisible(Prefix())), ("blind", blind or Prefix())):
        network = gradient_descent(setting.dim, setting.layers, setting.rate, mask=mask).to(run.device)
        answers = [
            network.answers(prompt, state) for layer, state in enumerate(network.states(prompt)) if layer in depths
        ]
        size[name] = [a.abs().max().item() for a in answers]
        miss[name] = [largest_gap(a, episode.answers) for a in answers]
    panel = Panel(
        "layer",
        "largest over queries",
        (
            line("|answer|, query sees itself", depths[1:], size["seeing"][1:], colour=1),
            line("|answer - y|, query does not", depths[1:], miss["blind"][1:], colour=0),
        ),
        x_scale="log",
        y_scale="log",
    )
    figure = Figure(
        (panel,),
        "Answers of queries that attend to themselves decay to zero; of queries that do not, the error decays.",
        "Two falling curves against depth: answers if queries attend to themselves, and errors if they do not.",
    )
    estimates = {
        LARGEST_ANSWER: Estimate(size["seeing"][-1]),
        LARGEST_ERROR: Estimate(miss["blind"][-1]),
    }
    return Measurement(estimates, figure)


def log_places(last: int, count: int = 60) -> list[int]:
    """Whole numbers from 1 to ``last``, evenly spread on a log axis."""
    places = torch.logspace(0, torch.tensor(float(last)).log10().item(), count, dtype=torch.float64)
    return sorted({*places.round().int().tolist(), last})


CLAIMS = (
    Claim(
        id="ding2024.prefix-is-gradient-descent",
        statement="Under the prefix mask, each layer of the constructed linear attention takes one step of full-batch "
        "gradient descent on the context. This holds for example and query tokens, from zero and from any initial "
        "weights.",
        source="Propositions 1 and 6",
        rules=(
            Rule(deviation_from("zero"), high=1e-12),
            Rule(deviation_from("random"), high=1e-12),
        ),
        measure=prefix_is_descent,
        quick=Depth(batch=64, layers=50),
        full=Depth(batch=4096, layers=50),
        quick_seconds=0.088,
        full_hours=0.002,
    ),
    Claim(
        id="ding2024.causal-is-a-coupled-iteration",
        statement="Under the causal mask, the same weights run one iteration per position, driven by the residuals of "
        "earlier positions. The first layer gives the same answers as under the prefix mask.",
        source="Proposition 2, equation 10",
        rules=(
            Rule(LARGEST_DEVIATION, high=1e-12),
            Rule(FIRST_LAYER_GAP, high=1e-12),
        ),
        measure=causal_is_coupled_iteration,
        quick=Depth(batch=64, layers=50),
        full=Depth(batch=1024, layers=50),
        quick_seconds=0.15,
        full_hours=0.001,
    ),
    Claim(
        id="ding2024.queries-must-not-see-themselves",
        statement="A query token that attends to itself answers zero in the limit of infinite depth, because its "
        "label slot holds no label. One that does not attend to itself converges to the right answer.",
        source="Section 3 and appendix E, figure 5",
        rules=(
            Rule(LARGEST_ANSWER, high=1e-6),
            Rule(LARGEST_ERROR, high=1e-9),
        ),
        measure=queries_must_not_see_themselves,
        quick=Depth(batch=8, layers=2000),
        full=Depth(batch=64, layers=4000),
        quick_seconds=0.49,
        full_hours=0.002,
    ),
)
