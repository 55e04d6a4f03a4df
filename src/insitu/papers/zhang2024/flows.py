"""Gradient flow on the population loss: its limit, what it conserves, and how fast the loss falls."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.metrics import Estimate
from insitu.models import Architecture, AttentionNetwork, LinearAttention, MergedMaps, Prefix, SelfVisible
from insitu.prompt import Prompt
from insitu.seed import Seed
from insitu.tasks import Gaussian, LinearRegression
from insitu.theory.one_layer.population import Flow, Population

__all__ = ["CLAIMS", "BlockGradients", "Flows"]

# The quantities that measurements estimate and rules decide.
IDENTITY_DEVIATION = "closed form over d(d+1)/(2(N+d+1)) at the identity, largest deviation from 1"
BALANCE_DRIFT = "largest drift of u² − ‖U‖²"
GAP_RATIO = "largest gap(t) / (exp(−μt) gap(0))"
UNUSED_GRADIENT = "largest gradient of a block that the answer does not use"
MIXED_GRADIENT = "largest gradient of the mixed blocks at zero"
FINAL_DISTANCE = "largest relative distance at the end"
GAP_RISE = "largest rise of the gap, of its start"
SCALAR_RATIO = "least u over its lower bound"
SLOPE_RATIO = "least |∇L|² / (μ gap)"
LOSS_DEVIATION = "loss at the end over closed form, largest deviation from 1"

Target = Callable[[Population], tuple[Tensor, Tensor]]
Start = Callable[[Population, Tensor, float], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Flows:
    """Gradient flows for several covariances.

    Args:
        dims: The dimension of each problem; its covariance is drawn at random, dense, by the seed.
        lengths: The training context length of each.
        share: The initial scale, as a share of the theorem's limit.
        horizon: How long to flow.
        moments: Times at which to look, logarithmically spaced.
    """

    dims: tuple[int, ...]
    lengths: tuple[int, ...]
    share: float = 0.5
    horizon: float = 1e4
    moments: int = 80


@dataclass(frozen=True)
class BlockGradients:
    """A sample on which the gradients of single blocks of weights are taken.

    Args:
        flows: The problems whose flows are checked for balance.
        prompts: Prompts in the sample; each is used with its weights and their negatives.
    """

    flows: Flows
    prompts: int = 64


def populations(setting: Flows, seed: Seed) -> list[Population]:
    """One training distribution per dimension, with a dense covariance of trace d and moderate condition."""
    problems = []
    for dim, length in zip(setting.dims, setting.lengths, strict=True):
        root = (seed / dim / "covariance").normal(dim, dim)
        spread = root @ root.T / dim + 0.3 * torch.eye(dim, dtype=torch.float64)
        problems.append(Population(spread * dim / spread.trace(), length))
    return problems


def assumed_start(population: Population, shape: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The paper's initialisation."""
    return population.balanced_start(shape, scale)


def flow(population: Population, setting: Flows, seed: Seed, start: Start, *, hold: bool = True) -> Flow:
    dim = len(population.covariance)
    shape = (seed / dim / "shape").normal(dim, dim)
    begin = start(population, shape, setting.share * population.initialisation_limit())
    last = math.log10(setting.horizon)
    late = torch.logspace(-3, last, setting.moments, dtype=torch.float64)
    return population.flow(*begin, torch.cat([late.new_zeros(1), late]), hold=hold)


def relative_distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(a - b) / torch.linalg.matrix_norm(b)


def flow_reaches_minimum(run: Run, *, target: Target = Population.global_minimum) -> Measurement:
    """The distance of every flow from the closed form, over time and at the end."""
    setting: Flows = run.setting
    worst, lines = 0.0, []
    for colour, population in enumerate(populations(setting, run.seed)):
        path = flow(population, setting, run.seed, assumed_start)
        matrix, scalar = target(population)
        distance = torch.maximum(relative_distance(path.matrices, matrix), (path.scalars / scalar - 1).abs())
        worst = max(worst, distance[-1].item())
        label = f"d={len(population.covariance)}, N={population.length}"
        lines.append(line(label, path.times[1:], distance[1:], colour=colour))
    figure = Figure(
        (Panel("time", "relative distance to the closed form", tuple(lines), x_scale="log", y_scale="log"),),
        "Gradient flow on the population loss from the paper's initialisation, against its closed-form limit.",
        "One curve per problem, flat at first, then falling steeply to the precision of the integration.",
    )
    return Measurement({FINAL_DISTANCE: Estimate(worst)}, figure)


