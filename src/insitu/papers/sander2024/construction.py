"""Networks whose weights are set by hand: one gradient step, many, the recurrence of a rotation, telescoping heads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.learners import GradientDescent, Kaczmarz
from insitu.metrics import Estimate, largest_gap
from insitu.models import Causal, sequence_descent, sequence_descents, telescoping
from insitu.models.mask import Mask
from insitu.prompt import Prompt
from insitu.tasks.autoregression import Autoregression, Context
from insitu.theory.sequences.free_heads import Blocks, FreeLayer
from insitu.theory.sequences.gradient_step import SequenceStep
from insitu.theory.sequences.rotations import three_term_step

__all__ = ["CLAIMS", "DescentDepths", "Freedom", "Sequences"]

# The quantities that measurements estimate and rules decide.
KACZMARZ_DEVIATION = "largest deviation of the causal network from one pass of Kaczmarz"
CAUSAL_DEVIATION = "largest deviation of the causal network from steps"
RECURRENCE_RESIDUAL = "largest entry of W² − 2 cos θ W + I"
TELESCOPING_ERROR = "largest error of telescoping heads"
NEXT_ENTRY_ERROR = "largest error of the next entry"
ONE_HEAD_RATIO = "loss of one free head over that of the best step"
TWO_HEAD_LOSS = "loss of two free heads"


def one_step_deviation(context: str) -> str:
    return f"largest deviation from one step, {context}"


def descent_deviation(context: str) -> str:
    return f"largest deviation from steps, {context}"


@dataclass(frozen=True)
class Sequences:
    """Sequences of several lengths.

    Args:
        batch: Sequences of each length.
        dims: The dimensions; even.
        lengths: The numbers of examples.
    """

    batch: int
    dims: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class DescentDepths:
    """Networks of several depths on sequences of one length.

    Args:
        batch: Sequences of each dimension.
        dims: The dimensions; even.
        length: The number of examples.
        layers: The greatest depth.
    """

    batch: int
    dims: tuple[int, ...]
    length: int
    layers: int


@dataclass(frozen=True)
class Freedom:
    """Layers on two-dimensional rotations whose blocks are free.

    Args:
        lengths: The greatest lengths of a sequence, one problem each.
        starts: From how many starts a layer of one head, and one of two, is minimised.
    """

    lengths: tuple[int, ...]
    starts: tuple[int, int]


def one_step(prompt: Prompt, rate: float) -> Tensor:
    """W_1 s_T from the gradient of the sequence's loss at zero, by autograd."""
    start = torch.zeros(prompt.batch, prompt.dim, prompt.dim).to(prompt.xs).requires_grad_()
    loss = (prompt.ys - prompt.xs @ start.mT).square().sum() / 2
    (slope,) = torch.autograd.grad(loss, start)
    return prompt.queries @ (-rate * slope).mT


def layer_is_one_step(run: Run, *, reference: Callable[[Prompt, float], Tensor] = one_step) -> Measurement:
    """The hand-built layer against one step by autograd, for commuting and other orthogonal matrices."""
    setting: Sequences = run.setting
    estimates, lines = {}, []
    for colour, context in enumerate(get_args(Context)):
        deviations = []
        for length in setting.lengths:
            gaps = []
            for dim in setting.dims:
                place = run.seed / context / dim / length
                prompt = Autoregression(dim, context).sample(place, setting.batch, length).to(run.device).prompt
                # The step 3 / (2T) is the paper's asymptotically optimal one.
                rate = 1.5 / (length + 1)
                with torch.no_grad():
                    answers = sequence_descent(dim, rate).to(run.device).predict(prompt)
                gaps.append(largest_gap(answers, reference(prompt, rate).detach()))
            deviations.append(max(gaps))
        estimates[one_step_deviation(context)] = Estimate(max(deviations))
        lines.append(line(context, setting.lengths, [max(d, 1e-17) for d in deviations], colour=colour))
    figure = Figure(
        (Panel("examples in the context", "largest deviation", tuple(lines), x_scale="log", y_scale="log"),),
        "Deviation of one hand-built linear-attention layer on augmented tokens from one gradient step by autograd.",
        "Two curves near machine precision for all lengths, far below the bound 1e-12.",
    )
    return Measurement(estimates, figure)


