"""Where labelled texts come from: bundled ones, files and folders of the user's own, and data sets of the hub."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from insitu.errors import InputError, near_matches
from insitu.language.texts.columns import USUAL, Columns
from insitu.language.texts.corpora import Corpus
from insitu.language.texts.hub import load_hub_corpus
from insitu.language.texts.splits import FIRST, TESTED, TRAIN, corpus_of_tables
from insitu.language.texts.tables import SUFFIXES, Table, read_table
from insitu.seed import Seed

__all__ = ["BUNDLED_CORPORA", "load_corpus"]

DATA = Path(__file__).parent / "data"
BUNDLED_CORPORA = ("mr", "subj")
SPLIT = "split"


def load_corpus(name: str | Path, columns: Columns = USUAL, seed: Seed = FIRST) -> Corpus:
    """A bundled corpus by its name, one from a file or a folder, or one from the hub.

    A file is CSV, TSV, JSON (a list of objects), JSON Lines or Parquet, with a column of labels, names or whole
    numbers, and one of texts, or two of pairs; a column ``id`` names its rows. The rows are split by a column
    ``split``, or else by a draw. A folder holds a file ``train`` and a file ``test`` (or ``validation``) of these
    kinds. A data set of the hub is named ``hub:NAME`` or ``hub:NAME/CONFIGURATION``; the package ``datasets`` fetches
    it where it is not on this machine yet. Rows without label or text are left out, and stand among ``excluded``.

    Args:
        name: What to load.
        columns: Which columns hold texts and labels; by their usual names if not given.
        seed: Where a split is drawn, for rows that have none.

    Raises:
        InputError: If there is none, or the files cannot be used; the message names file and line.
    """
    if str(name).startswith("hub:"):
        return load_hub_corpus(str(name).removeprefix("hub:"), columns, seed)
    path = DATA / name if name in BUNDLED_CORPORA else Path(name)
    # Unlike the methods of Path, these take a name that is too long for a path as that of nothing.
    if os.path.isdir(path):
        return corpus_of_tables(path.resolve().name, folder_tables(path), columns, seed)
    if os.path.isfile(path):
        return corpus_of_tables(path.stem, tables_by_column(read_table(path)), columns, seed)
    raise InputError(
        f"no corpus is called {str(name)!r} and no file or folder has that path; "
        f"{near_matches(str(name), BUNDLED_CORPORA)} A file ends in {', '.join(SUFFIXES)}; a folder holds train.jsonl "
        "and test.jsonl, or files of the other kinds, with a text and a label in every row; a data set of the hub is "
        "named hub:NAME."
    )


def folder_tables(folder: Path) -> dict[str, Table]:
    """The tables of a folder, by their splits."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}.") from None
    files = {split: split_file(folder, inside, split) for split in (TRAIN, *TESTED)}
    there = {split: path for split, path in files.items() if path is not None}
    if TRAIN not in there or len(there) < 2:
        lacking = folder / f"{'test' if TRAIN in there else TRAIN}.jsonl"
        raise InputError(
            f"cannot read {lacking}: No such file, nor one that ends in {', '.join(SUFFIXES[1:])}. A folder needs a "
            "file train and a file test; name a single file instead to have its rows split by a draw."
        )
    return {split: read_table(path) for split, path in there.items()}


def split_file(folder: Path, inside: Sequence[Path], split: str) -> Path | None:
    """The file that is called like a split; the only part of one counts as the whole."""
    named = re.compile(rf"{split}(-00000-of-00001)?")
    files = [path for path in inside if path.suffix.lower() in SUFFIXES and named.fullmatch(path.stem)]
    if len(files) > 1:
        raise InputError(f"{folder} holds {' and '.join(p.name for p in files)}; keep one file for the split {split}.")
    return files[0] if files else None


def tables_by_column(table: Table) -> dict[str, Table]:
    """The splits that a column of this name tells apart; without one, all rows as *train*."""
    if SPLIT not in table.columns:
        return {TRAIN: table}
    places: dict[str, list[int]] = {}
    for i, values in enumerate(table.rows):
        places.setdefault(str(values.get(SPLIT)).strip().lower(), []).append(i)
    if TRAIN not in places or not set(TESTED) & set(places):
        raise InputError(
            f"{table.name}: the column {SPLIT!r} holds {', '.join(map(repr, list(places)[:5]))}; expected {TRAIN} and "
            "test (or validation). Rename the column to have the rows split by a draw."
        )
    return {split: table.part(rows) for split, rows in places.items()}
