"""All papers, and the claims that ids name."""

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from insitu.claims import Claim, Paper
from insitu.papers.names import require_known

__all__ = ["PAPERS", "claims", "select"]

# The papers that come first, in this order; all others follow by their names.
FIRST = ("ding2024", "zhang2024", "shen2024", "sander2024")


def found_papers() -> dict[str, Paper]:
    """Every module beside this one that has a ``PAPER``: a new paper is a new file or folder."""
    here = Path(__file__)
    names = [module.name for module in pkgutil.iter_modules([str(here.parent)]) if module.name != here.stem]
    modules = [importlib.import_module(f"insitu.papers.{name}") for name in names]
    papers = {module.PAPER.id: module.PAPER for module in modules if hasattr(module, "PAPER")}
    return {name: papers[name] for name in (*FIRST, *sorted(papers.keys() - set(FIRST)))}


PAPERS: dict[str, Paper] = found_papers()
"""The papers, and what the instrument of identification finds beyond them."""


def claims() -> dict[str, Claim]:
    """Every claim by its id, in the order of papers and of claims in them."""
    return {claim.id: claim for paper in PAPERS.values() for claim in paper.claims}


def select(ids: Sequence[str]) -> list[Claim]:
    """The claims that these ids name, papers or claims, each once; all where none is given.

    Raises:
        InputError: If an id names neither, with the nearest ones.

    Example:
        >>> [claim.id for claim in select(["sander2024"])][:1]
        ['sander2024.augmented-layer-is-one-step']
    """
    known = claims()
    require_known(ids, PAPERS, known)
    chosen: dict[str, Claim] = {}
    for name in ids or PAPERS:
        chosen |= {claim.id: claim for claim in PAPERS[name].claims} if name in PAPERS else {name: known[name]}
    return list(chosen.values())
