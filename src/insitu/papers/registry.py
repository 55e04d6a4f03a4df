"""All papers, and the claims that ids name."""

from collections.abc import Sequence

from insitu.claims import Claim, Paper
from insitu.errors import InputError, near_matches
from insitu.papers import dherin2025, ding2024, ours, sander2024, shen2024, zhang2024

__all__ = ["PAPERS", "claims", "select"]

PAPERS: dict[str, Paper] = {
    module.PAPER.id: module.PAPER for module in (ding2024, zhang2024, shen2024, sander2024, dherin2025, ours)
}
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
    chosen: dict[str, Claim] = {}
    for name in ids or PAPERS:
        if name in PAPERS:
            chosen |= {claim.id: claim for claim in PAPERS[name].claims}
        elif name in known:
            chosen[name] = known[name]
        else:
            raise InputError(f"no paper or claim is called {name!r}; {near_matches(name, [*PAPERS, *known])}")
    return list(chosen.values())
