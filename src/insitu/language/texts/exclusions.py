"""Rows that are left out of a corpus, each with its reason, so that they can be counted and said."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

__all__ = [
    "CONTRADICTORY",
    "DUPLICATE",
    "EMPTY",
    "LONG",
    "SHARED",
    "UNLABELLED",
    "UNSPLIT",
    "Excluded",
    "exclusion_counts",
    "exclusions_in_words",
]

UNLABELLED = "without label"
EMPTY = "empty"
DUPLICATE = "duplicate"
CONTRADICTORY = "with two labels"
SHARED = "also in test"
LONG = "too long"
# The part of rows whose split is drawn.
UNSPLIT = "unsplit"


@final
@dataclass(frozen=True)
class Excluded:
    """A row that is left out, neither a demonstration nor tested.

    Args:
        part: The split that it stands in, *train* or *test*; :data:`UNSPLIT` where one is drawn.
        id: What the row is called.
        reason: Why: :data:`UNLABELLED`, :data:`EMPTY`, :data:`DUPLICATE` of an earlier row, :data:`CONTRADICTORY`
            copies of one text, :data:`SHARED` with test, or :data:`LONG` for the model's window.
    """

    part: str
    id: str
    reason: str


def exclusion_counts(excluded: Iterable[Excluded]) -> dict[str, dict[str, int]]:
    """How many rows of each split are left out for each reason.

    Example:
        >>> exclusion_counts([Excluded("train", "7", "duplicate"), Excluded("train", "9", "duplicate")])
        {'train': {'duplicate': 2}}
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in excluded:
        counts[row.part][row.reason] += 1
    return {part: dict(reasons) for part, reasons in counts.items()}


def exclusions_in_words(counts: Mapping[str, Mapping[str, int]]) -> str:
    """What :func:`exclusion_counts` gives, or a record holds, as a sentence bears it; empty where nothing is left out.

    Example:
        >>> exclusions_in_words({"train": {"duplicate": 1, "empty": 3}, "test": {"empty": 1}})
        '1 train row duplicate, 3 train rows empty, 1 test row empty'
    """
    return ", ".join(
        f"{count} {part} {'rows' if count > 1 else 'row'} {reason}"
        for part, reasons in counts.items()
        for reason, count in reasons.items()
    )