def rotations_obey_three_terms(run: Run, *, step: Callable[[Tensor, Tensor], Tensor] = three_term_step) -> Measurement:
    """The recurrence as an identity of matrices and as a predictor of the next entry."""
    setting: Sequences = run.setting
    identity = 0.0
    answers: dict[int, float] = {}
    for dim in setting.dims:
        for length in setting.lengths:
            episode = Autoregression(dim).sample(run.seed / dim / length, setting.batch, length)
            matrix, prompt = episode.latent, episode.prompt
            # The diagonal of a rotation block is its cosine, twice.
            cosine = matrix.diagonal(dim1=-2, dim2=-1)
            rest = matrix @ matrix - 2 * cosine[..., None] * matrix + torch.eye(dim, dtype=matrix.dtype)
            identity = max(identity, rest.abs().max().item())
            predicted = step(prompt.xs[:, -1:], prompt.queries)
            gap = largest_gap(predicted, episode.answers)
            answers[length] = max(answers.get(length, 0.0), gap)
    heights = [max(answers[n], 1e-17) for n in setting.lengths]
    panel = Panel(
        "examples in the context",
        "largest error of the next entry",
        (line("three-term recurrence", setting.lengths, heights),),
        x_scale="log",
        y_scale="log",
    )
    figure = Figure(
        (panel,),
        "Error of sₜ₊₁ = 2 cos θ sₜ − sₜ₋₁ with the angle read off the last two entries.",
        "A curve near machine precision for all lengths.",
    )
    estimates = {
        RECURRENCE_RESIDUAL: Estimate(identity),
        NEXT_ENTRY_ERROR: Estimate(max(answers.values())),
    }
    return Measurement(estimates, figure)


def depth_is_descent(run: Run, *, mask: Mask | None = None) -> Measurement:
    """Networks of several depths against the learner, with and without a causal mask."""
    setting: DescentDepths = run.setting
    n = setting.length
    exact: dict[str, float] = {}
    biased, distances = [], torch.zeros(setting.layers + 1, dtype=torch.float64)
    pass_gap = 0.0
    for context in get_args(Context):
        gaps = []
        for dim in setting.dims:
            place = run.seed / context / dim
            prompt = Autoregression(dim, context).sample(place, setting.batch, n).to(run.device).prompt
            # The rate is on the sum of the terms; every entry has the square dim, so that this one converges.
            rate = 1.0 / (dim * n)
            deep, causal = (
                sequence_descents(dim, setting.layers, rate, mask=m).to(run.device).requires_grad_(False)
                for m in (mask, Causal())
            )
            steps = torch.stack(
                [torch.zeros_like(prompt.queries)]
                + [GradientDescent(steps=i + 1, rate=rate * n).predict(prompt) for i in range(setting.layers)]
            )
            gaps.append(largest_gap(deep.predict_layers(prompt), steps))
            away = (causal.predict_layers(prompt) - steps).square().sum(-1).mean((1, 2)).sqrt().cpu()
            biased.append(away[-1].item())
            distances = torch.maximum(distances, away / dim**0.5)
            through = sequence_descents(dim, n, 1.0 / dim, mask=Causal()).to(run.device).requires_grad_(False)
            pass_gap = max(pass_gap, largest_gap(through.predict(prompt), Kaczmarz(passes=1).predict(prompt)))
        exact[context] = max(gaps)
    layers = list(range(1, setting.layers + 1))
    panel = Panel(
        "layers",
        "distance of the causal network from as many steps, per coordinate",
        (line("largest over contexts and dimensions", layers, distances[1:]),),
    )
    figure = Figure(
        (panel,),
        "Root mean squared distance between the four-block network under a causal mask and gradient descent.",
        "A curve that starts at zero for one layer and rises with depth.",
    )
    estimates = {descent_deviation(context): Estimate(gap) for context, gap in exact.items()}
    estimates[CAUSAL_DEVIATION] = Estimate(min(biased))
    estimates[KACZMARZ_DEVIATION] = Estimate(pass_gap)
    return Measurement(estimates, figure)


