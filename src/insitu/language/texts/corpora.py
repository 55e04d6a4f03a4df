"""Labelled texts, to demonstrate with and to classify."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from insitu.errors import InputError, require_count, require_one_of
from insitu.language.texts.exclusions import Excluded, exclusion_counts, exclusions_in_words
from insitu.seed import Seed

__all__ = ["Corpus", "Labelled", "Source", "draw_orders", "relabelled"]


@final
@dataclass(frozen=True)
class Labelled:
    """A text and its label.

    Args:
        text: The text, or the premise of a pair.
        label: The label.
        hypothesis: The second part of a pair.
        id: What the row is called: its own ``id``, or its number in the file, counted from 0.
    """

    text: str
    label: str
    hypothesis: str = ""
    id: str = ""


@final
@dataclass(frozen=True)
class Source:
    """Where the rows of a corpus were read.

    Args:
        texts: The column of single texts, or the two of pairs.
        label: The column of labels.
        split: Which rows are *train* and which *test*: splits that the data has, or how one was drawn.
    """

    texts: tuple[str, ...]
    label: str
    split: str


@final
@dataclass(frozen=True)
class Corpus:
    """Labelled texts, to demonstrate with and to classify.

    Args:
        name: What it is called.
        train: The rows that demonstrations are drawn from.
        test: The rows to classify; :func:`~insitu.language.texts.screening.screened` makes both disjoint.
        labels: The labels of ``train``, sorted.
        excluded: The rows that are left out, and why.
        source: Where the rows were read; none for rows made by hand.

    Raises:
        InputError: If there is no row to train or to test on, if ``train`` holds one label only, or if a label
            of ``test`` does not occur in ``train``.
    """

    name: str
    train: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    labels: tuple[str, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    source: Source | None = None

    def __post_init__(self) -> None:
        for part, rows in (("train", self.train), ("test", self.test)):
            if not rows:
                words = exclusions_in_words(exclusion_counts(self.excluded))
                raise InputError(f"corpus {self.name!r}: there is no {part} row.{words and f' Left out: {words}.'}")
        labels = tuple(sorted({row.label for row in self.train}))
        if len(labels) < 2:
            raise InputError(
                f"corpus {self.name!r}: every train row has the label {labels[0]!r}; a comparison needs at least two "
                "labels."
            )
        strange = {row.label for row in self.test} - set(labels)
        if strange:
            raise InputError(
                f"corpus {self.name!r}: test rows have the label {min(strange)!r}, which no train row has; the labels "
                f"are {', '.join(labels)}."
            )
        object.__setattr__(self, "labels", labels)

    def where(self, keep: Callable[[str], bool]) -> "Corpus":
        """The rows whose text passes a test, such as being short enough for a context window."""
        train, test = (tuple(row for row in rows if keep(row.text)) for rows in (self.train, self.test))
        return replace(self, train=train, test=test)

    def demonstrate(self, seed: Seed, count: int, *, balanced: bool = True) -> tuple[Labelled, ...]:
        """Draw demonstrations, balanced over the labels (their counts differ by one at most) or as the rows come.

        Raises:
            InputError: If ``count`` is below 1, or there are too few rows, of a label or of all.
        """
        require_count("demonstrations", "count", count, least=1)
        if not balanced:
            if count > len(self.train):
                raise InputError(
                    f"corpus {self.name!r}: {count} demonstrations were asked for; there are {len(self.train)} train "
                    "rows."
                )
            return tuple(self.train[i] for i in (seed / "natural").permutation(len(self.train))[:count].tolist())
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

    def nested(self, seed: Seed, count: int) -> tuple[Labelled, ...]:
        """Draw demonstrations of which every first few are balanced as well: the labels come in rounds.

        Raises:
            InputError: If ``count`` is below 1, or a label has too few rows.
        """
        require_count("demonstrations", "count", count, least=1)
        chosen: list[Labelled] = []
        drawn = {
            label: (seed / "rows" / label).permutation(sum(row.label == label for row in self.train)).tolist()
            for label in self.labels
        }
        rows = {label: [row for row in self.train if row.label == label] for label in self.labels}
        for turn in range(-(-count // len(self.labels))):
            for i in (seed / "round" / turn).permutation(len(self.labels)).tolist()[: count - len(chosen)]:
                label = self.labels[i]
                if turn >= len(rows[label]):
                    raise InputError(
                        f"corpus {self.name!r}: {count} balanced demonstrations need {turn + 1} rows labelled "
                        f"{label!r}; there are {len(rows[label])}."
                    )
                chosen.append(rows[label][drawn[label][turn]])
        return tuple(chosen)

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

    def named(self, ids: Sequence[str]) -> tuple[Labelled, ...]:
        """The train rows with these ids, in the order given.

        Raises:
            InputError: If there is no such row, it is left out, or it is named twice.
        """
        rows = {row.id: row for row in self.train}
        reasons = {row.id: row.reason for row in self.excluded if row.part != "test"}
        for name in ids:
            if list(ids).count(name) > 1:
                raise InputError(f"corpus {self.name!r}: the train row {name!r} is named twice; name every row once.")
            if name in reasons:
                raise InputError(f"corpus {self.name!r}: the train row {name!r} is left out: it is {reasons[name]}.")
            if name not in rows:
                raise InputError(
                    f"corpus {self.name!r}: no train row has the id {name!r}; ids are like {', '.join(list(rows)[:3])}."
                )
        return tuple(rows[name] for name in ids)

    def questions(self, seed: Seed, count: int, *, proportional: bool = False) -> tuple[Labelled, ...]:
        """Draw test rows, none twice.

        Args:
            seed: Where they are drawn.
            count: How many.
            proportional: Whether every label has the share that it has of all test rows, but for rounding; otherwise
                chance decides.

        Raises:
            InputError: If there are fewer than ``count`` of them.
        """
        if not 1 <= count <= len(self.test):
            raise InputError(f"corpus {self.name!r}: {count} test rows were asked for; there are {len(self.test)}.")
        order = seed.permutation(len(self.test)).tolist()
        # Evenly spaced among rows that are sorted by label.
        ranked = sorted(order, key=lambda i: self.test[i].label) if proportional else order
        every = len(order) / count if proportional else 1.0
        return tuple(self.test[ranked[int((place + 0.5) * every)]] for place in range(count))


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


def relabelled(demonstrations: Sequence[Labelled], labels: Sequence[str], how: str, seed: Seed) -> tuple[Labelled, ...]:
    """Demonstrations with their own labels (*gold*), the next one of the list (*flipped*) or drawn ones (*random*).

    Raises:
        InputError: If ``how`` is none of these.

    References:
        Flipped labels: Wei et al. (2023); random ones: Min et al. (2022).
    """
    require_one_of("demonstrations", "labels", how, ("gold", "flipped", "random"))
    if how == "gold":
        return tuple(demonstrations)
    if how == "flipped":
        places = [(list(labels).index(d.label) + 1) % len(labels) for d in demonstrations]
    else:
        places = seed.integers(len(labels), len(demonstrations)).tolist()
    return tuple(replace(d, label=labels[i]) for d, i in zip(demonstrations, places, strict=True))
