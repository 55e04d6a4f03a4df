"""From tables to a corpus: which rows demonstrate and which are tested, by splits that there are or by a draw."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from insitu.errors import InputError
from insitu.language.texts.columns import Columns, TableSplit, read_part
from insitu.language.texts.corpora import Corpus, Labelled, Source
from insitu.language.texts.exclusions import UNLABELLED, UNSPLIT, Excluded
from insitu.language.texts.screening import content
from insitu.language.texts.tables import Table
from insitu.seed import Seed

__all__ = ["FIRST", "TESTED", "TRAIN", "corpus_of_tables", "drawn_split"]

TRAIN = "train"
# The splits to test on, in the order in which they are taken.
TESTED = ("test", "validation", "valid", "val", "dev")
NO_LABEL = "-1"
# Of how many rows of a label a drawn split asks about one.
SHARE = 3
FIRST = Seed(0)


def corpus_of_tables(name: str, tables: Mapping[str, Table], columns: Columns, seed: Seed) -> Corpus:
    """A corpus from tables by their splits; a table of *train* alone is split by a draw.

    Of *test*, *validation* and the like the first one with labels is tested.

    Args:
        name: What the corpus is called.
        tables: The rows of each split.
        columns: Which columns hold texts and labels.
        seed: Where a split is drawn.

    Raises:
        InputError: If no row is left to train on or to test, or the rows cannot be used.
    """
    if TRAIN not in tables:
        raise InputError(f"the data set {name!r} has no split train; it has {', '.join(tables)}.")
    tested = [split for split in TESTED if split in tables]
    for split in (TRAIN, *tested):
        if not tables[split].rows:
            raise InputError(f"{tables[split].name}: there is no {split} row.")
    found = columns.of(tables[TRAIN])
    if tested:
        own = read_part(tables[TRAIN], found, TRAIN)
        split, other = first_labelled(name, {s: read_part(tables[s], columns.of(tables[s]), "test") for s in tested})
        own, other = with_labels(name, own, other)
        train, test, excluded = own.rows, other.rows, (*own.excluded, *other.excluded)
        words = f"{TRAIN} and {split}, as the data has them"
    else:
        (whole,) = with_labels(name, read_part(tables[TRAIN], found, UNSPLIT))
        train, test = drawn_split(whole.rows, seed / "split")
        excluded = whole.excluded
        words = f"drawn with seed {seed}: {len(train)} train rows and {len(test)} test rows"
    require_one_spelling(name, [*train, *test])
    return Corpus(name, train, test, excluded=excluded, source=Source(found.texts, found.label, words))


def first_labelled(name: str, parts: Mapping[str, TableSplit]) -> tuple[str, TableSplit]:
    """The first split whose labels are not hidden."""
    for split, part in parts.items():
        if {row.label for row in part.rows} - {NO_LABEL}:
            return split, part
    raise InputError(
        f"the data set {name!r} has no split test or validation with labels: in {' and '.join(parts)} every row is "
        "without a label or empty. Bring labels, or name the file of train rows alone to have a split drawn."
    )


def with_labels(name: str, *parts: TableSplit) -> list[TableSplit]:
    """The parts without rows labelled -1, where that stands for no label: beside classes that are counted from 0."""
    labels = {row.label for part in parts for row in part.rows}
    if not {NO_LABEL, "0"} <= labels:
        return list(parts)
    if labels == {NO_LABEL, "0", "1"}:
        raise InputError(
            f"corpus {name!r}: the labels are -1, 0 and 1, where -1 may stand for a third class or for no label. Write "
            "the classes as names, or leave the label empty (null) where there is none."
        )
    return [unnumbered(part) for part in parts]


def unnumbered(part: TableSplit) -> TableSplit:
    kept = tuple(row for row in part.rows if row.label != NO_LABEL)
    gone = tuple(Excluded(part.name, row.id, UNLABELLED) for row in part.rows if row.label == NO_LABEL)
    return TableSplit(part.name, kept, (*part.excluded, *gone))


def drawn_split(rows: Sequence[Labelled], seed: Seed) -> tuple[tuple[Labelled, ...], tuple[Labelled, ...]]:
    """Draw the rows to test on: of every label a third, at least one of two; copies of a text stay together.

    Args:
        rows: All rows.
        seed: Where the split is drawn.

    Example:
        >>> rows = [Labelled(f"text {i}", "ab"[i % 2]) for i in range(12)]
        >>> train, test = drawn_split(rows, Seed(0))
        >>> sorted(row.label for row in test), len(train)
        (['a', 'a', 'b', 'b'], 8)
    """
    texts: dict[str, dict[tuple[str, ...], None]] = defaultdict(dict)
    labels: dict[tuple[str, ...], str] = {}
    for row in rows:
        texts[labels.setdefault(content(row), row.label)][content(row)] = None
    tested = set()
    for label, own in texts.items():
        contents = list(own)
        count = max(len(own) // SHARE, int(len(own) > 1))
        tested |= {contents[i] for i in (seed / label).permutation(len(own))[:count].tolist()}
    train = tuple(row for row in rows if content(row) not in tested)
    return train, tuple(row for row in rows if content(row) in tested)


def require_one_spelling(name: str, rows: Sequence[Labelled]) -> None:
    spellings: dict[str, str] = {}
    for row in rows:
        other = spellings.setdefault(row.label.casefold(), row.label)
        if other != row.label:
            raise InputError(
                f"corpus {name!r}: the labels {other!r} and {row.label!r} differ in capitals only (row {row.id!r}). "
                "Write one label in one way, and two so that they can be told apart."
            )
