"""From rows of named values to labelled texts: which columns hold them, and which rows lack one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as brief
from typing import Any, final

from insitu.errors import InputError, near_matches
from insitu.language.texts.corpora import Labelled
from insitu.language.texts.exclusions import EMPTY, UNLABELLED, Excluded
from insitu.language.texts.tables import Table

__all__ = ["USUAL", "Columns", "TableSplit", "read_part"]

LABEL = "label"
SINGLE = ("text", "sentence", "content", "review")
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("question", "sentence"),
)


@final
@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what; those that are not given are found by their usual names.

    Args:
        text: The column of single texts.
        label: The column of labels.
        pair: The columns of a pair's two parts, such as premise and hypothesis.

    Raises:
        InputError: If both single texts and pairs are named, or a pair does not have two columns.
    """

    text: str = ""
    label: str = ""
    pair: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.text and self.pair:
            raise InputError(
                f"columns: texts are single (--text {self.text}) or pairs (--pair {' '.join(self.pair)}), not both."
            )
        if self.pair and len(set(self.pair)) != 2:
            raise InputError(f"columns: a pair has two columns, as in --pair premise hypothesis; got {self.pair}.")

    @property
    def texts(self) -> tuple[str, ...]:
        """The column of single texts, or the two of pairs."""
        return self.pair or (self.text,)

    def of(self, table: Table) -> "Columns":
        """The columns of a table, all by their names.

        Raises:
            InputError: If a column is not there, stands there twice, or is one half of a pair.
        """
        for name in table.columns:
            if name and table.columns.count(name) > 1:
                raise InputError(f"{table.name}: two columns are called {name!r}; rename or remove one.")
        label = self.label or usual(table, LABEL) or LABEL
        text, pair = (self.text, self.pair) if self.text or self.pair else usual_texts(table)
        for option, name in (("--label", label), *((("--pair" if pair else "--text"), n) for n in pair or (text,))):
            if name not in table.columns:
                raise InputError(missing(table, option, name))
        return Columns(text, label, pair)


USUAL = Columns()


def usual(table: Table, name: str) -> str:
    """The column of this name, whatever its capitals; empty if there is none."""
    return next((c for c in table.columns if c.casefold() == name), "")


def usual_texts(table: Table) -> tuple[str, tuple[str, ...]]:
    """The column of single texts, or those of a pair, that has one of the usual names."""
    pairs = [tuple(usual(table, name) for name in names) for names in PAIRS]
    if any(pairs[0]) and not all(pairs[0]):
        raise InputError(
            f"{table.name} has the columns {', '.join(table.columns)}: one of premise and hypothesis is missing. Name "
            "the columns with --pair, or that of single texts with --text."
        )
    pair = next((names for names in pairs if all(names)), ())
    single = next((found for found in (usual(table, name) for name in SINGLE) if found), SINGLE[0])
    return ("", pair) if pair else (single, ())


def missing(table: Table, option: str, name: str) -> str:
    return (
        f"{table.name} has the columns {', '.join(table.columns)}; the column {name!r} is missing "
        f"({near_matches(name, table.columns)}) Name the column of labels with --label, and that of texts with --text "
        "or two of pairs with --pair."
    )


@final
@dataclass(frozen=True)
class TableSplit:
    """The rows of a split.

    Args:
        name: What the split is called.
        rows: The rows that have a text and a label.
        excluded: Those that lack one.
    """

    name: str
    rows: tuple[Labelled, ...]
    excluded: tuple[Excluded, ...] = ()


def read_part(table: Table, columns: Columns, name: str) -> TableSplit:
    """The rows of a table as labelled texts.

    Args:
        table: The rows.
        columns: Which columns hold what, all by their names.
        name: The split that the rows belong to.

    Raises:
        InputError: If a value is of the wrong kind, or two rows have one id; the message names file and line.
    """
    kept, excluded = [], []
    places: dict[str, str] = {}
    for i, values in enumerate(table.rows):
        place = table.place(i)
        row = read_row(place, values, columns, table, i)
        if row.id in places:
            raise InputError(f"{places[row.id]} and {place}: two rows have the id {row.id!r}; ids must differ.")
        places[row.id] = place
        texts = (row.text, row.hypothesis) if columns.pair else (row.text,)
        if row.label and all(text.strip() for text in texts):
            kept.append(row)
        else:
            excluded.append(Excluded(name, row.id, EMPTY if row.label else UNLABELLED))
    return TableSplit(name, tuple(kept), tuple(excluded))


def read_row(place: str, values: Mapping[str, Any], columns: Columns, table: Table, number: int) -> Labelled:
    """A row, with nothing for what it lacks; its number, counted from 0, where it has no id."""
    text, *hypothesis = (text_of(place, name, value_of(place, values, name)) for name in columns.texts)
    label = label_of(place, columns.label, value_of(place, values, columns.label), table.classes)
    return Labelled(text, label, "".join(hypothesis), id_of(place, values.get(table.id)) or str(number))


def value_of(place: str, values: Mapping[str, Any], name: str) -> Any:
    if name not in values:
        raise InputError(
            f"{place}: the key {name!r} must be there, as it is in other rows; the row has "
            f"{', '.join(values) or 'none'}. All rows are of one form; null stands where a value is not known."
        )
    return values[name]


def text_of(place: str, name: str, value: Any) -> str:
    """A text as it stands; nothing where there is none."""
    if value is None or is_nan(value):
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {name!r} must be there and hold a string; got {brief(value)}.")
    return encodable(place, name, value)


def label_of(place: str, name: str, value: Any, classes: Mapping[str, Sequence[str]]) -> str:
    """A label's name, blanks at its ends left out and those inside made one; nothing where there is none."""
    if value is None or is_nan(value):
        return ""
    if isinstance(value, str):
        return " ".join(encodable(place, name, value).split())
    number = whole(value)
    names = classes.get(name, ())
    if number is None or (names and not -1 <= number < len(names)):
        wanted = f"a whole number below {len(names)} or -1" if names else "a string or a whole number"
        raise InputError(f"{place}: the label in {name!r} must be {wanted}; got {brief(value)}.")
    if not names:
        return str(value).lower() if isinstance(value, bool) else str(number)
    return "" if number == -1 else " ".join(names[number].split())


def id_of(place: str, value: Any) -> str:
    """A row's own name; nothing where it has none."""
    if value is None or is_nan(value):
        return ""
    if isinstance(value, str):
        return encodable(place, "id", value).strip()
    number = whole(value)
    if number is None:
        raise InputError(f"{place}: an id must be a string or a whole number; got {brief(value)}.")
    return str(number)


def whole(value: Any) -> int | None:
    """A whole number, also where it is stored with a point, as columns with nulls are; none if it is none."""
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return None


def is_nan(value: Any) -> bool:
    """Whether a value is the number that stands for none in columns of numbers."""
    return isinstance(value, float) and math.isnan(value)


def encodable(place: str, name: str, text: str) -> str:
    """The text, refused where it holds half of a character, which no tokeniser takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place}: {name!r} holds {text[error.start]!a}, one half of a character that was cut (a lone surrogate), "
            f"at place {error.start}. Remove it, or write U+FFFD in its stead."
        ) from None
    return text
