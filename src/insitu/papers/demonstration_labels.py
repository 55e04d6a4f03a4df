"""What the claims of Min et al. (2022) and Wei et al. (2023) look at: accuracy by the labels that demonstrations carry.

Reading alone, so the study is cheap. The question that both papers ask of a model is how much of a label's content it
takes from the demonstrations, and how much it knows before.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from insitu.claims import Figure, Panel, Run, Study, line
from insitu.language import missing_model
from insitu.language.measure.labels import LABELS, NONE, RENAMED, label_accuracies
from insitu.language.measure.unfinished import Unfinished
from insitu.papers.shen2024.setting import AGNEWS, REDUCED, SMOLLM2, TextSource, prepare

__all__ = ["ACCURACIES", "FULL", "KINDS", "QUICK", "SMALLER", "LabelSetting", "accuracies", "drawn", "missing_labels"]

KINDS = (NONE, *LABELS, RENAMED)
CHANCE = "chance"


@dataclass(frozen=True)
class LabelSetting:
    """What is read.

    Args:
        source: The model and the texts.
        sets: How many demonstration sets.
        shots: How many demonstrations each holds.
        items: How many test texts are classified.
    """

    source: TextSource
    sets: int
    shots: int
    items: int


def missing_labels(setting: LabelSetting) -> str:
    """What keeps the model from being loaded."""
    return missing_model(setting.source.model)


def accuracies(run: Run) -> Mapping[str, Tensor]:
    """The accuracy among the label words for each kind of label and demonstration set, and what chance gives."""
    s: LabelSetting = run.setting
    bench = prepare(run, s.source, shots=s.shots, items=s.items)
    chance = torch.full((s.sets,), 1 / len(bench.corpus.labels), dtype=torch.float64)
    return {**label_accuracies(bench, s.sets, s.shots, Unfinished(run.folder)), CHANCE: chance}


ACCURACIES = Study("labels.accuracies", accuracies)


def drawn(accuracies: Mapping[str, Tensor]) -> Figure:
    """Accuracy by the kind of label, for every set and in the mean."""
    places = range(len(KINDS))
    points = [
        line("each set" if i == 0 else "", [place] * len(accuracies[kind]), accuracies[kind], look="points", colour=0)
        for i, (place, kind) in enumerate(zip(places, KINDS, strict=True))
    ]
    means = line("mean", places, [accuracies[kind].mean().item() for kind in KINDS], look="points", colour=1)
    return Figure(
        (Panel("labels of the demonstrations", "accuracy among the label words", (*points, means), x_names=KINDS),),
        "Accuracy after the same demonstrations with other labels.",
        "Points of accuracy for five kinds of labels.",
    )


QUICK = LabelSetting(SMOLLM2, sets=8, shots=8, items=8)
FULL = LabelSetting(AGNEWS, sets=5, shots=16, items=300)
SMALLER = f"{REDUCED}; eight demonstrations, eight questions and eight demonstration sets."
