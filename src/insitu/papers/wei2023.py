"""Wei et al.: Larger language models do in-context learning differently (2023).

Wrong labels in the demonstrations turn the answers of large models round and hardly move those of small ones, which
keep to what they knew before; names of labels that say nothing of the task hurt small models more. Accuracy is counted
by the true labels.
"""

from collections.abc import Mapping

from torch import Tensor

from insitu.claims import Claim, Measurement, Paper, Rule, Run
from insitu.papers.demonstration_labels import ACCURACIES, FULL, QUICK, SMALLER, drawn, missing_labels
from insitu.papers.shen2024.setting import accuracy_gap, power

__all__ = ["PAPER"]

# The quantities that measurements estimate and rules decide.
FLIPPED_EXCESS = "accuracy with flipped labels - chance"
RENAMING_COST = "accuracy, own - neutral names"


def measure_flipped(run: Run, *, used: str = "flipped") -> Measurement:
    """The accuracy after demonstrations with wrong labels, less chance."""
    accuracies: Mapping[str, Tensor] = run.study
    estimates = {FLIPPED_EXCESS: accuracy_gap(accuracies[used] - accuracies["chance"], run.setting.items)}
    gold, zero = (accuracies[kind].mean() for kind in ("gold", "none"))
    note = f"Accuracy with gold labels {gold:.3f}, without demonstrations {zero:.3f}."
    return Measurement(estimates, drawn(accuracies), (note, power(estimates)))


def measure_renamed(run: Run, *, used: str = "renamed") -> Measurement:
    """What is lost when the names of the labels say nothing of the task."""
    accuracies: Mapping[str, Tensor] = run.study
    estimates = {RENAMING_COST: accuracy_gap(accuracies["gold"] - accuracies[used], run.setting.items)}
    neutral, chance = (accuracies[kind].mean() for kind in ("renamed", "chance"))
    note = f"Accuracy with neutral names {neutral:.3f}; chance gives {chance:.3f}."
    return Measurement(estimates, drawn(accuracies), (note, power(estimates)))


CLAIMS = tuple(
    Claim(
        id=f"wei2023.{name}",
        statement=statement,
        source=source,
        rules=(rule,),
        measure=measure,
        quick=QUICK,
        full=FULL,
        quick_seconds=1,
        quick_gigabytes=0.4,
        full_hours=0.1,
        reduced=SMALLER,
        study=ACCURACIES,
        missing=missing_labels,
    )
    for name, statement, source, rule, measure in (
        (
            "small-models-do-not-follow-flipped-labels",
            "A small model does not follow demonstrations whose labels are all wrong: its accuracy, by the true "
            "labels, stays at chance or above.",
            "Section 3, Figure 2",
            Rule(
                FLIPPED_EXCESS,
                low=0.0,
                printed="flat for small models; 90.3 % to 22.5 % for text-davinci-002",
            ),
            measure_flipped,
        ),
        (
            "neutral-names-of-labels-hurt-small-models",
            "A small model answers less accurately where the labels are called by words that say nothing of the task.",
            "Section 4, Figure 3",
            Rule(RENAMING_COST, low=0.0),
            measure_renamed,
        ),
    )
)

PAPER = Paper(
    id="wei2023",
    title="Larger language models do in-context learning differently",
    authors="Jerry Wei, Jason Wei, Yi Tay, Dustin Tran, Albert Webson, Yifeng Lu, Xinyun Chen, Hanxiao Liu, Da Huang, "
    "Denny Zhou, Tengyu Ma",
    venue="arXiv 2303.03846, 2023",
    claims=CLAIMS,
)
