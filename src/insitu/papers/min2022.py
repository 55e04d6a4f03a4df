"""Min, Lyu, Holtzman, Artetxe, Lewis, Hajishirzi, Zettlemoyer: Rethinking the role of demonstrations (EMNLP 2022).

Demonstrations with random labels serve about as well as those with their own: what counts is that there are labels,
texts and a format. Accuracy is among the label words, as in the paper's direct scoring.
"""

from collections.abc import Mapping

from torch import Tensor

from insitu.claims import Claim, Measurement, Paper, Rule, Run
from insitu.papers.demonstration_labels import ACCURACIES, FULL, QUICK, SMALLER, drawn, missing_labels
from insitu.papers.shen2024.setting import accuracy_gap, power

__all__ = ["PAPER"]

# The quantities that measurements estimate and rules decide.
RANDOM_COST = "accuracy, gold - random labels"


def measure_random(run: Run, *, other: str = "random") -> Measurement:
    """What is lost when labels are drawn at random."""
    accuracies: Mapping[str, Tensor] = run.study
    estimates = {RANDOM_COST: accuracy_gap(accuracies["gold"] - accuracies[other], run.setting.items)}
    means = ", ".join(f"{kind} {values.mean():.3f}" for kind, values in accuracies.items())
    return Measurement(estimates, drawn(accuracies), (f"Accuracy among the label words: {means}.", power(estimates)))


PAPER = Paper(
    id="min2022",
    title="Rethinking the role of demonstrations: what makes in-context learning work?",
    authors="Sewon Min, Xinxi Lyu, Ari Holtzman, Mikel Artetxe, Mike Lewis, Hannaneh Hajishirzi, Luke Zettlemoyer",
    venue="EMNLP 2022",
    claims=(
        Claim(
            id="min2022.random-labels-cost-little",
            statement="Demonstrations whose labels are drawn at random serve about as well as those with their own: "
            "the accuracy falls by at most five points.",
            source="Section 4, Figure 3",
            rules=(
                Rule(
                    RANDOM_COST,
                    high=0.05,
                    printed="0 to 5 points, 2.6 on average (classification, six models)",
                ),
            ),
            measure=measure_random,
            quick=QUICK,
            full=FULL,
            quick_seconds=30,
            quick_gigabytes=0.4,
            full_hours=1,
            reduced=SMALLER,
            study=ACCURACIES,
            missing=missing_labels,
        ),
    ),
)
