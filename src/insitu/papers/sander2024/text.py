"""Text as an autoregressive sequence of embeddings: its fit by linear maps, and what that measures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, line
from insitu.language import (
    conflicting_repeats,
    load_corpus,
    load_language_model,
    missing_model,
    rollout_errors,
    shuffled_windows,
    text_windows,
    unit_embeddings,
)
from insitu.metrics import Estimate

__all__ = ["CLAIMS", "Text"]

# The quantities that measurements estimate and rules decide.
SHUFFLING_EXCESS = "inexact windows, shuffled less in order, share"
REPEAT_DISAGREEMENTS = "windows in which error and conflicting repeat disagree"
EMBEDDING_DISAGREEMENTS = "windows that random embeddings judge otherwise"

# Errors below this are rounding.
EXACT = 1e-12


@dataclass(frozen=True)
class Text:
    """A language model's embeddings and a text.

    Args:
        model: A bundled name, a folder, or a name on the hub.
        corpus: A bundled name or a folder.
        windows: At most how many windows.
        size: Tokens in a window.
    """

    model: str
    corpus: str
    windows: int
    size: int = 5


def missing_embeddings(setting: Text) -> str:
    """What keeps the embeddings from being read."""
    return missing_model(setting.model)


def histogram(errors: Tensor, edges: Tensor) -> tuple[list[float], list[float]]:
    """The outline of a histogram."""
    counts = torch.histogram(errors, edges).hist.tolist()
    sides = edges.repeat_interleave(2)[1:-1].tolist()
    return sides, [count for count in counts for _ in range(2)]


def fit_measures_repetition(
    run: Run, *, repeats: Callable[[Int[Tensor, "window size"]], Bool[Tensor, " window"]] = conflicting_repeats
) -> Measurement:
    """Windows that no linear map fits, in order and shuffled, against those in which a token has two successors."""
    setting: Text = run.setting
    model, corpus = load_language_model(setting.model, device=run.device), load_corpus(setting.corpus)
    texts = [row.text for row in (*corpus.train, *corpus.test)]
    windows = text_windows(model, texts, setting.size)[: setting.windows]
    embeddings = unit_embeddings(model)
    noise = (run.seed / "embeddings").normal(*embeddings.shape)
    orders = {"in order": windows, "shuffled": shuffled_windows(windows, run.seed / "order")}
    errors = {name: rollout_errors(embeddings[w]) for name, w in orders.items()}
    inexact = {name: e > EXACT for name, e in errors.items()}
    wrong = sum(int((inexact[name] != repeats(w)).sum()) for name, w in orders.items())
    other = sum(
        int((inexact[name] != (rollout_errors(noise[w]) / noise[w].square().mean((1, 2)) > EXACT)).sum())
        for name, w in orders.items()
    )
    rows = {name: Estimate.mean(flags.double()) for name, flags in inexact.items()}
    gap = rows["shuffled"].value - rows["in order"].value
    spread = (rows["shuffled"].error ** 2 + rows["in order"].error ** 2) ** 0.5
    misfits = {name: e[inexact[name]] for name, e in errors.items()}
    edges = torch.linspace(0, max(e.max().item() for e in misfits.values()) * 1.01, 41, dtype=torch.float64)
    curves = (line(name, *histogram(e, edges), colour=i) for i, (name, e) in enumerate(misfits.items()))
    figure = Figure(
        (Panel("mean squared error of a window", "windows", tuple(curves)),),
        f"Errors of windows of {setting.size} tokens that no linear map fits exactly, embeddings of "
        f"{Path(setting.model).name}, text {Path(setting.corpus).name}; tokens in order and shuffled.",
        "Two histograms of similar place and shape; that of shuffled tokens is higher.",
    )
    means = ", ".join(f"{name} {len(e)} windows with mean {e.mean():.3g}" for name, e in misfits.items())
    estimates = {
        SHUFFLING_EXCESS: Estimate(gap, spread, len(windows)),
        REPEAT_DISAGREEMENTS: Estimate(float(wrong)),
        EMBEDDING_DISAGREEMENTS: Estimate(float(other)),
    }
    return Measurement(estimates, figure, (f"of {len(windows)} windows each: {means}.",))


CLAIMS = (
    Claim(
        id="sander2024.text-fit-measures-repetition",
        statement="Windows of a text break sₜ₊₁ = A sₜ less often than windows of its shuffled tokens. They break it "
        "exactly where a token repeats with another successor, whatever the embeddings.",
        source="Figure 4, validation on text; what it measures is derived here",
        rules=(
            Rule(SHUFFLING_EXCESS, low=0.0),
            Rule(REPEAT_DISAGREEMENTS, high=0.0),
            Rule(EMBEDDING_DISAGREEMENTS, high=0.0),
        ),
        measure=fit_measures_repetition,
        quick=Text("smollm2", "subj", windows=5_000),
        full=Text("smollm2", "subj", windows=10_000),
        quick_seconds=6.0,
        full_hours=0.001,
        reduced="SmolLM2-135M-Instruct, 4-bit weights computed in float32, and sentences of subj in place of GPT-2 "
        "large and Moby Dick.",
        missing=missing_embeddings,
        version=2,
    ),
)
