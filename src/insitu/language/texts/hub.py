"""Labelled texts from the Hugging Face hub, through the package ``datasets``."""

from typing import Any

from insitu.errors import InputError
from insitu.language.texts.corpora import Corpus, Labelled

__all__ = ["corpus_of_splits", "load_hub_corpus"]

SINGLE = ("text", "sentence", "content", "review")
PAIRS = (("premise", "hypothesis"), ("sentence1", "sentence2"))


def load_hub_corpus(name: str) -> Corpus:
    """A data set of the hub; ``owner/name`` or ``owner/name/configuration``.

    Raises:
        InputError: If the package ``datasets`` is missing, the data set cannot be reached, or its columns are not
            those of labelled texts.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"data sets of the hub are read by the package datasets: pip install 'insitu[datasets]', or save {name!r} "
            "as a folder with train.jsonl and test.jsonl."
        ) from None
    parts = name.split("/")
    path, configuration = ("/".join(parts[:2]), parts[2]) if len(parts) == 3 else (name, None)
    try:
        splits = datasets.load_dataset(path, configuration)
    except Exception as error:
        raise InputError(
            f"the data set {name!r} could not be loaded ({type(error).__name__}: {str(error).splitlines()[0]}). "
            "Without a network, save it as a folder with train.jsonl and test.jsonl and name the folder."
        ) from None
    return corpus_of_splits(name, splits)


def corpus_of_splits(name: str, splits: Any) -> Corpus:
    """A corpus from the splits of a data set; ``test``, or ``validation`` where the test labels are hidden.

    Raises:
        InputError: If there is no such split or column.
    """
    if "train" not in splits:
        raise InputError(f"the data set {name!r} has no split train; it has {', '.join(splits)}.")
    asked = next((s for s in ("test", "validation") if s in splits and min_label(splits[s]) not in (-1, None)), None)
    if asked is None:
        raise InputError(f"the data set {name!r} has no split test or validation with labels.")
    return Corpus(name, rows_of(name, splits["train"]), rows_of(name, splits[asked]))


def min_label(split: Any) -> Any:
    return min(split["label"], default=None) if "label" in split.column_names else None


def rows_of(name: str, split: Any) -> tuple[Labelled, ...]:
    columns = split.column_names
    pair = next((p for p in PAIRS if set(p) <= set(columns)), None)
    single = next((c for c in SINGLE if c in columns), None)
    if "label" not in columns or (pair is None and single is None):
        raise InputError(
            f"the data set {name!r} has the columns {', '.join(columns)}; expected label, and text (or one of "
            f"{', '.join(SINGLE[1:])}) or premise and hypothesis."
        )
    names = getattr(split.features["label"], "names", None)
    first, second = pair or (single, None)
    return tuple(
        Labelled(row[first], names[row["label"]] if names else str(row["label"]), row[second] if second else "", str(i))
        for i, row in enumerate(split)
    )
