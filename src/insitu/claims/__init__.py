"""Claims: measured, judged by a rule written before the run, and recorded."""

from insitu.claims.claim import Check, Claim, Measurement, Paper, Rule, Run, Scale, Study, Verdict
from insitu.figure import Figure, Heatmap, Line, Panel, heatmap, line

__all__ = [
    "Check",
    "Claim",
    "Figure",
    "Heatmap",
    "Line",
    "Measurement",
    "Panel",
    "Paper",
    "Rule",
    "Run",
    "Scale",
    "Study",
    "Verdict",
    "heatmap",
    "line",
]
