"""Dai, Sun, Dong, Hao, Ma, Sui, Wei: Why can GPT learn in-context? (Findings of ACL 2023).

Hidden states change alike by in-context learning and by training on the same demonstrations, more than by chance. What
that similarity is worth is examined in :mod:`insitu.papers.deutch2024`.
"""

from collections.abc import Mapping

from torch import Tensor

from insitu.claims import Claim, Measurement, Paper, Rule, Run
from insitu.metrics import Estimate
from insitu.papers.shen2024.setting import power
from insitu.papers.state_changes import CHANGES, FULL, NOISE, QUICK, SCALED, SMALLER, drawn, missing_states

__all__ = ["PAPER"]

# The quantities that measurements estimate and rules decide.
EXCESS = "SimAOU - SimAOU of a random change"


def measure_excess(run: Run, *, used: str = SCALED) -> Measurement:
    """How much more alike the changes are than a random one is to that of in-context learning."""
    shares: Mapping[str, Tensor] = run.study
    estimates = {EXCESS: Estimate.mean(shares[used] - shares[NOISE])}
    note = f"SimAOU {shares[SCALED].mean():.3f}, of a random change {shares[NOISE].mean():.3f}."
    return Measurement(estimates, drawn(shares), (note, power(estimates)))


PAPER = Paper(
    id="dai2023",
    title="Why can GPT learn in-context? Language models secretly perform gradient descent as meta-optimizers",
    authors="Damai Dai, Yutao Sun, Li Dong, Yaru Hao, Shuming Ma, Zhifang Sui, Furu Wei",
    venue="Findings of ACL 2023",
    claims=(
        Claim(
            id="dai2023.states-change-alike",
            statement="In-context learning and gradient descent on the same demonstrations change the scaled output of "
            "attention in directions that are more alike than chance.",
            source="Section 4, SimAOU",
            rules=(Rule(EXCESS, low=0.0, printed="0.186 and 0.225 against 0.00 (GPT 1.3B and 2.7B, six data sets)"),),
            measure=measure_excess,
            quick=QUICK,
            full=FULL,
            quick_seconds=15,
            quick_gigabytes=1.1,
            full_hours=2,
            reduced=SMALLER,
            study=CHANGES,
            missing=missing_states,
        ),
    ),
)
