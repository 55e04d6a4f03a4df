"""Ding, Levinboim, Wu, Goodman and Soricut: CausalLM is not optimal for in-context learning (ICLR 2024)."""

from insitu.claims import Paper
from insitu.papers.ding2024 import depth, fixed_points, identities, language, orderings, pretraining

__all__ = ["PAPER"]

PAPER = Paper(
    id="ding2024",
    title="CausalLM is not optimal for in-context learning",
    authors="Nan Ding, Tomer Levinboim, Jialin Wu, Sebastian Goodman, Radu Soricut",
    venue="ICLR 2024",
    claims=(
        *identities.CLAIMS,
        *depth.CLAIMS,
        *fixed_points.CLAIMS,
        depth.LAST,
        *orderings.CLAIMS,
        depth.SHORT_PROMPTS,
        *language.CLAIMS,
        *pretraining.CLAIMS,
    ),
    headline="causal-query-error-stalls",
)