def free_heads_beat_a_step(run: Run, *, blocks: Blocks = "all") -> Measurement:
    """Minimal exact losses with free blocks, the best step, and the explicit solution."""
    setting: Freedom = run.setting
    minima: dict[int, list[float]] = {1: [], 2: []}
    step = [SequenceStep(2, length).minimum for length in setting.lengths]
    for length in setting.lengths:
        layer = FreeLayer(2, length, "orthogonal")
        for heads, losses in minima.items():
            weights = layer.minimise(heads, run.seed / length / heads, setting.starts[heads - 1], blocks=blocks)
            losses.append(layer.loss(weights).item())
    error = 0.0
    for dim in (2, 4):
        for length in (1, *setting.lengths):
            episode = Autoregression(dim).sample(run.seed / "telescoping" / dim / length, 64, length)
            answers = telescoping(dim).requires_grad_(False).predict(episode.prompt)
            error = max(error, largest_gap(answers, episode.answers))
    count = torch.tensor(setting.lengths) - 1.0
    lines = [line("best gradient step", setting.lengths, torch.tensor(step) / count, look="dashed", colour=-1)]
    for heads, losses in minima.items():
        name = f"{heads} free head{'s' * (heads > 1)}"
        lines.append(line(name, setting.lengths, torch.tensor(losses) / count, colour=heads - 1))
    figure = Figure(
        (Panel("greatest length T", "least mean loss", tuple(lines)),),
        "Exact minima of the loss of one layer on augmented tokens, for rotations of the plane.",
        "Three curves: the best gradient step highest, one free head below it, two free heads at zero.",
    )
    ratio = max(a / b for a, b in zip(minima[1], step, strict=True))
    estimates = {
        ONE_HEAD_RATIO: Estimate(ratio),
        TWO_HEAD_LOSS: Estimate(max(minima[2])),
        TELESCOPING_ERROR: Estimate(error),
    }
    return Measurement(estimates, figure)


QUICK = Sequences(batch=64, dims=(2, 4, 10), lengths=(1, 2, 5, 10, 20, 50))
FULL = Sequences(batch=1024, dims=(2, 4, 10, 32), lengths=(1, 2, 5, 10, 20, 50, 100, 200))

CLAIMS = (
    Claim(
        id="sander2024.augmented-layer-is-one-step",
        statement="On augmented tokens (0, sₜ, sₜ₋₁), one linear-attention layer takes one gradient step on the "
        "sequence's own least-squares loss from W = 0 and applies the result to the last entry, for any W.",
        source="Augmented setting, construction of the in-context map",
        rules=(
            Rule(one_step_deviation("rotations"), high=1e-12),
            Rule(one_step_deviation("haar"), high=1e-12),
        ),
        measure=layer_is_one_step,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.054,
        full_hours=0.002,
    ),
    Claim(
        id="sander2024.depth-is-descent-without-a-causal-mask",
        statement="With four blocks to a token, L layers that attend to the whole context take L gradient steps. "
        "Under a causal mask they do not: at the rate 1/‖s‖², as many layers as examples make one pass of Kaczmarz.",
        source="Depth; derived here, after the remark of von Oswald et al. that plain stacking is biased",
        rules=(
            Rule(descent_deviation("rotations"), high=1e-12),
            Rule(descent_deviation("haar"), high=1e-12),
            Rule(CAUSAL_DEVIATION, low=1e-3),
            Rule(KACZMARZ_DEVIATION, high=1e-9),
        ),
        measure=depth_is_descent,
        quick=DescentDepths(batch=32, dims=(2, 4, 10), length=20, layers=6),
        full=DescentDepths(batch=1024, dims=(2, 4, 10, 32), length=100, layers=24),
        quick_seconds=0.12,
        full_hours=0.05,
    ),
    Claim(
        id="sander2024.rotations-obey-a-three-term-recurrence",
        statement="For W made of plane rotations, W² = 2 cos θ W − I in every block. The next entry is 2 cos θ sₜ − "
        "sₜ₋₁, with cos θ computed from the last two entries.",
        source="Orthogonal context, trigonometric form of the solution",
        rules=(
            Rule(RECURRENCE_RESIDUAL, high=1e-12),
            Rule(NEXT_ENTRY_ERROR, high=1e-12),
        ),
        measure=rotations_obey_three_terms,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.015,
        full_hours=0.001,
    ),
    Claim(
        id="sander2024.free-heads-beat-one-step",
        statement="A trained layer is one gradient step only if its other blocks are frozen. For plane rotations one "
        "head with free blocks has a smaller loss, and two heads have none, because differences of heads telescope to "
        "the last token.",
        source="Augmented setting, the restricted class of the theorem; derived here",
        rules=(
            Rule(ONE_HEAD_RATIO, high=0.95),
            Rule(TWO_HEAD_LOSS, high=1e-6),
            Rule(TELESCOPING_ERROR, high=1e-12),
        ),
        measure=free_heads_beat_a_step,
        quick=Freedom(lengths=(4, 8), starts=(10, 2)),
        full=Freedom(lengths=(4, 8, 16, 28), starts=(40, 8)),
        quick_seconds=4.2,
        full_hours=0.04,
    ),
)
