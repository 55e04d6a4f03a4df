"""Zhang, Frei and Bartlett: Trained transformers learn linear models in-context (JMLR 2024)."""

from insitu.claims import Paper
from insitu.papers.zhang2024 import beyond, covariances, findings, flows, risks, shifts, trained
from insitu.papers.zhang2024.flows import BlockGradients, Flows

__all__ = ["PAPER", "BlockGradients", "Flows"]

PAPER = Paper(
    id="zhang2024",
    title="Trained transformers learn linear models in-context",
    authors="Ruiqi Zhang, Spencer Frei, Peter L. Bartlett",
    venue="JMLR 2024",
    claims=(
        *flows.CLAIMS,
        *risks.CLAIMS,
        *shifts.CLAIMS,
        *covariances.CLAIMS,
        *trained.CLAIMS,
        *findings.CLAIMS,
        *beyond.CLAIMS,
    ),
    headline="minimum-loss-in-closed-form",
)
