"""Rows that must not be used: counted and said, never silently kept."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from insitu.errors import InputError
from insitu.language.texts.corpora import Corpus, Labelled
from insitu.language.texts.exclusions import (
    CONTRADICTORY,
    DUPLICATE,
    EMPTY,
    SHARED,
    Excluded,
    exclusion_counts,
    exclusions_in_words,
)

__all__ = ["content", "screened", "without"]


def screened(corpus: Corpus) -> Corpus:
    """The corpus without rows that say nothing, count twice, contradict each other, or answer a question of test.

    Texts are the same if they differ in white space at most. Of the rows of a split with the same text and label the
    first one stays; rows with the same text and two labels all go. A train row whose text is in test goes,
    so that no question stands among its own demonstrations.

    Raises:
        InputError: If a split or a label is left without rows.

    Example:
        >>> from insitu.language.texts.exclusions import exclusion_counts
        >>> rows = [Labelled("a", "x"), Labelled("b", "y"), Labelled("c", "x")]
        >>> kept = screened(Corpus("letters", (*rows, Labelled("d", "y")), (Labelled("d ", "y"),)))
        >>> [row.text for row in kept.train], exclusion_counts(kept.excluded)
        (['a', 'b', 'c'], {'train': {'also in test': 1}})
    """
    test = faults(corpus.test)
    tested = {content(row) for i, row in enumerate(corpus.test) if i not in test}
    shared = {i: SHARED for i, row in enumerate(corpus.train) if content(row) in tested}
    return without(corpus, faults(corpus.train) | shared, test)


def without(corpus: Corpus, train: Mapping[int, str], test: Mapping[int, str]) -> Corpus:
    """The corpus without the rows at some places, which it keeps as excluded.

    Args:
        corpus: All rows.
        train: The places of train rows that go, and why.
        test: Those of test rows.

    Raises:
        InputError: If a split or a label is left without rows.
    """
    gone = [Excluded("train", corpus.train[i].id, reason) for i, reason in sorted(train.items())]
    gone += [Excluded("test", corpus.test[i].id, reason) for i, reason in sorted(test.items())]
    excluded = (*corpus.excluded, *gone)
    kept = tuple(row for i, row in enumerate(corpus.train) if i not in train)
    tested = tuple(row for i, row in enumerate(corpus.test) if i not in test)
    require_rows(corpus, kept, tested, excluded)
    return replace(corpus, train=kept, test=tested, excluded=excluded)


def require_rows(
    corpus: Corpus, train: Sequence[Labelled], test: Sequence[Labelled], excluded: Sequence[Excluded]
) -> None:
    lost = sorted(set(corpus.labels) - {row.label for row in train})
    if test and not lost:
        return
    words = exclusions_in_words(exclusion_counts(excluded))
    rows = "test row" if not test else f"train row with the label {lost[0]!r}" if train else "train row"
    raise InputError(
        f"corpus {corpus.name!r}: no {rows} is left. Left out: {words}. Bring rows that are "
        "complete, differ from each other, and stand in one split only."
    )


def content(row: Labelled) -> tuple[str, ...]:
    """What a row says, whatever its white space."""
    return tuple(" ".join(text.split()) for text in (row.text, row.hypothesis))


def faults(rows: Sequence[Labelled]) -> dict[int, str]:
    """The places of the rows that have no text, repeat that of an earlier one, or have it with another label."""
    labels: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        labels[content(row)].add(row.label)
    reasons, seen = {}, set()
    for i, row in enumerate(rows):
        if not any(content(row)):
            reasons[i] = EMPTY
        elif len(labels[content(row)]) > 1:
            reasons[i] = CONTRADICTORY
        elif content(row) in seen:
            reasons[i] = DUPLICATE
        seen.add(content(row))
    return reasons