def flow_keeps_balance(run: Run, *, start: Start = assumed_start) -> Measurement:
    """Conservation of u^2 - |U|_F^2 along the flow, and the gradients of the blocks that stay at zero."""
    setting: BlockGradients = run.setting
    drifts, lines = [], []
    for colour, population in enumerate(populations(setting.flows, run.seed)):
        path = flow(population, setting.flows, run.seed, start, hold=False)
        balance = path.scalars.square() - torch.linalg.matrix_norm(path.matrices).square()
        drifts.append(balance.abs().max().item())
        label = f"d={len(population.covariance)}, N={population.length}"
        lines.append(line(label, path.times[1:], balance[1:].abs().clamp(min=1e-17), colour=colour))
    unused, linked = block_gradients(run, populations(setting.flows, run.seed)[0])
    figure = Figure(
        (Panel("time", "|u² − ‖U‖²|", tuple(lines), x_scale="log", y_scale="log"),),
        "Drift of the conserved quantity along the integrated flow (values below 1e-17 drawn there).",
        "Curves near the precision of the integration, far below the bound 1e-9.",
    )
    estimates = {
        BALANCE_DRIFT: Estimate(max(drifts)),
        UNUSED_GRADIENT: Estimate(unused),
        MIXED_GRADIENT: Estimate(linked),
    }
    return Measurement(estimates, figure)


def block_gradients(run: Run, population: Population) -> tuple[float, float]:
    """Gradients by autograd through the network, on prompts paired with their mirror images w -> -w.

    The answer's even part in w is zero while the mixed blocks are; pairing cancels its gradient exactly, as the
    expectation over w does.
    """
    setting: BlockGradients = run.setting
    dim, length = len(population.covariance), int(population.length)
    law = Gaussian(dim, tuple(map(tuple, population.covariance.tolist())))
    episode = LinearRegression(law).sample(run.seed / "paired", setting.prompts, length)
    prompt, answers = episode.prompt, episode.answers
    doubled = [torch.cat([t, s * t]) for t, s in ((prompt.xs, 1), (prompt.ys, -1), (prompt.queries, 1))]
    network = AttentionNetwork(Architecture(dim=dim, mask=SelfVisible(Prefix()))).double()
    maps = cast(MergedMaps, cast(LinearAttention, network.layers[0]).maps)
    root = (run.seed / "theta").normal(dim, dim)
    with torch.no_grad():
        network.readout[0, dim] = 1.0
        maps.score[0, :dim, :dim] = root @ root.T
        maps.value[0, dim, dim] = 0.7
    truth = torch.cat([answers, -answers])
    loss = (network.predict(Prompt(*doubled)) - truth).square().mean() / 2
    loss.backward()
    score, value = cast(Tensor, maps.score.grad)[0], cast(Tensor, maps.value.grad)[0]
    unused = max(score[:, dim].abs().max().item(), value[:dim].abs().max().item())
    linked = max(score[dim, :dim].abs().max().item(), value[dim, :dim].abs().max().item())
    return unused, linked


def minimum_is_closed_form(
    run: Run, *, least_loss: Callable[[Population], float] = Population.minimum_loss
) -> Measurement:
    """The loss at the end of every flow against both closed forms, and the identity covariance's formula."""
    setting: Flows = run.setting
    gaps, lines = [], []
    for colour, population in enumerate(populations(setting, run.seed)):
        path = flow(population, setting, run.seed, assumed_start)
        spread, least = population.covariance, least_loss(population)
        cancelling = (spread.trace() - (spread @ spread @ torch.linalg.inv(population.key_matrix)).trace()) / 2
        gaps += [abs(path.losses[-1].item() / least - 1), abs(cancelling.item() / least - 1)]
        label = f"d={len(spread)}, N={population.length}"
        lines.append(line(label, path.times[1:], path.losses[1:] / len(spread), colour=colour))
        lines.append(
            line(
                "closed form" if colour == 0 else "",
                path.times[[1, -1]],
                [least / len(spread)] * 2,
                look="dashed",
                colour=-1,
            )
        )
    white = []
    for dim, length in zip(setting.dims, setting.lengths, strict=True):
        least = least_loss(Population(torch.eye(dim, dtype=torch.float64), length))
        white.append(abs(least / (dim * (dim + 1) / 2 / (length + dim + 1)) - 1))
    figure = Figure(
        (Panel("time", "population loss / d", tuple(lines), x_scale="log"),),
        "The population loss along gradient flow; dashed, its global minimum in closed form.",
        "Curves that stay flat, fall once and end on their dashed lines.",
    )
    estimates = {
        LOSS_DEVIATION: Estimate(max(gaps)),
        IDENTITY_DEVIATION: Estimate(max(white)),
    }
    return Measurement(estimates, figure)


