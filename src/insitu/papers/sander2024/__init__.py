"""Sander, Giryes, Suzuki, Blondel and Peyré: How do transformers perform in-context autoregressive learning?"""

from insitu.claims import Paper
from insitu.papers.sander2024 import construction, heads, lag, planes, positions, steps, text, trained
from insitu.papers.sander2024.construction import Sequences

__all__ = ["PAPER", "Sequences"]

PAPER = Paper(
    id="sander2024",
    title="How do transformers perform in-context autoregressive learning?",
    authors="Michael E. Sander, Raja Giryes, Taiji Suzuki, Mathieu Blondel, Gabriel Peyré",
    venue="ICML 2024",
    claims=(
        *construction.CLAIMS,
        *steps.CLAIMS,
        *heads.CLAIMS,
        *lag.CLAIMS,
        *planes.CLAIMS,
        *positions.CLAIMS,
        *trained.CLAIMS,
        *text.CLAIMS,
    ),
    headline="constant-step-leaves-a-quarter",
)
