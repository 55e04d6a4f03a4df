"""Sander, Giryes, Suzuki, Blondel and Peyre: How do transformers perform in-context autoregressive learning?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Paper, Rule, Run, line
from insitu.compare import Estimate, largest_gap
from insitu.models import sequence_descent
from insitu.prompt import Prompt
from insitu.tasks.autoregression import Autoregression, Context
from insitu.theory.autoregression import three_term_step

__all__ = ["PAPER"]


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
        estimates[f"largest deviation from one step, {context}"] = Estimate(max(deviations))
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
        "largest entry of W² − 2 cos θ W + I": Estimate(identity),
        "largest error of the next entry": Estimate(max(answers.values())),
    }
    return Measurement(estimates, figure)


QUICK = Sequences(batch=64, dims=(2, 4, 10), lengths=(1, 2, 5, 10, 20, 50))
FULL = Sequences(batch=1024, dims=(2, 4, 10, 32), lengths=(1, 2, 5, 10, 20, 50, 100, 200))

PAPER = Paper(
    id="sander2024",
    title="How do transformers perform in-context autoregressive learning?",
    authors="Michael E. Sander, Raja Giryes, Taiji Suzuki, Mathieu Blondel, Gabriel Peyre",
    venue="ICML 2024",
    claims=(
        Claim(
            id="sander2024.augmented-layer-is-one-step",
            statement="On augmented tokens (0, sₜ, sₜ₋₁) one linear-attention layer takes one gradient step on the "
            "sequence's own least-squares loss from W = 0 and applies it to the last entry, whatever W is.",
            source="Augmented setting, construction of the in-context map",
            rules=(
                Rule("largest deviation from one step, rotations", high=1e-12),
                Rule("largest deviation from one step, haar", high=1e-12),
            ),
            measure=layer_is_one_step,
            quick=QUICK,
            full=FULL,
            quick_seconds=1.0,
            full_hours=0.01,
        ),
        Claim(
            id="sander2024.rotations-obey-a-three-term-recurrence",
            statement="For W made of plane rotations W² = 2 cos θ W − I in every block, so the next entry is "
            "2 cos θ sₜ − sₜ₋₁ with cos θ read off the last two entries.",
            source="Orthogonal context, trigonometric form of the solution",
            rules=(
                Rule("largest entry of W² − 2 cos θ W + I", high=1e-12),
                Rule("largest error of the next entry", high=1e-12),
            ),
            measure=rotations_obey_three_terms,
            quick=QUICK,
            full=FULL,
            quick_seconds=0.5,
            full_hours=0.01,
        ),
    ),
)