def flow_descends(
    run: Run, *, start: Start = assumed_start, constant: Callable[..., float] = Population.descent_constant
) -> Measurement:
    """The loss, the squared gradient over the gap, u and the gap along every flow against the paper's bounds."""
    setting: Flows = run.setting
    rises, slopes, floors, gaps, lines = [], [], [], [], []
    for colour, population in enumerate(populations(setting, run.seed)):
        path = flow(population, setting, run.seed, start)
        shape = (run.seed / population.dim / "shape").normal(population.dim, population.dim)
        scale = setting.share * population.initialisation_limit()
        rate, floor = constant(population, shape, scale), population.scalar_floor(shape, scale)
        clear = path.gaps > 1e-22 * path.gaps[0]
        squares = torch.stack(
            [population.squared_slope(m, s) for m, s in zip(path.matrices[clear], path.scalars[clear], strict=True)]
        )
        ratios = squares / path.gaps[clear] / rate
        rises.append((path.gaps.diff().max() / path.gaps[0]).item())
        slopes.append(ratios.min().item())
        floors.append((path.scalars.min() / floor).item())
        gaps.append((path.gaps[clear] / path.gaps[0] * torch.exp(rate * path.times[clear])).max().item())
        label = f"d={population.dim}, N={population.length}"
        lines.append(line(label, path.times[clear][1:], ratios[1:], colour=colour))
    lines.append(line("bound", (1e-3, setting.horizon), (1.0, 1.0), look="dotted", colour=-1))
    figure = Figure(
        (Panel("time", "|∇L|² / (μ (L − min L))", tuple(lines), x_scale="log", y_scale="log"),),
        "The squared gradient over the gap, in units of the paper's constant μ. The paper's bound is 1; it is loose.",
        "Curves that start and end orders of magnitude above the dotted line at one.",
    )
    estimates = {
        GAP_RISE: Estimate(max(rises)),
        SLOPE_RATIO: Estimate(min(slopes)),
        SCALAR_RATIO: Estimate(min(floors)),
        GAP_RATIO: Estimate(max(gaps)),
    }
    return Measurement(estimates, figure)


QUICK = Flows(dims=(3, 5, 10, 20), lengths=(5, 10, 4, 40))
FULL = Flows(dims=(3, 5, 8, 10, 20, 40), lengths=(5, 10, 20, 4, 40, 80))

CLAIMS = (
    Claim(
        id="zhang2024.flow-reaches-the-global-minimum",
        statement="Gradient flow on one linear-attention layer, from a small balanced initialisation, converges to "
        "the weights that take one gradient step preconditioned by Γ⁻¹, with Γ = (1 + 1/N) Λ + tr(Λ)/N.",
        source="Theorem 4.1, equation 4.1",
        rules=(Rule(FINAL_DISTANCE, high=1e-8),),
        measure=flow_reaches_minimum,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.14,
        full_hours=0.001,
        version=2,
    ),
    Claim(
        id="zhang2024.flow-keeps-balance",
        statement="Along the flow u² = ‖U‖². The blocks that mix inputs and labels stay at zero, and the blocks that "
        "do not affect the answer get no gradient.",
        source="Lemmas 5.2 and A.3",
        rules=(
            Rule(BALANCE_DRIFT, high=1e-9),
            Rule(UNUSED_GRADIENT, low=0.0, high=0.0),
            Rule(MIXED_GRADIENT, high=1e-12),
        ),
        measure=flow_keeps_balance,
        quick=BlockGradients(QUICK),
        full=BlockGradients(FULL, prompts=4096),
        quick_seconds=0.12,
        full_hours=0.001,
        version=2,
    ),
    Claim(
        id="zhang2024.minimum-loss-in-closed-form",
        statement="The loss at the end of the flow is ½ [tr Λ − tr(Λ² Γ⁻¹)], which for the identity covariance is "
        "d(d+1) / (2(N+d+1)).",
        source="Lemma 5.3 and corollary A.2; the loss is derived",
        rules=(
            Rule(LOSS_DEVIATION, high=1e-8),
            Rule(IDENTITY_DEVIATION, high=1e-12),
        ),
        measure=minimum_is_closed_form,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.13,
        full_hours=0.001,
        version=2,
    ),
    Claim(
        id="zhang2024.loss-falls-at-the-rate-of-the-bound",
        statement="Along the flow the loss never rises, and the squared gradient is at least μ times the gap to the "
        "least loss. The gap therefore falls at least as fast as exp(−μt), and u stays above a positive bound.",
        source="Lemma 5.4, lemmas A.4 and A.5, equation A.14",
        rules=(
            Rule(GAP_RISE, high=1e-9),
            Rule(SLOPE_RATIO, low=1.0),
            Rule(SCALAR_RATIO, low=1.0),
            Rule(GAP_RATIO, high=1.0),
        ),
        measure=flow_descends,
        quick=QUICK,
        full=FULL,
        quick_seconds=0.14,
        full_hours=0.001,
    ),
)
