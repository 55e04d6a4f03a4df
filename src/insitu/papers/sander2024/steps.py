"""One gradient step on augmented tokens: its best rate at finite length, and its remaining loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Inexact
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.metrics import Estimate
from insitu.seed import Seed
from insitu.tasks import orbit, rotation_blocks
from insitu.theory.sequences.diagonal_heads import Commuting
from insitu.theory.sequences.free_heads import FreeLayer
from insitu.theory.sequences.gradient_step import SequenceStep, StepForm

__all__ = ["CLAIMS", "StepProblems"]

# The quantities that measurements estimate and rules decide.
LIMIT_DISTANCE = "distance of the rate from 3 / (2T) in the limit, relative"
RATE_RATIO = "fitted rate over 3 / (2T + 3d − 4), farthest from 1"
RATE_DISTANCE = "largest distance of the fitted rate from 3 / (2T − 1)"
FREE_LOSS_DISTANCE = "largest distance of the free loss from the step's, d = 1"
LARGEST_RISE = "largest rise along T"
LEAST_LOSS = "least loss per term anywhere"
LIMIT_LOSS = "least loss per term in the limit"
LOSS_DECREASE = "loss at the last length over that at the first"
FREE_LOSS_RATIO = "loss of a free head over the best scalar step, d = 2"
LENGTH_LOSS_RATIO = "sampled loss over (d − 1) / (T + d − 2), farthest from 1"
LOSS_RATIO = "sampled loss over theory, farthest from 1"


def loss_at(length: int) -> str:
    return f"least loss per term, T = {length}, d = 2"


# Sequences that are computed at the same time: their products fit into a processor's cache.
PART = 256

CONTEXTS: tuple[Commuting, ...] = ("unitary", "orthogonal")
Problem = Callable[[int, int, StepForm], SequenceStep]


@dataclass(frozen=True)
class StepProblems:
    """Commuting sequences in several sizes.

    Args:
        sizes: Dimension and greatest length of each problem; even dimensions.
        batch: Sequences of each problem.
        far: A length at which the limit is looked at.
    """

    sizes: tuple[tuple[int, int], ...]
    batch: int
    far: int = 100_000


def sequences(seed: Seed, context: Commuting, dim: int, length: int, batch: int) -> Inexact[Tensor, "batch time dim"]:
    """s_1..s_{T+1} of commuting contexts: complex for independent eigenvalues, real for rotations."""
    return torch.cat(list(parts(seed, context, dim, length, batch)))


def parts(
    seed: Seed, context: Commuting, dim: int, length: int, batch: int, size: int = PART
) -> Iterator[Inexact[Tensor, "batch time dim"]]:
    """The same, at most ``size`` sequences at a time: a million of them do not fit into memory together."""
    turns = seed.uniform(batch, dim // 2 if context == "orthogonal" else dim)
    for angles in (2 * torch.pi * turns).split(size):
        matrices = rotation_blocks(angles) if context == "orthogonal" else torch.exp(1j * angles).diag_embed()
        yield orbit(matrices, torch.ones(dim, dtype=torch.float64), length + 1)


def unit_steps(sequence: Inexact[Tensor, "batch time dim"]) -> Inexact[Tensor, "batch row dim"]:
    """The answers of one step of rate 1 at T = 2, 3, ...: the sum of s_t s_{t-1}^* s_T over t <= T."""
    return torch.cat([lagged_attention(part) for part in sequence.split(PART)])


def lagged_attention(sequence: Inexact[Tensor, "batch time dim"]) -> Inexact[Tensor, "batch row dim"]:
    """Causal linear attention with queries s_T, keys s_{t-1} and values s_t."""
    keys, values = sequence[:, :-2], sequence[:, 1:-1]
    return (values @ keys.mH).tril() @ values


def eigenvalue_steps(sequence: Inexact[Tensor, "batch time dim"]) -> Inexact[Tensor, "batch row dim"]:
    """The same for heads that see one complex coordinate each."""
    return (sequence[:, 1:-1] * sequence[:, :-2].conj()).cumsum(1) * sequence[:, 1:-1]


def sums(sequence: Inexact[Tensor, "batch time dim"], rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of each sequence: answers along targets, answers squared, and the squared error of a rate."""
    answers, targets = unit_steps(sequence), sequence[:, 2:]
    errors = (rate * answers - targets).abs().square().sum((1, 2))
    return (answers.conj() * targets).real.sum((1, 2)), answers.abs().square().sum((1, 2)), errors


