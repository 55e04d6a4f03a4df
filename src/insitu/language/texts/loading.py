"""Where labelled texts come from: bundled ones, folders of the user's own, and data sets of the hub."""

import json
from pathlib import Path

from insitu.errors import InputError, near_matches
from insitu.language.texts.corpora import Corpus, Labelled
from insitu.language.texts.hub import load_hub_corpus

__all__ = ["BUNDLED_CORPORA", "load_corpus"]

DATA = Path(__file__).parent / "data"
BUNDLED_CORPORA = ("mr", "subj")


def load_corpus(name: str | Path) -> Corpus:
    """A bundled corpus by its name, one from a folder, or one from the hub.

    A folder holds ``train.jsonl`` and ``test.jsonl``, one object a line: ``text`` (or ``premise`` and ``hypothesis``)
    and ``label``, strings all; ``id`` if it has one; other keys are left alone. A data set of the hub is named
    ``hub:NAME`` or ``hub:NAME/CONFIGURATION``; the package ``datasets`` fetches it where it is not on this machine yet.

    Raises:
        InputError: If there is none, or the files cannot be used; the message names file and line.
    """
    if str(name).startswith("hub:"):
        return load_hub_corpus(str(name).removeprefix("hub:"))
    folder = DATA / name if name in BUNDLED_CORPORA else Path(name)
    if not folder.is_dir():
        raise InputError(
            f"no corpus is called {str(name)!r} and no folder has that path; "
            f"{near_matches(str(name), BUNDLED_CORPORA)} A folder needs train.jsonl and test.jsonl with one "
            "{'text': ..., 'label': ...} a line; a data set of the hub is named hub:NAME."
        )
    return Corpus(folder.resolve().name, read_rows(folder / "train.jsonl"), read_rows(folder / "test.jsonl"))


def read_rows(path: Path) -> tuple[Labelled, ...]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. A corpus needs train.jsonl and test.jsonl.") from None
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        place = f"byte {error.start}, in line {content[: error.start].count(10) + 1},"
        raise InputError(f"{path} is not UTF-8 text: {place} cannot be decoded. Save it as UTF-8.") from None
    told = [(i, line) for i, line in enumerate(lines, start=1) if line.strip()]
    rows = tuple(read_row(f"{path}, line {i}", line, str(row)) for row, (i, line) in enumerate(told))
    names = [row.id for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: two rows have the id {twice!r}; ids must differ.")
    return rows


def read_row(place: str, line: str, number: str) -> Labelled:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: this is not JSON ({error.msg} at column {error.colno}).") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected an object with 'text' and 'label'; got {row!r}.")
    pair = "premise" in row or "hypothesis" in row
    for key in ("premise", "hypothesis", "label") if pair else ("text", "label"):
        if not isinstance(row.get(key), str):
            raise InputError(f"{place}: the key {key!r} must be there and hold a string; got {row.get(key)!r}.")
    text, hypothesis = (row["premise"], row["hypothesis"]) if pair else (row["text"], "")
    return Labelled(text, row["label"], hypothesis, str(row.get("id", number)))
