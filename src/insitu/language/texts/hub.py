"""Labelled texts from the Hugging Face hub, through the package ``datasets``."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.errors import InputError, require_package
from insitu.language.texts.columns import USUAL, Columns
from insitu.language.texts.corpora import Corpus
from insitu.language.texts.splits import FIRST, TESTED, TRAIN, corpus_of_tables
from insitu.language.texts.tables import Table, first_line
from insitu.seed import Seed

__all__ = ["corpus_of_splits", "load_hub_corpus"]


def load_hub_corpus(name: str, columns: Columns = USUAL, seed: Seed = FIRST) -> Corpus:
    """A data set of the hub; ``owner/name`` or ``owner/name/configuration``, or a folder that ``datasets`` reads.

    Raises:
        InputError: If the package ``datasets`` is missing, the data set cannot be reached, or its columns are not
            those of labelled texts.
    """
    rest = f", or save {name!r} as a folder with train.jsonl and test.jsonl"
    require_package("reading a data set of the hub", "datasets", "datasets", rest)
    import datasets

    parts = name.split("/")
    configured = len(parts) == 3 and not Path(name).exists()
    path, configuration = ("/".join(parts[:2]), parts[2]) if configured else (name, None)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        splits = datasets.load_dataset(path, configuration)
    except Exception as error:  # Loading scripts and networks raise almost anything.
        raise InputError(
            f"the data set {name!r} could not be loaded ({type(error).__name__}: {first_line(error)}). "
            "Without a network, save it as a folder with train.jsonl and test.jsonl and name the folder."
        ) from None
    return corpus_of_splits(name, splits, columns, seed)


def corpus_of_splits(name: str, splits: Mapping[str, Any], columns: Columns = USUAL, seed: Seed = FIRST) -> Corpus:
    """A corpus from the splits of a data set, as :func:`~insitu.language.texts.splits.corpus_of_tables` makes it.

    Raises:
        InputError: If there is no such split or column, or rows cannot be used.
    """
    used = {split: rows for split, rows in splits.items() if split in (TRAIN, *TESTED)}
    tables = {split: table_of(name, split, rows) for split, rows in (used or splits).items()}
    return corpus_of_tables(name, tables, columns, seed)


def table_of(name: str, split: str, rows: Any) -> Table:
    """A split with the names of its classes; its rows are named by their numbers, counted from 0."""
    columns = tuple(rows.column_names)
    names = {column: getattr(rows.features.get(column), "names", None) for column in columns}
    classes = {column: tuple(own) for column, own in names.items() if own}
    values = tuple(rows)
    return Table(
        f"the data set {name!r}, split {split}", columns, values, tuple(range(len(values))), "row", classes, ""
    )
