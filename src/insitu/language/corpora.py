"""Labelled texts: bundled ones, and folders of the user's own."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from insitu.errors import InputError, near_matches, require_count
from insitu.seed import Seed

__all__ = ["BUNDLED_CORPORA", "Corpus", "Labelled", "draw_orders", "load_corpus"]

DATA = Path(__file__).parent / "data"
BUNDLED_CORPORA = ("subj",)


@final
@dataclass(frozen=True)
class Labelled:
    """A text and its label."""

    text: str
    label: str


@final
@dataclass(frozen=True)
class Corpus:
    """Labelled texts, to demonstrate with and to ask about.

    Args:
        name: What it is called.
        train: The rows that demonstrations are drawn from.
        test: The rows to ask about; disjoint from ``train`` in a well-made corpus.
        labels: The labels of ``train``, sorted.

    Raises:
        InputError: If there is no row to train or to test on, if ``train`` holds one label only, or if a label
            of ``test`` does not occur in ``train``.
    """

    name: str
    train: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part, rows in (("train", self.train), ("test", self.test)):
            if not rows:
                raise InputError(f"corpus {self.name!r}: there is no {part} row.")
        found = tuple(sorted({row.label for row in self.train}))
        if len(found) < 2:
            raise InputError(
                f"corpus {self.name!r}: every train row has the label {found[0]!r}; a comparison needs at least two "
                "labels."
            )
        strange = {row.label for row in self.test} - set(found)
        if strange:
            raise InputError(
                f"corpus {self.name!r}: test rows have the label {min(strange)!r}, which no train row has; the labels "
                f"are {', '.join(found)}."
            )
        object.__setattr__(self, "labels", found)

    def where(self, keep: Callable[[str], bool]) -> "Corpus":
        """The rows whose text passes a test, such as being short enough for a context window."""
        train, test = (tuple(row for row in rows if keep(row.text)) for rows in (self.train, self.test))
        return Corpus(self.name, train, test)

    def demonstrate(self, seed: Seed, count: int) -> tuple[Labelled, ...]:
        """Draw demonstrations, balanced over the labels: their counts differ by one at most.

        Raises:
            InputError: If ``count`` is below 1, or a label has too few rows.
        """
        require_count("demonstrations", "count", count, least=1)
        chosen = []
        # Which labels get one more when the count does not divide evenly, is drawn as well.
        for rank, i in enumerate((seed / "labels").permutation(len(self.labels)).tolist()):
            label = self.labels[i]
            rows = [row for row in self.train if row.label == label]
            share = (count - rank + len(self.labels) - 1) // len(self.labels)
            if share > len(rows):
                raise InputError(
                    f"corpus {self.name!r}: {count} balanced demonstrations need {share} rows labelled {label!r}; "
                    f"there are {len(rows)}."
                )
            chosen += [rows[j] for j in (seed / "rows" / label).permutation(len(rows))[:share].tolist()]
        return tuple(chosen[i] for i in (seed / "places").permutation(count).tolist())

    def pick(self, ids: Sequence[int]) -> tuple[Labelled, ...]:
        """The train rows with these numbers, counted from 0, in the order given.

        Raises:
            InputError: If there is no such row.
        """
        for i in ids:
            if not 0 <= i < len(self.train):
                raise InputError(
                    f"corpus {self.name!r}: there is no train row {i}; rows are 0 to {len(self.train) - 1}."
                )
        return tuple(self.train[i] for i in ids)

    def questions(self, seed: Seed, count: int) -> tuple[Labelled, ...]:
        """Draw test rows, none twice.

        Raises:
            InputError: If there are fewer than ``count`` of them.
        """
        if not 1 <= count <= len(self.test):
            raise InputError(f"corpus {self.name!r}: {count} test rows were asked for; there are {len(self.test)}.")
        return tuple(self.test[i] for i in seed.permutation(len(self.test))[:count].tolist())


def draw_orders(seed: Seed, shots: int, count: int) -> Int[Tensor, "order shot"]:
    """Draw orders of ``shots`` demonstrations, all different as long as there are so many.

    Raises:
        InputError: If ``shots`` or ``count`` is below 1.

    Example:
        >>> draw_orders(Seed(0), shots=2, count=2).sort(0).values.tolist()
        [[0, 0], [1, 1]]
        >>> draw_orders(Seed(0), shots=1, count=2).tolist()
        [[0], [0]]
    """
    require_count("orders", "shots", shots, least=1)
    require_count("orders", "count", count, least=1)
    orders: list[Tensor] = []
    seen: set[tuple[int, ...]] = set()
    draw = 0
    while len(orders) < count:
        if len(seen) == math.factorial(shots):
            seen.clear()
        order = (seed / draw).permutation(shots)
        draw += 1
        if tuple(order.tolist()) not in seen:
            seen.add(tuple(order.tolist()))
            orders.append(order)
    return torch.stack(orders)


def load_corpus(name: str | Path) -> Corpus:
    """A bundled corpus by its name, or one from a folder with ``train.jsonl`` and ``test.jsonl``.

    Each line of these files is a JSON object with the keys ``text`` and ``label``, both strings.

    Raises:
        InputError: If there is neither, or the files cannot be used; the message names file and line.
    """
    folder = DATA / name if name in BUNDLED_CORPORA else Path(name)
    if not folder.is_dir():
        raise InputError(
            f"no corpus is called {str(name)!r} and no folder has that path; "
            f"{near_matches(str(name), BUNDLED_CORPORA)} A folder needs train.jsonl and test.jsonl with one "
            "{'text': ..., 'label': ...} a line."
        )
    return Corpus(folder.name, read_rows(folder / "train.jsonl"), read_rows(folder / "test.jsonl"))


def read_rows(path: Path) -> tuple[Labelled, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. A corpus needs train.jsonl and test.jsonl.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: byte {error.start} cannot be decoded. Save it as UTF-8.") from None
    return tuple(read_row(f"{path}, line {i}", line) for i, line in enumerate(lines, start=1) if line.strip())


def read_row(place: str, line: str) -> Labelled:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: this is not JSON ({error.msg} at column {error.colno}).") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected an object with 'text' and 'label'; got {row!r}.")
    for key in ("text", "label"):
        if not isinstance(row.get(key), str):
            raise InputError(f"{place}: the key {key!r} must be there and hold a string; got {row.get(key)!r}.")
    return Labelled(row["text"], row["label"])
