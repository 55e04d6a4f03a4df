"""What the instrument finds: networks set by hand, trained ones from the papers, and random ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Paper, Rule, Run, line
from insitu.identification import Answered, Candidate, Identification, identify
from insitu.identification.black_box import identify_model
from insitu.identification.diagnostics import Plan
from insitu.identification.scoring import predicted
from insitu.learners import CausalDescent, GradientDescent, Kaczmarz, Learner, LeastSquares, Ridge
from insitu.metrics import Estimate
from insitu.models import (
    Architecture,
    AttentionNetwork,
    Causal,
    Decoder,
    DecoderArchitecture,
    Mask,
    Network,
    Prefix,
    Transformer,
    TransformerArchitecture,
    gradient_descent,
    initialise,
    initialise_decoder,
    initialise_transformer,
)
from insitu.papers.ding2024 import orderings
from insitu.papers.ding2024.trained import TRAINED_CELLS, Cell, Transformers
from insitu.papers.zhang2024 import trained
from insitu.papers.zhang2024.trained import TRAINED_LAYERS, LayerTraining, Trained, preconditioner
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.tasks import Gaussian, LinearRegression, UniformCube
from insitu.theory.one_layer.population import Population

__all__ = ["PAPER", "Asked"]

# The quantities that rules bound.
RECOGNISED = "share of the networks recognised"
NUMBER_ERROR = "largest relative error of a number"
STEPS = "steps of preconditioned descent"
PRECONDITIONER = "relative distance of the preconditioner from Γ⁻¹"
UNEXPLAINED = "share of the answers unexplained"
NAMED_CAUSAL = "share of the depths named causal descent"
DESCENT_DISTANCE = "distance of descent on the whole context, deepest"
ONLINE_RATIO = "distance of online descent, deepest over shallowest"
NONE_SHARE = "share of the networks called none"


def ridge_advantage(cell: str) -> str:
    """The quantity of one kind of trained network."""
    return f"distance of one step minus that of ridge, {cell}"


@dataclass(frozen=True)
class Asked:
    """Diagnostic prompts that networks answer.

    Args:
        dim: The dimension of an input.
        points: The context lengths, the longest first.
        count: Prompts of each diagnostic.
    """

    dim: int
    points: tuple[int, ...]
    count: int


def named(run: Run, model: Network, prompts: Asked) -> Identification:
    """The identification of a network by its answers to diagnostic prompts."""
    return identify_model(model, Plan(prompts.dim, prompts.points, prompts.count), run.seed)


def by_network(model: Network, prompt: Prompt) -> Tensor:
    """Its answers, in the precision in which it computes."""
    return predicted(model, prompt).to(next(model.parameters()).dtype)


# Networks set by hand.

RATES = (0.4, 0.2, 0.1)


def by_hand(dim: int, causal: Mask) -> dict[str, tuple[Network, Learner]]:
    """Networks whose weights run an algorithm, each with the learner that it is."""
    matrix = torch.eye(dim, dtype=torch.float64) / 4 + torch.ones(dim, dim, dtype=torch.float64) / 20
    rows = tuple(map(tuple, matrix.tolist()))
    return {
        "one step": (gradient_descent(dim, 1, 0.4), GradientDescent(steps=1, rate=0.4)),
        "six steps": (gradient_descent(dim, 6, 0.15), GradientDescent(steps=6, rate=0.15)),
        "falling rates": (gradient_descent(dim, 3, RATES), GradientDescent(steps=3, rate=RATES)),
        "preconditioned": (
            gradient_descent(dim, 2, 1.0, preconditioner=matrix),
            GradientDescent(steps=2, rate=1.0, preconditioner=rows),
        ),
        "causal mask": (gradient_descent(dim, 5, 0.3, mask=causal), CausalDescent(steps=5, rate=0.3)),
    }


def apart(learner: Any, truth: Any) -> float:
    """The largest relative difference of the numbers of two learners; infinite if they are not of one kind."""
    if type(learner) is not type(truth) or learner.steps != truth.steps:
        return torch.inf
    pairs = [(learner.rate, truth.rate)]
    if isinstance(truth, GradientDescent):
        if (learner.preconditioner is None) != (truth.preconditioner is None):
            return torch.inf
        if truth.preconditioner is not None:
            pairs.append((learner.preconditioner, truth.preconditioner))
    gaps = []
    for ours, theirs in ([torch.tensor(rate, dtype=torch.float64) for rate in pair] for pair in pairs):
        if ours.shape != theirs.shape:
            return torch.inf
        gaps.append(((ours - theirs).abs().max() / theirs.abs().max()).item())
    return max(gaps)


def recognised(run: Run, *, causal: Mask = Causal()) -> Measurement:  # noqa: B008
    """Share of the networks that are named with the right learner, and how far their numbers are off."""
    setting: Asked = run.setting
    identified = {
        name: (named(run, model, setting), truth) for name, (model, truth) in by_hand(setting.dim, causal).items()
    }
    gaps = {name: apart(one.best.learner, truth) for name, (one, truth) in identified.items()}
    sure = [one.verdict == "indistinguishable" and gaps[name] < torch.inf for name, (one, _) in identified.items()]
    estimates = {
        RECOGNISED: Estimate(sum(sure) / len(sure)),
        NUMBER_ERROR: Estimate(max(gaps.values())),
    }
    return Measurement(estimates, ranked({name: one for name, (one, _) in identified.items()}, "networks set by hand"))


def ranked(identified: dict[str, Identification], what: str) -> Figure:
    """The distances of all candidates, nearest first, a panel for each network."""
    panels = []
    for name, one in identified.items():
        heights = sorted(min(max(c.score.distance, 1e-32), 1e3) for c in one.ranking)
        ranks = line("", range(1, len(heights) + 1), heights, look="points")
        panels.append(Panel("rank of the candidate", "distance of its answers", (ranks,), title=name, y_scale="log"))
    return Figure(
        tuple(panels),
        f"Distance of every fitted candidate from the answers of {what}, on held-out diagnostic prompts. A network "
        "that is recognised has a first candidate at the level of rounding and a gap after it.",
        "Rising points in a panel for each network.",
    )


# A trained layer.


def trained_layer(run: Run, *, target: Callable[[Population], Tensor] = preconditioner) -> Measurement:
    """The preconditioner read off a trained layer's answers alone, against Zhang et al.'s closed form."""
    setting: LayerTraining = run.setting
    study: Trained = run.study
    population = study.population
    law = Gaussian(setting.dim, tuple(map(tuple, population.covariance.tolist())))
    prompt = LinearRegression(law).sample(run.seed / "prompts", 2000, setting.length).prompt
    identified = identify([Answered(prompt, by_network(study.networks[0].cpu(), prompt))], seed=run.seed / "bootstrap")
    best: Any = identified.best.learner
    known = isinstance(best, GradientDescent) and best.preconditioner is not None
    matrix = (
        torch.tensor(best.preconditioner, dtype=torch.float64)
        if known
        else torch.zeros(setting.dim, dtype=torch.float64)
    )
    matrix = torch.diag(matrix) if matrix.ndim == 1 else matrix
    wanted = target(population)
    gap = torch.linalg.matrix_norm(matrix - wanted) / torch.linalg.matrix_norm(wanted)
    estimates = {
        STEPS: Estimate(best.steps if known else 0),
        PRECONDITIONER: Estimate(gap.item()),
        UNEXPLAINED: Estimate(identified.best.score.high),
    }
    entries = line("", wanted.flatten(), matrix.flatten(), look="points")
    ends = [wanted.min().item(), wanted.max().item()]
    panel = Panel("entry of Γ⁻¹", "entry identified", (entries, line("", ends, ends, look="dotted", colour=-1)))
    return Measurement(
        estimates,
        Figure(
            (panel,),
            "The preconditioner that the answers of a trained linear-attention layer show, entry by entry against the "
            f"closed form. {identified.reason[:160].rsplit(';', 1)[0]}.",
            "Points on the line of equality.",
        ),
    )


# The causal mask.


@dataclass(frozen=True)
class Depths:
    """Networks of several depths under the causal mask.

    Args:
        dim: The dimension of an input, uniform on the cube.
        points: The context length.
        rate: The rate of the hand-set weights.
        depths: The numbers of layers.
        prompts: How many prompts there are.
    """

    dim: int
    points: int
    rate: float
    depths: tuple[int, ...]
    prompts: int


def causal_depth(run: Run, *, mask: Mask = Causal()) -> Measurement:  # noqa: B008
    """What networks of several depths under the causal mask are named, and how far other learners are."""
    setting: Depths = run.setting
    task = LinearRegression(UniformCube(setting.dim))
    prompt = task.sample(run.seed / "prompts", setting.prompts, setting.points, 4).prompt
    right, batch, online = 0, [], []
    for depth in setting.depths:
        network = gradient_descent(setting.dim, depth, setting.rate, mask=mask)
        answers = predicted(network, prompt)
        identified = identify([Answered(prompt, answers)], candidates=[Kaczmarz()], seed=run.seed / "bootstrap")
        truth = CausalDescent(depth, setting.rate)
        right += identified.verdict == "indistinguishable" and apart(identified.best.learner, truth) < 1e-6
        batch.append(nearest(identified, GradientDescent, Ridge, LeastSquares))
        online.append(nearest(identified, Kaczmarz))
    both = [[c.score.distance for c in kind] for kind in (batch, online)]
    lows, highs = ([[getattr(c.score, end) for c in kind] for kind in (batch, online)] for end in ("low", "high"))
    labels = ("nearest of descent, ridge and least squares", "Kaczmarz's pass: online descent, normalised")
    lines = tuple(
        line(label, setting.depths, both[i], low=lows[i], high=highs[i], colour=i) for i, label in enumerate(labels)
    )
    estimates = {
        NAMED_CAUSAL: Estimate(right / len(setting.depths)),
        DESCENT_DISTANCE: of(batch[-1]),
        ONLINE_RATIO: Estimate(both[1][-1] / both[1][0]),
    }
    panel = Panel("layers", "distance of its answers", lines, x_scale="log", y_scale="log")
    caption = (
        "How far two kinds of learners are from a causal network set by hand. What every depth is named is causal "
        "descent with its own steps and rate."
    )
    return Measurement(estimates, Figure((panel,), caption, "One line falls with depth, the other does not."))


def nearest(identified: Identification, *kinds: type) -> Candidate:
    """The nearest candidate of some kinds."""
    return min((c for c in identified.ranking if isinstance(c.learner, kinds)), key=lambda c: c.score.distance)


def of(candidate: Candidate) -> Estimate:
    """A distance with its bootstrap error."""
    return Estimate(candidate.score.distance, candidate.score.resampled.std().item())


# Trained transformers.

MASKED = {"prefix": "prefix mask", "causal": "causal mask"}


def one_step(candidate: Candidate) -> bool:
    learner = candidate.score.learner
    if not isinstance(learner, GradientDescent):
        return False
    return learner.steps == 1 and learner.preconditioner is None and not learner.intercept


def ridge(candidate: Candidate) -> bool:
    learner = candidate.score.learner
    return isinstance(learner, Ridge) and not learner.intercept and not learner.per_example


def trained_softmax(
    run: Run,
    *,
    far: Callable[[Candidate], bool] = one_step,
    near: Callable[[Candidate], bool] = ridge,
) -> Measurement:
    """How much farther the best single step of descent is than the best ridge from trained softmax transformers."""
    setting: Transformers = run.setting
    task = LinearRegression(UniformCube(setting.dim))
    prompt = task.sample(run.seed / "prompts", 800, setting.points, setting.queries).prompt
    estimates, shown = {}, {}
    for mask, shared in CELLS:
        network: Transformer = run.study[Cell("linear", shared, mask, False, batches=setting.batches)]
        answers = by_network(network.cpu(), prompt)
        identified = identify([Answered(prompt, answers)], seed=run.seed / "bootstrap")
        behind, ahead = (next(c.score for c in identified.ranking if chosen(c)) for chosen in (far, near))
        gap = behind.resampled - ahead.resampled
        name = cell_name(mask, shared)
        estimates[ridge_advantage(name)] = Estimate(behind.distance - ahead.distance, gap.std().item())
        shown[name] = identified
    return Measurement(estimates, ranked(shown, "trained softmax transformers"))


CELLS = tuple((mask, shared) for mask in MASKED for shared in (True, False))


def cell_name(mask: str, shared: bool) -> str:
    return f"{MASKED[mask]}, {'shared' if shared else 'separate'} layers"


# Random networks.


def random_networks(seed: Seed, prompts: Asked) -> dict[str, Network]:
    """One network of every kind with the weights that training starts from."""
    dim = prompts.dim
    linear = AttentionNetwork(Architecture(dim=dim, layers=4))
    initialise(linear, seed / "linear", std=0.02)
    networks: dict[str, Network] = {"linear attention": linear}
    for name, mask in (("prefix mask", Prefix()), ("causal mask", Causal())):
        transformer = Transformer(TransformerArchitecture(dim=dim, mask=mask))
        initialise_transformer(transformer, seed / "transformer" / name)
        networks[f"softmax transformer, {name}"] = transformer
    decoder = Decoder(DecoderArchitecture(dim=dim, points=prompts.points[0] + 1, width=32, layers=3, heads=4))
    initialise_decoder(decoder, seed / "decoder")
    return networks | {"decoder": decoder}


def untrained(run: Run, *, networks: Callable[[Seed, Asked], dict[str, Network]] = random_networks) -> Measurement:
    """The share of random networks of which it is said that they are none of the learners."""
    setting: Asked = run.setting
    identified = {name: named(run, model, setting) for name, model in networks(run.seed / "weights", setting).items()}
    none = [one.verdict == "none" for one in identified.values()]
    return Measurement({NONE_SHARE: Estimate(sum(none) / len(none))}, ranked(identified, "random networks"))


CLAIMS: Sequence[Claim] = (
    Claim(
        id="identify.constructed-networks-are-recognised",
        statement="Networks set by hand are named from their answers alone, as indistinguishable from the learner that "
        "they run: steps, rates, preconditioner and mask are recovered.",
        source="Constructions of von Oswald et al. (2023) and Ding et al. (2024), propositions 1 and 2",
        rules=(
            Rule(RECOGNISED, low=1.0),
            Rule(NUMBER_ERROR, high=1e-6),
        ),
        measure=recognised,
        quick=Asked(4, (10, 3), 16),
        full=Asked(16, (64, 16, 8), 100),
        quick_seconds=25.0,
        full_hours=0.2,
        version=2,
    ),
    Claim(
        id="identify.trained-linear-attention-is-preconditioned-descent",
        statement="A linear-attention layer trained on sampled prompts is named one step of preconditioned descent, "
        "and the preconditioner that its answers show is the Γ⁻¹ of gradient flow.",
        source="Zhang, Frei and Bartlett (2024), theorem 4.1",
        rules=(
            Rule(STEPS, low=1.0, high=1.0),
            Rule(PRECONDITIONER, high=0.02),
            Rule(UNEXPLAINED, high=0.01),
        ),
        measure=trained_layer,
        quick=trained.CLAIMS[0].quick,
        full=trained.CLAIMS[0].full,
        quick_seconds=10.0,
        full_hours=0.1,
        study=TRAINED_LAYERS,
        version=2,
    ),
    Claim(
        id="identify.causal-depth-is-online-descent",
        statement="A causal network set by hand is named causal descent at every depth; with depth it nears online "
        "descent (Kaczmarz's pass), and stays away from descent, ridge and least squares on the whole context.",
        source="Ding et al. (2024), proposition 2 and theorem 1",
        rules=(
            Rule(NAMED_CAUSAL, low=1.0),
            Rule(DESCENT_DISTANCE, low=0.01),
            Rule(ONLINE_RATIO, high=0.5),
        ),
        measure=causal_depth,
        quick=Depths(4, 12, 1.5, (2, 8, 32), 1000),
        full=Depths(16, 40, 1.6, (2, 8, 32, 100), 2000),
        quick_seconds=15.0,
        full_hours=0.1,
        version=2,
    ),
    Claim(
        id="identify.trained-softmax-is-nearer-to-ridge-than-to-one-step",
        statement="What trained softmax transformers of several layers answer on linear regression is nearer to ridge "
        "regression, at its best penalty, than to one step of descent at its best rate.",
        source="Garg et al. (2022) and Akyurek et al. (2023); on the transformers of Ding et al. (2024), section 5.2",
        rules=tuple(Rule(ridge_advantage(cell_name(mask, shared)), low=0.0) for mask, shared in CELLS),
        measure=trained_softmax,
        quick=orderings.QUICK,
        full=orderings.FULL,
        quick_seconds=25.0,
        full_hours=0.1,
        study=TRAINED_CELLS,
        version=2,
    ),
    Claim(
        id="identify.untrained-is-none",
        statement="Of networks with the random weights that training starts from it is said that they are none of the "
        "learners.",
        source="The control of every identification",
        rules=(Rule(NONE_SHARE, low=1.0),),
        measure=untrained,
        quick=Asked(4, (10, 3), 16),
        full=Asked(16, (64, 16, 8), 100),
        quick_seconds=20.0,
        full_hours=0.1,
        version=2,
    ),
)

PAPER = Paper(
    id="identify",
    title="Which learning algorithm a model runs",
    authors="The instrument of this laboratory",
    venue="beyond the four papers",
    claims=tuple(CLAIMS),
    headline="causal-depth-is-online-descent",
)
