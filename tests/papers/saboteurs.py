"""For every claim a plausible wrong implementation, under which its verdict must not be *holds*."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from tests.papers import language_models

from insitu.claims import Run
from insitu.learners import GradientDescent, LeastSquares, OnlineDescent, Ridge
from insitu.models import Causal, Prefix, gradient_descent
from insitu.papers.ding2024.depth import DepthByLength, RateSweep, Shortened
from insitu.papers.ding2024.fixed_points import GRID, NoisyPrompts, Normalised, Places
from insitu.papers.ding2024.setting import Chunks, Depth
from insitu.papers.ding2024.trained import MASKS, TASKS, Cell, Transformers
from insitu.papers.ours import Asked, Depths, by_hand, one_step, ridge
from insitu.papers.sander2024 import Sequences
from insitu.papers.sander2024.construction import DescentDepths, Freedom
from insitu.papers.sander2024.heads import Descents, Problems, Samples, exact_losses
from insitu.papers.sander2024.lag import Lags
from insitu.papers.sander2024.positions import Arcs, Plain
from insitu.papers.sander2024.steps import StepProblems
from insitu.papers.sander2024.text import Text
from insitu.papers.sander2024.trained import Crowds, Stacks, untrained
from insitu.papers.zhang2024 import BlockGradients, Flows
from insitu.papers.zhang2024.beyond import Forms, RankOneHeads, Relatives, Traps
from insitu.papers.zhang2024.covariances import Draws, Laws
from insitu.papers.zhang2024.decoders import Decoders, linear_attention
from insitu.papers.zhang2024.risks import Prompts, RiskLengths
from insitu.papers.zhang2024.trained import LayerTraining
from insitu.theory.one_layer.all_blocks import Blocks
from insitu.theory.one_layer.one_step import best_step, step_error
from insitu.theory.one_layer.risk import Risk, average_linear_risk, layer_risk, length_for
from insitu.theory.one_layer.saddles import staircase
from insitu.theory.one_layer.spurious_minima import certificate
from insitu.theory.sequences.gradient_step import SequenceStep
from insitu.theory.sequences.position_attention import Positions
from insitu.training import Growth, Recipe


@dataclass(frozen=True)
class Case:
    """A setting small enough for a test, the wrong part, and a study in place of the claim's own where that is slow."""

    setting: Any
    wrong: dict[str, Any]
    study: Callable[[Run], Any] | None = None


def unbalanced(population, shape, scale):
    matrix, scalar = population.balanced_start(shape, scale)
    return matrix, 2 * scalar


def training_length_for_test_length(population, _length, labels):
    return layer_risk(population, population.length, labels)


def forgets_the_square(population, length):
    found = average_linear_risk(population, length)
    bias = found.bias * population.length if math.isfinite(population.length) else found.bias
    return Risk(found.residual, found.variance, bias)


