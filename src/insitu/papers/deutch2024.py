r"""Deutch, Magar, Natan, Dar: In-context learning and gradient descent revisited (NAACL 2024).

Controls for the similarity that Dai et al. (2023) report: scaling biases it, untrained networks have it as well, and
descent in which a layer's change depends on lower layers alone, as in-context learning's does, comes nearer.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Paper, Rule, Run, line
from insitu.language.models.hidden_states import cosine
from insitu.metrics import Estimate
from insitu.papers.shen2024.setting import power
from insitu.papers.state_changes import (
    CAUSAL,
    CHANGES,
    FULL,
    PLAIN,
    QUICK,
    SCALED,
    SMALLER,
    UNTRAINED,
    drawn,
    missing_states,
)

__all__ = ["PAPER", "ScaledChanges", "scaling_bias"]

# The quantities that measurements estimate and rules decide.
ORTHOGONAL = "cosine of orthogonal changes - formula, largest"
RANDOM = "cosine of random changes - formula"
INFLATION = "SimAOU, scaled - not scaled"
TRAINING = "SimAOU, pretrained - untrained"
NEARER = "SimAOU, layer-causal - ordinary descent"


def scaling_bias(length: float) -> float:
    r"""The cosine that scaling gives to two changes that have nothing in common.

    A state :math:`z` is changed by orthogonal vectors of length :math:`\rho |z|`, which are orthogonal to it as well,
    as independent ones are in many dimensions, and both results are scaled to length 1. With
    :math:`s = \sqrt{1 + \rho^2}` the changes of the scaled state have the cosine

    .. math:: \frac{(1 - 1/s)^2}{(1 - 1/s)^2 + \rho^2 / s^2}.

    Args:
        length: The length :math:`\rho` of the changes, relative to that of the state.

    References:
        Deutch et al. (2024), section 3.1.

    Example:
        >>> round(scaling_bias(1.0), 4)
        0.1464
    """
    scale = math.sqrt(1 + length**2)
    shrunk = (1 - 1 / scale) ** 2
    return shrunk / (shrunk + (length / scale) ** 2)


@dataclass(frozen=True)
class ScaledChanges:
    """Pairs of changes of a state.

    Args:
        width: Entries of a state.
        pairs: Random pairs for each length.
        squared_lengths: The squared lengths of changes, relative to that of the state.
    """

    width: int
    pairs: int
    squared_lengths: tuple[float, ...]


def scaled_cosine(
    state: Float[Tensor, "pair width"], one: Float[Tensor, "pair width"], other: Float[Tensor, "pair width"]
) -> Float[Tensor, " pair"]:
    """The cosine of two changes of a state after everything is scaled to length 1."""
    start, *ends = (t / t.norm(dim=-1, keepdim=True) for t in (state, state + one, state + other))
    return cosine(ends[0] - start, ends[1] - start)


def measure_bias(run: Run, *, bias: Callable[[float], float] = scaling_bias) -> Measurement:
    """The cosine of scaled changes against the formula: of orthogonal changes exactly, of random ones by sampling."""
    s: ScaledChanges = run.setting
    axes = torch.eye(3, s.width, dtype=torch.float64)[:, None]
    lengths = [math.sqrt(square) for square in s.squared_lengths]
    exact = [scaled_cosine(axes[0], rho * axes[1], rho * axes[2]).item() for rho in lengths]
    state, *changes = ((run.seed / name).normal(s.pairs, s.width) for name in ("state", "one", "other"))
    sampled = torch.stack([scaled_cosine(state, rho * changes[0], rho * changes[1]) for rho in lengths])
    formula = torch.tensor([bias(rho) for rho in lengths], dtype=torch.float64)
    estimates = {
        ORTHOGONAL: Estimate((torch.tensor(exact, dtype=torch.float64) - formula).abs().max().item()),
        RANDOM: Estimate.mean((sampled - formula[:, None]).mean(0)),
    }
    curve = line("formula", s.squared_lengths, formula)
    means = line("random changes", s.squared_lengths, sampled.mean(1), look="points", colour=1)
    figure = Figure(
        (Panel("squared length of the changes", "cosine after scaling", (curve, means), x_scale="log"),),
        "The cosine that scaling to length 1 gives to two independent changes of a state, whose own cosine is zero.",
        "A curve that rises from zero towards one half, with points on it.",
    )
    return Measurement(estimates, figure)


def difference(shares: Mapping[str, Tensor], quantity: str, above: str, below: str) -> Measurement:
    """The difference of two similarities over the same demonstration sets."""
    estimates = {quantity: Estimate.mean(shares[above] - shares[below])}
    means = "; ".join(f"{name} {values.mean():.3f}" for name, values in shares.items())
    return Measurement(estimates, drawn(shares), (f"Means over demonstration sets: {means}.", power(estimates)))


def measure_scaling(run: Run, *, above: str = SCALED) -> Measurement:
    """What scaling adds to the similarity."""
    return difference(run.study, INFLATION, above, PLAIN)


def measure_untrained(run: Run, *, above: str = PLAIN) -> Measurement:
    """What pretraining adds to the similarity."""
    return difference(run.study, TRAINING, above, UNTRAINED)


def measure_layer_causal(run: Run, *, above: str = CAUSAL) -> Measurement:
    """What layer-causal descent adds to the similarity."""
    return difference(run.study, NEARER, above, PLAIN)


BIAS = Claim(
    id="deutch2024.scaling-biases-similarity",
    statement="Scaling states to length 1 makes changes that have nothing in common look alike: two independent "
    "changes as long as the state get the cosine 0.146, longer ones up to one half, by a formula.",
    source="Section 3.1",
    rules=(
        # float64, a dozen operations on numbers near 1.
        Rule(ORTHOGONAL, high=1e-12),
        # Random changes are orthogonal up to 1/sqrt(width).
        Rule(RANDOM, low=-0.01, high=0.01),
    ),
    measure=measure_bias,
    quick=ScaledChanges(width=576, pairs=1000, squared_lengths=(0.1, 1.0, 3.0, 10.0)),
    full=ScaledChanges(width=4096, pairs=10_000, squared_lengths=(0.1, 1.0, 3.0, 10.0)),
    quick_seconds=0.2,
    full_hours=0.01,
)

CLAIMS = (
    BIAS,
    *(
        Claim(
            id=f"deutch2024.{name}",
            statement=statement,
            source=source,
            rules=(rule,),
            measure=measure,
            quick=QUICK,
            full=FULL,
            quick_seconds=0.1,
            quick_gigabytes=1.1,
            full_hours=0.1,
            reduced=SMALLER,
            study=CHANGES,
            missing=missing_states,
        )
        for name, statement, source, rule, measure in (
            (
                "scaling-inflates-simaou",
                "On a pretrained language model the changes that in-context learning and descent make to the output "
                "of attention look more alike after scaling than they are.",
                "Section 3.1",
                Rule(INFLATION, low=0.0, printed="0.187 - 0.102 (mean of six data sets)"),
                measure_scaling,
            ),
            (
                "untrained-networks-score-as-high",
                "The changes are no more alike in a pretrained network than in the same one without its training.",
                "Section 3.2",
                Rule(
                    TRAINING,
                    high=0.0,
                    printed="0.05 - 0.09 (SST2), 0.04 - 0.07 (SST5), 0.17 - 0.18 (MR), 0.06 - 0.06 (Subj)",
                ),
                measure_untrained,
            ),
            (
                "layer-causal-descent-is-nearer",
                "Descent in which a layer's change depends on lower layers alone changes the states more like "
                "in-context learning does than ordinary descent.",
                "Section 4",
                Rule(NEARER, low=0.0, printed="0.167 - 0.102 (mean of six data sets)"),
                measure_layer_causal,
            ),
        )
    ),
)

PAPER = Paper(
    id="deutch2024",
    title="In-context learning and gradient descent revisited",
    authors="Gilad Deutch, Nadav Magar, Tomer Bar Natan, Guy Dar",
    venue="NAACL 2024",
    claims=CLAIMS,
)
