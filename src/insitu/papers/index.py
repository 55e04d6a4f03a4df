"""The list of claims as plain data, which is read without importing what measures them."""

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["INDEX", "claim_rows", "digest_of_papers", "live_rows", "matching"]

PAPERS = Path(__file__).parent
INDEX = PAPERS / "index.json"


def claim_rows() -> list[dict[str, Any]]:
    """Every claim with its paper, statement, place in the paper, rule and cost.

    They come from the stored list where it belongs to this very code, which takes a few milliseconds, and from the
    papers themselves otherwise.
    """
    try:
        stored = json.loads(INDEX.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return live_rows()
    return stored["claims"] if stored["digest"] == digest_of_papers() else live_rows()


def live_rows() -> list[dict[str, Any]]:
    """The same from the papers themselves."""
    from insitu.papers.registry import claims

    return [
        {
            "claim": claim.id,
            "paper": claim.paper,
            "statement": claim.statement,
            "source": claim.source,
            "rule": "; ".join(map(str, claim.rules)),
            "quick_seconds": claim.quick_seconds,
            "full_hours": claim.full_hours,
        }
        for claim in claims().values()
    ]


@functools.cache
def digest_of_papers() -> str:
    """A digest of the code of all papers."""
    digest = hashlib.sha256()
    for path in sorted(PAPERS.rglob("*.py")):
        digest.update(path.relative_to(PAPERS).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def matching(rows: Sequence[dict[str, Any]], words: Sequence[str]) -> list[dict[str, Any]]:
    """The claims that one of the words names, by id or paper, or that contain all the other words.

    Example:
        >>> rows = [{"claim": "a.b", "paper": "a", "statement": "Noise hurts", "source": "Figure 2", "rule": ""}]
        >>> [len(matching(rows, words)) for words in (["a"], ["noise"], ["figure 2", "noise"], ["figure 3"])]
        [1, 1, 1, 0]
    """
    ids = {name for row in rows for name in (row["claim"], row["paper"])}
    named = [word for word in words if word in ids]
    searched = [word.lower() for word in words if word not in ids]
    return [
        row
        for row in rows
        if (not named or row["claim"] in named or row["paper"] in named)
        and all(word in " ".join(map(str, row.values())).lower() for word in searched)
    ]
