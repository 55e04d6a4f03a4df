"""The five findings of figure 1: decoders on their training distribution and on others."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Measurement, Rule, Run
from insitu.metrics import Estimate
from insitu.papers.zhang2024.decoders import (
    KINDS,
    TRAINED_DECODERS,
    Decoders,
    error_at,
    figure,
    hours_of,
    level,
    linear_attention,
)
from insitu.training import Growth, Recipe

__all__ = ["CLAIMS"]


# The quantities that measurements estimate and rules decide.
def advantage(decoder: str) -> str:
    return f"linear attention minus {decoder}"


def error_rise(scale: float) -> str:
    return f"rise of the error over c, c={scale:g}"


def random_gain(scale: float) -> str:
    return f"fixed minus random over c, c={scale:g}"


def random_rise(scale: float) -> str:
    return f"rise of the random decoder's error over c, c={scale:g}"


def length_gain(kind: str, covariance: str) -> str:
    return f"shortest minus longest, {kind} decoder, {covariance}"


def jump(kind: str) -> str:
    return f"error past N minus at N, {kind} decoder"


def growth_decrease(kind: str, scale: float) -> str:
    return f"growth past N at c=1 minus at c={scale:g}, {kind} decoder"


def at_training_length(run: Run, panel: int, kind: str) -> Float[Tensor, " prompt"]:
    """The error at M = N of every prompt, averaged over the trained lengths."""
    lengths = run.setting.lengths
    return torch.stack([error_at(run.study, panel, kind, n, at) for n, at in enumerate(lengths)]).mean(0)


def decoders_beat_linear_attention(run: Run, *, layer: Callable[..., float] = linear_attention) -> Measurement:
    """The exact error of linear attention with the same training at M = N, minus the error of the decoder."""
    setting: Decoders = run.setting
    places = {"fixed decoder, identity": (0, "fixed"), "fixed decoder, c=1": (1, "fixed")}
    places["random decoder, c=1"] = (1, "random")
    estimates = {}
    for decoder, (panel, kind) in places.items():
        losses = [layer(setting, kind, panel, length, length) for length in setting.lengths]
        gain = sum(losses) / len(losses) - at_training_length(run, panel, kind)
        estimates[advantage(decoder)] = Estimate.mean(gain)
    return Measurement(estimates, figure(run, (0, 1), "Decoders in and near their training distribution."))


def large_covariances_break_decoders(run: Run, *, unit: Callable[[float], float] = lambda scale: scale) -> Measurement:
    """The error as a share of that of answering zero at c = 4 and 9, minus the share at c = 1; all at M = N."""
    setting: Decoders = run.setting
    estimates = {}
    for panel, scale in enumerate(setting.scales[1:], start=2):
        rise = at_training_length(run, panel, "fixed") / unit(scale) - at_training_length(run, 1, "fixed")
        estimates[error_rise(scale)] = Estimate.mean(rise)
    return Measurement(estimates, figure(run, (2, 3), "Decoders on larger random covariances."), singles(run, 2))


def random_training_helps(run: Run, *, better: str = "random", worse: str = "fixed") -> Measurement:
    """The error of fixed training minus that of random training at the largest variance, on the same prompts."""
    setting: Decoders = run.setting
    last, scale = len(setting.scales), setting.scales[-1]
    ours, theirs = (at_training_length(run, last, kind) / scale for kind in (better, worse))
    estimates = {
        random_gain(scale): Estimate.mean(theirs - ours),
        random_rise(scale): Estimate.mean(ours - at_training_length(run, 1, better)),
    }
    picture = figure(run, (last,), "Decoders on the largest random covariances, where least squares is exact.")
    return Measurement(estimates, picture, singles(run, last))


def longer_training_helps(run: Run, *, ends: tuple[int, int] = (0, -1)) -> Measurement:
    """The error of the shortest training length minus that of the longest, each at its own M = N."""
    setting: Decoders = run.setting
    estimates = {}
    for kind in KINDS:
        for panel in range(1 + len(setting.scales)):
            short, long = (error_at(run.study, panel, kind, end, setting.lengths[end]) for end in ends)
            covariance = "identity" if panel == 0 else f"c={setting.scales[panel - 1]:g}"
            gap = (short - long) / level(setting, panel)
            estimates[length_gain(kind, covariance)] = Estimate.mean(gap)
    return Measurement(estimates, figure(run, (0, 1, 2, 3), "All decoders on all prompts."), singles(run, 1))


def errors_jump_past_the_training_length(
    run: Run, *, base: Callable[[int], int] = lambda length: length
) -> Measurement:
    """The mean error at the test lengths past the training length over the error at it, and how that varies with c."""
    setting: Decoders = run.setting
    last = len(setting.scales)
    short = [n for n, length in enumerate(setting.lengths) if length < setting.longest]
    estimates = {}
    for k, kind in enumerate(KINDS):
        past, at = {}, {}
        for panel in {k, 1, last}:
            pairs = [
                (run.study[panel, k, n][:, setting.lengths[n] + 1 :].mean(1), base(setting.lengths[n])) for n in short
            ]
            past[panel] = torch.stack([later for later, _ in pairs]).mean(0)
            at[panel] = torch.stack(
                [error_at(run.study, panel, kind, n, place) for n, (_, place) in zip(short, pairs, strict=True)]
            ).mean(0)
        estimates[jump(kind)] = Estimate.mean(past[k] - at[k])
        near, far = (Estimate.ratio(past[panel], at[panel]) for panel in (1, last))
        estimates[growth_decrease(kind, setting.scales[-1])] = Estimate(
            near.value - far.value, math.hypot(near.error, far.error), setting.prompts
        )
    return Measurement(estimates, figure(run, (0, 1, 2, 3), "All decoders, up to and past their training lengths."))


def singles(run: Run, panel: int) -> tuple[str, ...]:
    """The errors of single networks at M = N."""
    setting: Decoders = run.setting
    errors = [
        f"{kind}, N={length}: {error_at(run.study, panel, kind, n, length).mean().item():.3g}"
        for kind in KINDS
        for n, length in enumerate(setting.lengths)
    ]
    return (
        f"Errors over d of single networks at M = N, c = {setting.scales[panel - 1]:g}: " + "; ".join(errors) + ".",
    )


QUICK = Decoders(
    dim=3,
    lengths=(6, 12),
    longest=18,
    starts=1,
    width=32,
    layers=3,
    heads=4,
    batch=32,
    recipe=Recipe(steps=5000, rate=3e-3, warmup=0.05, decay="cosine", clip=1.0),
    dims=Growth(2, 1, 500),
    points=Growth(3, 1, 75),
    positions=0.5,
    blocks=None,
    prompts=8192,
)
FULL = Decoders(
    dim=20,
    lengths=(40, 70, 100),
    longest=100,
    starts=1,
    width=256,
    layers=12,
    heads=8,
    batch=64,
    recipe=Recipe(steps=500_000, rate=1e-4),
    dims=Growth(5, 1, 2000),
    points=Growth(11, 2, 2000),
    positions=0.02,
    blocks=0.02,
    prompts=4096,
)
SMALLER = (
    "d = 3 in place of 20, lengths 6 and 12 in place of 40, 70 and 100, a decoder of 3 layers and width 32 in place of "
    "12 and 256, trained for 5,000 steps in place of 500,000 with a larger rate that falls to "
    "zero."
)


def decoder_claim(
    name: str,
    statement: str,
    source: str,
    rules: tuple[Rule, ...],
    measure: Callable[..., Measurement],
    *,
    quick_seconds: float,
    full_hours: float = 0.02,
) -> Claim:
    return Claim(
        id=f"zhang2024.{name}",
        statement=statement,
        source=source,
        rules=rules,
        measure=measure,
        quick=QUICK,
        full=FULL,
        quick_seconds=quick_seconds,
        full_hours=full_hours,
        reduced=SMALLER,
        study=TRAINED_DECODERS,
    )


CLAIMS = (
    decoder_claim(
        "decoders-beat-linear-attention",
        "At its training length, a GPT-2-style decoder has a smaller error than the linear-attention layer with the "
        "same training: on its training distribution and, if trained on one covariance, on random covariances at c = "
        "1.",
        "Figure 1 and section 4.3, first finding",
        tuple(
            Rule(advantage(decoder), low=0.0)
            for decoder in ("fixed decoder, identity", "fixed decoder, c=1", "random decoder, c=1")
        ),
        decoders_beat_linear_attention,
        quick_seconds=190,
        full_hours=hours_of(FULL),
    ),
    decoder_claim(
        "decoders-break-on-larger-covariances",
        "A decoder trained on one covariance fails on random covariances of scale c = 4 and 9: its error grows faster "
        "than that of answering zero. Least squares stays exact.",
        "Figure 1 and section 4.3, second finding",
        tuple(Rule(error_rise(scale), low=0.0) for scale in (4, 9)),
        large_covariances_break_decoders,
        quick_seconds=0.073,
    ),
    decoder_claim(
        "random-covariances-help-decoders",
        "Training on random covariances gives a decoder a smaller error at c = 9 than training on one covariance. It "
        "is still worse than least squares, which does not depend on the scale.",
        "Figure 1 and section 4.3, third finding",
        (
            Rule(random_gain(9), low=0.0),
            Rule(random_rise(9), low=0.0),
        ),
        random_training_helps,
        quick_seconds=0.071,
    ),
    decoder_claim(
        "longer-prompts-in-training-help-decoders",
        "A decoder trained on longer prompts has a smaller error at its training length than one trained on shorter "
        "prompts has at its own, for both kinds of training and at every scale.",
        "Figure 1 and section 4.3, fourth finding",
        tuple(
            Rule(length_gain(kind, covariance), low=0.0)
            for kind in KINDS
            for covariance in ("identity", "c=1", "c=4", "c=9")
        ),
        longer_training_helps,
        quick_seconds=0.083,
    ),
    decoder_claim(
        "errors-jump-past-the-training-length",
        "Past its training length, the error of a decoder jumps up for both kinds of training, and relatively less at "
        "a larger test variance. Linear attention has no such length.",
        "Figure 1 and section 4.3, fifth finding",
        tuple(Rule(quantity, low=0.0) for kind in KINDS for quantity in (jump(kind), growth_decrease(kind, 9))),
        errors_jump_past_the_training_length,
        quick_seconds=0.085,
    ),
)
