"""Whether pretrained weights look like those constructed to run descent, and whether reading needs special ones."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, line
from insitu.errors import InputError
from insitu.language.measure.sparsity import (
    CONSTRUCTED,
    THRESHOLDS,
    MatrixSparsity,
    average_over_layers,
    find_weights,
    sparsities,
)
from insitu.language.models.pretrained import DATA
from insitu.language.models.registry import missing_model
from insitu.metrics import Estimate
from insitu.papers.shen2024.setting import SMOLLM2

__all__ = ["CLAIMS", "Checkpoints", "Files", "History", "pretraining_history"]

HISTORY = "pretraining.json"

# The quantities that rules bound.
LEAST_GROWTH = "least growth of the change / largest change"
ACCURACY_CHANGE = "change of accuracy, last - first"
FIRST_ACCURACY = "accuracy - chance, first"


def largest_sparsity(kind: str) -> str:
    """The quantity of one kind of matrix."""
    return f"largest sparsity, {kind}"


@dataclass(frozen=True)
class Files:
    """Whose weights are looked at.

    Args:
        model: A bundled or fetched model, or a folder with safetensors.
    """

    model: str


def missing_files(setting: Files) -> str:
    """What keeps the weights from being read."""
    return missing_model(setting.model)


def measure_sparsity(
    run: Run, *, thresholds: tuple[float, ...] = THRESHOLDS, change: Callable[[Tensor], Tensor] = lambda w: w
) -> Measurement:
    """The largest share of small entries of any matrix, at any threshold up to 0.01."""
    s: Files = run.setting
    matrices = list(sparsities(find_weights(s.model), thresholds, change))
    estimates = {
        largest_sparsity(kind): Estimate(max(max(m.shares) for m in matrices if m.kind == kind)) for kind in CONSTRUCTED
    }
    apart = max(abs(a - b) for m in matrices for a, b in zip(m.shares, m.gaussian, strict=True))
    notes = (
        f"A share is at most {apart:.3f} away from what Gaussian entries of the same spread would give.",
        "The constructions need 99.99 % zeros among queries and keys and 75 % among values.",
    )
    return Measurement(estimates, draw_sparsity(matrices, thresholds), notes)


def draw_sparsity(matrices: list[MatrixSparsity], thresholds: tuple[float, ...]) -> Figure:
    panels = []
    for kind, needed in CONSTRUCTED.items():
        mean, gaussian = average_over_layers(matrices, kind)
        lines = (
            line("pretrained, mean over layers", thresholds, mean, colour=0),
            line("Gaussian of the same spread", thresholds, gaussian, look="dashed", colour=1),
            line("constructed", thresholds, [needed] * len(thresholds), look="dotted", colour=-1),
        )
        panels.append(Panel("threshold", f"sparsity, {kind}", lines, x_scale="log"))
    return Figure(
        tuple(panels),
        caption="The share of entries smaller than a threshold in the matrices of queries, keys and values, beside "
        "that of Gaussian entries and of weights constructed to run gradient descent.",
        alt="Three panels against the threshold: the sparsity of pretrained matrices follows the Gaussian one, far "
        "below the level of the construction.",
    )


@dataclass(frozen=True)
class Checkpoints:
    """Whose pretraining is followed.

    Args:
        model: A bundled model with a history of its pretraining.
        last: How many of the last checkpoints.
    """

    model: str
    last: int


@dataclass(frozen=True)
class History:
    """Statistics of checkpoints along a pretraining, a record of ``insitu lm weights --checkpoints``.

    Args:
        steps: The steps.
        change: The mean absolute change of all weights from the first checkpoint of the record.
        accuracy: The accuracy in context over the label words, for each checkpoint and demonstration set.
    """

    steps: tuple[int, ...]
    change: Tensor
    accuracy: Tensor


def pretraining_history(run: Run) -> History:
    """The last checkpoints of a bundled model's history.

    Raises:
        InputError: If the model has none.
    """
    wanted: Checkpoints = run.setting
    path = (DATA / wanted.model if (DATA / wanted.model).is_dir() else Path(wanted.model)) / HISTORY
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["drift"][-wanted.last :]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} holds no history of a pretraining ({type(error).__name__}: {error}).") from None
    change = torch.tensor([row["change from the first"] for row in rows], dtype=torch.float64)
    accuracy = torch.tensor([row["restricted accuracy of each set"] for row in rows], dtype=torch.float64)
    steps = tuple(int(row["checkpoint"].rpartition("-")[2]) for row in rows)
    return History(steps, change, accuracy)


PRETRAINING_HISTORY = Study("shen2024.pretraining_history", pretraining_history)


CHANCE = 0.5


def measure_drift(run: Run, *, seen: Callable[[History], History] = lambda history: history) -> Measurement:
    """Whether weights move on while accuracy in context, which is there to be lost, stays."""
    history = seen(run.study)
    rising = history.change.diff()
    spread = history.accuracy.mean(1)
    estimates = {
        LEAST_GROWTH: Estimate((rising.min() / history.change.max()).item()),
        ACCURACY_CHANGE: Estimate.mean(history.accuracy[-1] - history.accuracy[0]),
        FIRST_ACCURACY: Estimate.mean(history.accuracy[0] - CHANCE),
    }
    notes = (
        f"Accuracy among the label words between {spread.min():.3f} and {spread.max():.3f}; at chance nothing can be "
        "lost, so it has to be above.",
        "Statistics of the checkpoints were written when the model was pretrained; the checkpoints are not bundled.",
    )
    return Measurement(estimates, draw_drift(history), notes)


def draw_drift(history: History) -> Figure:
    steps = [float(step) for step in history.steps]
    accuracy = history.accuracy
    return Figure(
        (
            Panel("pretraining step", "mean absolute change of weights", (line("", steps, history.change),)),
            Panel(
                "pretraining step",
                "accuracy in context",
                (
                    line("", steps, accuracy.mean(1), low=accuracy.amin(1), high=accuracy.amax(1)),
                    line("chance", steps, [0.5] * len(steps), look="dotted", colour=-1),
                ),
            ),
        ),
        caption="Change of the weights since the first of these checkpoints, and accuracy in context among the label "
        "words: mean and range over demonstration sets.",
        alt="Two panels against the step of pretraining: the change of weights rises, accuracy in context stays near "
        "one level.",
    )


CLAIMS = (
    Claim(
        id="shen2024.pretrained-weights-are-not-sparse",
        statement=(
            "The matrices of queries, keys and values of a pretrained language model are not sparse, while those "
            "constructed to run gradient descent are: in every layer and at every threshold up to 0.01 at most 60 % of "
            "the entries are smaller."
        ),
        source="Section 3, Figure 2",
        rules=tuple(
            Rule(largest_sparsity(kind), high=0.6, printed="below about 60 % (LLaMA-7B, GPT-J)") for kind in CONSTRUCTED
        ),
        measure=measure_sparsity,
        quick=Files(SMOLLM2.model),
        full=Files(SMOLLM2.model),
        quick_seconds=1,
        full_hours=0.01,
        reduced="SmolLM2-135M-Instruct, 4-bit weights, instead of LLaMA-7B and GPT-J.",
        missing=missing_files,
    ),
    Claim(
        id="shen2024.reading-survives-drift",
        statement=(
            "Late in pretraining the weights go on moving, away from where they were, while accuracy in context stays"
            " about the same: in-context learning does not depend on one special setting of the weights."
        ),
        source="Section 3, Figure 3",
        rules=(
            # The change from the first checkpoint grows from each to the next.
            Rule(LEAST_GROWTH, low=0.0, printed="grows (GPT-J, steps 310k to 380k)"),
            # About constant: by no more than a tenth.
            Rule(ACCURACY_CHANGE, low=-0.1, high=0.1, printed="about 0 (GPT-J, steps 310k to 380k)"),
            Rule(FIRST_ACCURACY, low=0.0),
        ),
        measure=measure_drift,
        study=PRETRAINING_HISTORY,
        quick=Checkpoints("prose1M", 8),
        full=Checkpoints("prose1M", 8),
        quick_seconds=1,
        full_hours=0.01,
        reduced="a bundled model of about a million parameters and subj instead of GPT-J and AGNews.",
    ),
)
