"""The papers and their claims: one file or folder for each paper, and a line in :mod:`insitu.papers.registry`."""

from typing import TYPE_CHECKING

from insitu.lazy import lazily

if TYPE_CHECKING:
    from insitu.papers.registry import PAPERS, claims, select

__all__ = ["PAPERS", "claims", "select"]

# A paper imports what it measures with, which listing the claims does not need.
__getattr__, __dir__ = lazily(__name__, dict.fromkeys(__all__, "insitu.papers.registry"))
