"""For every claim a plausible wrong implementation, under which its verdict must not be *holds*."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from tests.language.saboteurs import SABOTEURS as LANGUAGE
from tests.language.saboteurs import SMALL as LANGUAGE_SMALL

from insitu.learners import GradientDescent, LeastSquares, OnlineDescent, Ridge
from insitu.models import Causal, Prefix
from insitu.papers import claims
from insitu.papers.ding2024.depth import Lengths, Rates
from insitu.papers.ding2024.fixed_points import GRID, Noise, Normalised, Places
from insitu.papers.ding2024.setting import Chunks, Depth
from insitu.papers.sander2024 import Sequences
from insitu.papers.zhang2024 import Blocks, Flows


@dataclass(frozen=True)
class Case:
    """A setting small enough for a test, and the wrong part."""

    setting: Any
    wrong: dict[str, Any]


def unbalanced(population, shape, scale):
    matrix, scalar = population.balanced_start(shape, scale)
    return matrix, 2 * scalar


def without_trace_term(population):
    inverse = torch.linalg.inv((1 + 1 / population.length) * population.covariance)
    size = torch.linalg.matrix_norm(inverse).sqrt()
    return inverse / size, size


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


def ridge_prefixes(xs, ys):
    return Ridge(penalty=1.0).prefix_weights(xs, ys)


FEW = Rates(Chunks(batch=64, points=40), layers=50, rates=(1.6,))
FLOWS = Flows(dims=(3, 5), lengths=(5, 10))
PLACES = Places(Chunks(batch=64, points=300), lengths=GRID)

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
        Noise(Places(Chunks(batch=8, points=3000, chunk=8), lengths=(1000, 2000, 3000)), settled=1000),
        {"causal": OnlineDescent(rate=0.2, decay=0.5)},
    ),
    "ding2024.length-normalisation-is-slower": Case(
        Normalised(PLACES, batch=2, layers=2000), {"normalised": ridge_prefixes}
    ),
    "ding2024.depth-scales-oppositely": Case(
        Lengths(batch=3, lengths=(40, 80, 160, 320, 640)), {"falling": "causal", "rising": "prefix"}
    ),
    "zhang2024.flow-reaches-the-global-minimum": Case(FLOWS, {"target": without_trace_term}),
    "zhang2024.flow-keeps-balance": Case(Blocks(FLOWS, prompts=8), {"start": unbalanced}),
    "zhang2024.minimum-loss-in-closed-form": Case(FLOWS, {"least_loss": loss_without_context_noise}),
    "sander2024.augmented-layer-is-one-step": Case(
        Sequences(batch=4, dims=(4,), lengths=(2, 5)), {"reference": mean_instead_of_sum}
    ),
    "sander2024.rotations-obey-a-three-term-recurrence": Case(
        Sequences(batch=4, dims=(4,), lengths=(2, 5)), {"step": forgets_to_double}
    ),
    **{name: Case(replace(claims()[name].quick, **LANGUAGE_SMALL[name]), wrong) for name, wrong in LANGUAGE.items()},
}