def hundred_times_too_short(population, excess):
    return max(1, length_for(population, excess) // 100)


def plain_step(population):
    return torch.eye(population.dim, dtype=torch.float64)


def forgets_the_query(step, covariance, length, **_query):
    return step_error(step, covariance, length)


def least_squares(_population, prompt):
    return LeastSquares().predict(prompt)[:, 0, 0]


def limit_as_printed(law):
    matrix, _ = law.global_minimum()
    return matrix, law.best_diagonal().sum() ** 0.25


def diagonal_covariances(seed, count, dim):
    return torch.diag_embed(0.1 + seed.uniform(count, dim))


def whole_query_block(query):
    whole = torch.eye(len(query) + 1, dtype=query.dtype)
    whole[-1, :-1] = whole[:-1, -1] = query
    return whole


def searches_the_slice(population, _seed, starts):
    flat = Blocks(
        *population.global_minimum()[:1], *[torch.zeros(population.dim).double()] * 2, population.global_minimum()[1]
    )
    return [certificate(population, flat.flatten(), 0.0, starts)]


def forgets_the_noise(covariance, length, weights=None, noise_variance=0.0):
    return best_step(covariance, length, weights=weights, noise_variance=0.0 * noise_variance)


def starts_large(population, seed, heads, _start, horizon):
    return staircase(population, seed, heads, 0.5, horizon)


def negative_reading(population, shape, scale):
    matrix, scalar = population.balanced_start(shape, scale)
    return matrix, -scalar


def without_trace_term(population):
    inverse = torch.linalg.inv((1 + 1 / population.length) * population.covariance)
    size = torch.linalg.matrix_norm(inverse).sqrt()
    return inverse / size, size


def constructed_cells(run):
    """Networks set by hand in place of trained ones: the right measurement must find the theory's order in them."""
    setting = run.setting

    def network(cell):
        mask = MASKS[cell.mask]
        if cell.permuted and cell.mask == "causal":
            mask = Prefix(setting.points // 2)
        layers = 1 if cell.batches == setting.sizes[0] else setting.layers
        return gradient_descent(setting.dim, layers, 1.5, out=3 if cell.task == "classes" else 1, mask=mask)

    cells = [Cell(*four) for four in itertools.product(TASKS, (True, False), MASKS, (True, False))]
    cells += [Cell("linear", True, mask, True, size) for mask in MASKS for size in setting.sizes]
    cells += [Cell("linear", False, mask, False, setting.sizes[1], new) for mask in MASKS for new in (False, True)]
    return {cell: network(cell) for cell in cells}


def one_set_by_hand(_seed, asked):
    network, _ = by_hand(asked.dim, Causal())["six steps"]
    return {"six steps": network}


def step_without_trace_term(population):
    return torch.linalg.inv((1 + 1 / population.length) * population.covariance)


def linear_attention_of_endless_prompts(setting, kind, panel, _trained, _tested):
    return linear_attention(setting, kind, panel, math.inf, math.inf)


def loss_without_context_noise(population):
    spread = population.covariance
    key = (1 + 1 / population.length) * spread
    return (spread.trace() - (spread @ spread @ torch.linalg.inv(key)).trace()).item() / 2 + 1e-3


def mean_instead_of_sum(prompt, rate):
    return GradientDescent(steps=1, rate=rate).predict(prompt)


def forgets_to_double(before, now):
    a, b = before.unflatten(-1, (-1, 2)), now.unflatten(-1, (-1, 2))
    cosine = (a * b).sum(-1, keepdim=True) / a.square().sum(-1, keepdim=True)
    return (cosine * b - a).flatten(-2)


def forgets_the_other_coordinates(dim, length, _form):
    return SequenceStep(dim, length, "eigenvalues")


def one_rate_for_all(theory):
    return torch.full_like(theory.best_rates, theory.best_rate)


def as_released(problem, heads):
    extra = heads.positions.diagonal() ** 2 * heads.merged.square().sum()
    return exact_losses(problem, heads) + (0 if problem.paired else extra)


def mixing_of_coordinates(found):
    merged = found.heads.merged
    return ((merged - merged.diagonal().diag()).abs().max() / merged.diagonal().abs().mean()).item()


def stops_ten_times_earlier(setting, moments):
    return Positions(moments).descend(setting.rate, 10 * setting.stop, setting.most)


def any_repeat(windows):
    now = windows[:, :-1].sort(dim=1).values
    return (now[:, 1:] == now[:, :-1]).any(1)


def ridge_prefixes(xs, ys):
    return Ridge(penalty=1.0).prefix_weights(xs, ys)


FEW = RateSweep(Chunks(batch=64, points=40), layers=50, rates=(1.6,))
FLOWS = Flows(dims=(3, 5), lengths=(5, 10))
PLACES = Places(Chunks(batch=64, points=300), lengths=GRID)

# One dimension is learned within seconds, and shows all that the figure of the paper does.
DECODERS = Decoders(
    dim=1,
    lengths=(2, 4),
    longest=6,
    starts=1,
    width=16,
    layers=2,
    heads=2,
    batch=32,
    recipe=Recipe(steps=400, rate=5e-3, warmup=0.05, decay="cosine", clip=1.0),
    dims=Growth(1, 1, 1),
    points=Growth(3, 1, 60),
    positions=0.5,
    blocks=None,
    prompts=1024,
)

TRANSFORMERS = Transformers(
    dim=3,
    points=10,
    queries=3,
    width=16,
    layers=20,
    heads=2,
    batch=16,
    recipe=Recipe(steps=1, rate=0.01),
    batches=0,
    prompts=256,
    sizes=(2, 8),
)
TRAINING = LayerTraining(4, 10, 1024, Recipe(steps=300, rate=0.04, warmup=0.05, decay="cosine"), random_starts=2)
SWAPPED = {"masks": ("causal", "prefix")}

SMALL_STEPS = StepProblems(((2, 10), (4, 6)), batch=10_000)
SMALL_HEADS = Problems(4, 5, (2, 4, 6), 2)
SMALL_PLANES = Problems(4, 5, (1, 2, 3, 4), 4)

SPECTRA = ((1.0, 1.0, 1.0), (1.5, 0.9, 0.6))

CASES: dict[str, Case] = {
    "ding2024.prefix-is-gradient-descent": Case(Depth(batch=4, layers=10), {"mask": Causal()}),
    "ding2024.causal-is-a-coupled-iteration": Case(Depth(batch=4, layers=10), {"mask": Prefix()}),
    "ding2024.queries-must-not-see-themselves": Case(Depth(batch=2, layers=2000), {"seeing": Prefix()}),
    "ding2024.prefix-reaches-least-squares": Case(Depth(batch=2, layers=4000, rate=1.0), {"mask": Causal()}),
    "ding2024.causal-reaches-one-online-pass": Case(
        Depth(batch=2, layers=2000), {"learner": OnlineDescent(rate=0.1, decay=0.5)}
    ),
    "ding2024.causal-query-error-stalls": Case(FEW, {"causal": Prefix()}),
    "ding2024.best-rate-is-the-largest-stable": Case(
        replace(FEW, rates=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2)), {"prefix": Causal()}
    ),
    "ding2024.causal-error-decays-geometrically": Case(
        Places(Chunks(batch=256, points=102), lengths=(20, 40, 60, 80, 94, 100, 102)),
        {"learner": OnlineDescent(rate=0.1)},
    ),
    "ding2024.mean-shift-slows-causal": Case(PLACES, {"causal": LeastSquares()}),
    "ding2024.causal-has-a-noise-floor": Case(
        NoisyPrompts(Places(Chunks(batch=8, points=3000, chunk=8), lengths=(1000, 2000, 3000)), settled=1000),
        {"causal": OnlineDescent(rate=0.2, decay=0.5)},
    ),
    "ding2024.length-normalisation-is-slower": Case(
        Normalised(PLACES, batch=2, layers=2000), {"normalised": ridge_prefixes}
    ),
    "ding2024.depth-scales-oppositely": Case(
        DepthByLength(batch=3, lengths=(40, 80, 160, 320, 640)), {"falling": "causal", "rising": "prefix"}
    ),
    "ding2024.prefix-beats-causal-after-training": Case(TRANSFORMERS, SWAPPED, constructed_cells),
    "ding2024.prefix-beats-causal-on-shorter-prompts": Case(TRANSFORMERS, SWAPPED, constructed_cells),
    "ding2024.prefix-beats-causal-down-to-the-dimension": Case(TRANSFORMERS, SWAPPED, constructed_cells),
    "ding2024.a-rate-for-long-prompts-overshoots-on-short-ones": Case(
        Shortened(Chunks(batch=256, points=40), layers=50, rate=1.6, lengths=(16, 24, 32)), {"prefix": Causal()}
    ),
    "ding2024.causal-layers-flatten": Case(TRANSFORMERS, SWAPPED, constructed_cells),
    "ding2024.prefix-needs-less-data": Case(TRANSFORMERS, SWAPPED, constructed_cells),
    "ding2024.new-orders-help-causal": Case(TRANSFORMERS, {"permuted": lambda new: not new}, constructed_cells),
    "zhang2024.flow-reaches-the-global-minimum": Case(FLOWS, {"target": without_trace_term}),
    "zhang2024.flow-keeps-balance": Case(BlockGradients(FLOWS, prompts=8), {"start": unbalanced}),
    "zhang2024.minimum-loss-in-closed-form": Case(FLOWS, {"least_loss": loss_without_context_noise}),
    "zhang2024.loss-falls-at-the-rate-of-the-bound": Case(FLOWS, {"start": negative_reading}),
    "zhang2024.test-risk-is-exact": Case(Prompts(count=20_000), {"exact": training_length_for_test_length}),
    "zhang2024.excess-falls-as-1-over-m-and-1-over-n-squared": Case(
        RiskLengths((1000, 10_000, 100_000), SPECTRA), {"average": forgets_the_square}
    ),
    "zhang2024.learns-linear-functions-up-to-a-floor": Case(
        RiskLengths((10, 1000), SPECTRA), {"needed": hundred_times_too_short}
    ),
    "zhang2024.task-shift-is-tolerated": Case(Prompts(count=500, trained=1500, tested=(1500,)), {"step": plain_step}),
    "zhang2024.query-shift-is-tolerated": Case(Prompts(count=20_000), {"error": forgets_the_query}),
    "zhang2024.covariate-shift-is-not-tolerated": Case(
        Prompts(count=500, trained=1500, tested=(1500,)), {"answer": least_squares}
    ),
    "zhang2024.random-covariance-flow-reaches-its-limit": Case(Laws((3,), (6,)), {"target": limit_as_printed}),
    "zhang2024.random-covariances-are-not-learned": Case(
        Draws(count=2000, dim=4, length=400), {"learned": lambda dim: torch.eye(dim, dtype=torch.float64)}
    ),
    "zhang2024.trained-layer-reaches-the-closed-form": Case(
        TRAINING,
        {"target": step_without_trace_term},
    ),
    "zhang2024.decoders-beat-linear-attention": Case(DECODERS, {"layer": linear_attention_of_endless_prompts}),
    "zhang2024.decoders-break-on-larger-covariances": Case(DECODERS, {"unit": lambda scale: scale**2}),
    "zhang2024.random-covariances-help-decoders": Case(DECODERS, {"better": "fixed", "worse": "random"}),
    "zhang2024.longer-prompts-in-training-help-decoders": Case(DECODERS, {"ends": (-1, 0)}),
    "zhang2024.errors-jump-past-the-training-length": Case(DECODERS, {"base": lambda _length: 0}),
    "zhang2024.diagonal-formula-needs-diagonals": Case(Draws(count=200), {"law": diagonal_covariances}),
    "zhang2024.loss-is-not-convex": Case(Forms((2,), (5,), prompts=3), {"block": whole_query_block}),
    "zhang2024.traps-outside-the-slice": Case(
        Traps(((3.0, 2.0, 1.0),), (5,), starts=8), {"search": searches_the_slice}
    ),
    "zhang2024.one-formula-behind-four-papers": Case(Relatives((3,), (6,)), {"best": forgets_the_noise}),
    "zhang2024.rank-one-heads-learn-in-steps": Case(RankOneHeads(runs=1), {"flow": starts_large}),
    "sander2024.augmented-layer-is-one-step": Case(
        Sequences(batch=4, dims=(4,), lengths=(2, 5)), {"reference": mean_instead_of_sum}
    ),
    "sander2024.rotations-obey-a-three-term-recurrence": Case(
        Sequences(batch=4, dims=(4,), lengths=(2, 5)), {"step": forgets_to_double}
    ),
    "sander2024.depth-is-descent-without-a-causal-mask": Case(DescentDepths(4, (2, 4), 5, 3), {"mask": Causal()}),
    "sander2024.free-heads-beat-one-step": Case(Freedom((4,), (4, 2)), {"blocks": "step"}),
    "sander2024.best-rate-of-one-head": Case(SMALL_STEPS, {"problem": forgets_the_other_coordinates}),
    "sander2024.heads-for-eigenvalues-take-a-larger-step": Case(SMALL_STEPS, {"form": "matrix"}),
    "sander2024.constant-step-leaves-a-quarter": Case(SMALL_STEPS, {"problem": forgets_the_other_coordinates}),
    "sander2024.step-per-length-solves-the-task": Case(SMALL_STEPS, {"rates": one_rate_for_all}),
    "sander2024.loss-of-heads-is-exact": Case(Samples(((2, 4),), 2, 20_000), {"losses": as_released}),
    "sander2024.heads-buy-one-dimension-each": Case(SMALL_HEADS, {"price": 2}),
    "sander2024.heads-become-orthogonal": Case(SMALL_HEADS, {"apart": mixing_of_coordinates}),
    "sander2024.descent-recovers-the-matrix": Case(Descents(10, 20, 10, 0.01, 100, 2), {"context": "orthogonal"}),
    "sander2024.query-has-to-lag": Case(Lags(4, (2, 4), 2000), {"lag": 0}),
    "sander2024.few-heads-find-the-recurrence": Case(SMALL_PLANES, {"ratio": 0.5}),
    "sander2024.descent-finds-the-recurrence": Case(Descents(4, 5, 3, 0.01, 2500, 3), {"ratio": 0.5}),
    "sander2024.many-heads-leave-a-family": Case(SMALL_PLANES, {"relation": lambda rho: -rho / 2}),
    "sander2024.too-few-heads-lose-two-each": Case(SMALL_PLANES, {"price": 1}),
    "sander2024.positions-alone-have-an-optimum": Case(Plain((2, 4), 4), {"visible": 0}),
    "sander2024.concentration-broadens-positions": Case(Arcs(), {"descent": stops_ten_times_earlier}),
    "sander2024.trained-depth-beats-descent": Case(
        Stacks(5, 20, 512, 16, Recipe(steps=150, rate=0.02, warmup=0.05, decay="cosine"), (1, 2), (), 1, 64),
        {"train": untrained},
    ),
    "sander2024.heads-help-plain-tokens": Case(
        Crowds(4, 8, 512, 32, Recipe(steps=150, rate=0.01, warmup=0.05, decay="cosine"), (1, 8), 1, 256),
        {"train": untrained},
    ),
    "sander2024.text-fit-measures-repetition": Case(Text("stories260K", "subj", 500), {"repeats": any_repeat}),
    "identify.constructed-networks-are-recognised": Case(Asked(2, (5, 2), 8), {"causal": Prefix()}),
    "identify.trained-linear-attention-is-preconditioned-descent": Case(TRAINING, {"target": step_without_trace_term}),
    "identify.causal-depth-is-online-descent": Case(Depths(3, 8, 1.0, (2, 8), 100), {"mask": Prefix()}),
    "identify.trained-softmax-is-nearer-to-ridge-than-to-one-step": Case(
        TRANSFORMERS, {"far": ridge, "near": one_step}, constructed_cells
    ),
    "identify.untrained-is-none": Case(Asked(2, (5, 2), 8), {"networks": one_set_by_hand}),
    **{name: Case(*case) for name, case in language_models.cases().items()},
}