def fitted_rate(answers: Tensor, targets: Tensor) -> Estimate:
    """The rate of least squared error, and its standard error over sequences."""
    along = (answers.conj() * targets).real.sum((1, 2))
    return Estimate.ratio(along, answers.abs().square().sum((1, 2)))


def one_head_prefers_the_exact_rate(run: Run, *, problem: Problem = SequenceStep) -> Measurement:
    """StepProblems and losses fitted to samples over those of the theory, in both contexts."""
    setting: StepProblems = run.setting
    rates, losses, lines = [], [], []
    for colour, context in enumerate(CONTEXTS):
        fits = []
        for dim, length in setting.sizes:
            theory = problem(dim, length, "matrix")
            drawn = parts(run.seed / context / dim / length, context, dim, length, setting.batch)
            along, power, errors = map(torch.cat, zip(*(sums(s, theory.best_rate) for s in drawn), strict=True))
            rate = Estimate.ratio(along, power)
            rates.append(Estimate(rate.value / theory.best_rate, rate.error / theory.best_rate, rate.samples))
            losses.append(Estimate.mean(errors / theory.minimum))
            fits.append(rate.value / theory.asymptotic_rate)
        places = [float(length) for _, length in setting.sizes]
        lines.append(line(f"fitted to samples, {context}", places, fits, look="points", colour=colour))
    for dim in sorted({dim for dim, _ in setting.sizes}):
        lengths = [int(10 ** (0.5 + i / 10)) for i in range(26)]
        heights = [problem(dim, t, "matrix").best_rate * 2 * t / 3 for t in lengths]
        lines.append(line(f"theory, d = {dim}", lengths, heights, look="dashed", colour=1 + dim // 2))
    distant = [problem(dim, setting.far, "matrix") for dim, _ in setting.sizes]
    limit = max(abs(theory.best_rate / theory.asymptotic_rate - 1) for theory in distant)
    figure = Figure(
        (Panel("greatest length T", "best rate times 2T/3", tuple(lines), x_scale="log"),),
        "The best constant rate of one step over the paper's asymptotic 3/(2T).",
        "Curves, one for each dimension, that rise to one; fitted rates lie on them.",
    )
    estimates = {
        RATE_RATIO: farthest(rates),
        LOSS_RATIO: farthest(losses),
        LIMIT_DISTANCE: Estimate(limit),
    }
    return Measurement(estimates, figure)


def farthest(ratios: list[Estimate]) -> Estimate:
    return max(ratios, key=lambda ratio: abs(ratio.value - 1))


def heads_for_eigenvalues_take_a_larger_step(run: Run, *, form: StepForm = "eigenvalues") -> Measurement:
    """The rate of coordinate-wise heads on samples, and of a layer whose blocks are all free in one dimension."""
    setting: StepProblems = run.setting
    gaps, lines = [], []
    for dim, length in setting.sizes:
        s = sequences(run.seed / dim / length, "unitary", dim, length, setting.batch)
        gaps.append(abs(fitted_rate(eigenvalue_steps(s), s[:, 2:]).value - SequenceStep(dim, length, form).best_rate))
    free, steps = [], []
    lengths = tuple(range(2, 13, 2))
    for length in lengths:
        layer = FreeLayer(1, length)
        free.append(layer.loss(layer.minimise(1, run.seed / "free" / length, starts=2)).item())
        steps.append(SequenceStep(1, length, form).minimum)
    lines = [
        line("one gradient step", lengths, steps, look="dashed"),
        line("one head with free blocks", lengths, free, look="points"),
    ]
    figure = Figure(
        (Panel("greatest length T", "least loss, summed over lengths", tuple(lines)),),
        "One complex dimension: the least loss of a layer with free blocks is that of the best gradient step.",
        "Points on a rising dashed curve.",
    )
    wide = FreeLayer(2, 4)
    free_loss = wide.loss(wide.minimise(1, run.seed / "two", starts=3)).item()
    estimates = {
        RATE_DISTANCE: Estimate(max(gaps)),
        FREE_LOSS_DISTANCE: Estimate(max(abs(a - b) for a, b in zip(free, steps, strict=True))),
        FREE_LOSS_RATIO: Estimate(free_loss / SequenceStep(2, 4).minimum),
    }
    return Measurement(estimates, figure)


def constant_step_leaves_a_quarter(run: Run, *, problem: Problem = SequenceStep) -> Measurement:
    """The least loss per term of a constant rate over the greatest length."""
    setting: StepProblems = run.setting
    lengths = sorted({int(2 * 1.25**i) for i in range(45)} | {10, 60})
    lines, rises, least = [], [], 1.0
    for colour, dim in enumerate(sorted({dim for dim, _ in setting.sizes})):
        shares = [problem(dim, t, "matrix").minimum / (dim * (t - 1)) for t in lengths]
        rises.append(max(b - a for a, b in pairwise(shares)))
        least = min(least, *shares)
        lines.append(line(f"d = {dim}", lengths, shares, colour=colour))
    lines.append(line("1/4", [lengths[0], lengths[-1]], [0.25, 0.25], look="dotted", colour=-1))
    far = problem(2, setting.far, "matrix")
    figure = Figure(
        (Panel("greatest length T", "least loss over that of answering zero", tuple(lines), x_scale="log"),),
        "The least loss of one gradient step with a constant rate.",
        "Falling curves that end at one quarter.",
    )
    estimates = {
        loss_at(10): Estimate(problem(2, 10, "matrix").minimum / 18),
        loss_at(60): Estimate(problem(2, 60, "matrix").minimum / 118),
        LIMIT_LOSS: Estimate(far.minimum / (2 * (setting.far - 1))),
        LARGEST_RISE: Estimate(max(rises)),
        LEAST_LOSS: Estimate(least),
    }
    return Measurement(estimates, figure)


def rates_by_length(theory: SequenceStep) -> Tensor:
    return theory.best_rates


def step_per_length_solves_the_task(
    run: Run, *, rates: Callable[[SequenceStep], Tensor] = rates_by_length
) -> Measurement:
    """The sampled loss of the best rate for every length over (d - 1) / (T + d - 2)."""
    setting: StepProblems = run.setting
    ratios, lines, last = [], [], 0.0
    for colour, (dim, length) in enumerate(setting.sizes):
        theory = SequenceStep(dim, length)
        exact = (dim - 1) / torch.arange(dim, length + dim - 1, dtype=torch.float64)
        for context in CONTEXTS:
            chosen = rates(theory)[:, None]
            drawn = parts(run.seed / context / dim / length, context, dim, length, setting.batch)
            errors = torch.cat([(chosen * unit_steps(s) - s[:, 2:]).abs().square().sum(-1) / dim for s in drawn])
            ratios += [Estimate.mean(errors[:, i] / exact[i]) for i in (0, len(exact) // 2, len(exact) - 1)]
            if context == "orthogonal":
                place = list(range(2, length + 1))
                lines.append(line(f"samples, d = {dim}", place, errors.mean(0), colour=colour))
                lines.append(line("", place, exact, look="dashed", colour=colour))
                last = max(last, errors[:, -1].mean().item() / exact[0].item())
    figure = Figure(
        (Panel("length T", "loss per coordinate", tuple(lines), x_scale="log", y_scale="log"),),
        "Loss of one gradient step whose rate is the best for each length; dashed is (d − 1)/(T + d − 2).",
        "Curves that fall like one over the length, each on its dashed line.",
    )
    estimates = {
        LENGTH_LOSS_RATIO: farthest(ratios),
        LOSS_DECREASE: Estimate(last),
    }
    return Measurement(estimates, figure)


SIZES = ((2, 10), (4, 10), (6, 30), (2, 60))
FULL_SIZES = (*SIZES, (10, 20), (10, 100), (32, 100))

CLAIMS = (
    Claim(
        id="sander2024.best-rate-of-one-head",
        statement="For commuting W the best rate of a single gradient step tends to 3/(2T). At finite length it is "
        "3/(2T + 3d − 4), for independent eigenvalues and for rotations.",
        source="Augmented setting, theorem on the optimal step size; the finite form is derived here",
        rules=(
            Rule(RATE_RATIO, low=0.98, high=1.02),
            Rule(LOSS_RATIO, low=0.97, high=1.03),
            Rule(LIMIT_DISTANCE, high=1e-3),
        ),
        measure=one_head_prefers_the_exact_rate,
        quick=StepProblems(SIZES, batch=40_000),
        full=StepProblems(FULL_SIZES, batch=100_000),
        quick_seconds=5.7,
        full_hours=0.3,
    ),
    Claim(
        id="sander2024.heads-for-eigenvalues-take-a-larger-step",
        statement="With one head per eigenvalue the best rate is 3/(2T − 1) in every dimension. In one dimension a "
        "layer with free blocks does no better; in two dimensions a free head beats the scalar step.",
        source="Augmented setting, restricted parameter class; derived here",
        rules=(
            Rule(RATE_DISTANCE, high=1e-10),
            Rule(FREE_LOSS_DISTANCE, high=1e-8),
            Rule(FREE_LOSS_RATIO, high=0.95),
        ),
        measure=heads_for_eigenvalues_take_a_larger_step,
        quick=StepProblems(SIZES, batch=100),
        full=StepProblems(FULL_SIZES, batch=1000),
        quick_seconds=0.49,
        full_hours=0.002,
    ),
    Claim(
        id="sander2024.constant-step-leaves-a-quarter",
        statement="One gradient step with a constant rate does not solve the task: its least loss, relative to that "
        "of answering zero, falls with the length to one quarter and no further.",
        source="Augmented setting, consequence of the optimal step size; derived here",
        rules=(
            Rule(loss_at(10), low=0.3175, high=0.3185),
            Rule(loss_at(60), low=0.2615, high=0.2625),
            Rule(LIMIT_LOSS, low=0.25, high=0.2501),
            Rule(LARGEST_RISE, high=0.0),
            Rule(LEAST_LOSS, low=0.25),
        ),
        measure=constant_step_leaves_a_quarter,
        quick=StepProblems(SIZES, batch=1),
        full=StepProblems(FULL_SIZES, batch=1),
        quick_seconds=0.004,
        full_hours=0.001,
    ),
    Claim(
        id="sander2024.step-per-length-solves-the-task",
        statement="With the best rate for every length, 1/(T + d − 2), the loss per coordinate is (d − 1)/(T + d − 2) "
        "and vanishes as T grows: the constant rate is all that keeps one layer from solving the task.",
        source="Augmented setting; derived here",
        rules=(
            Rule(LENGTH_LOSS_RATIO, low=0.95, high=1.05),
            Rule(LOSS_DECREASE, high=0.5),
        ),
        measure=step_per_length_solves_the_task,
        # Not two dimensions at sixty entries: there a few angles near zero decide the mean.
        quick=StepProblems(((2, 10), (4, 10), (6, 30)), batch=40_000),
        full=StepProblems(FULL_SIZES, batch=1_000_000),
        quick_seconds=4.8,
        full_hours=3.0,
    ),
)
