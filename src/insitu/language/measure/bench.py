"""What every measurement on a language model starts from: the model, texts that fit, and questions."""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor

from insitu.errors import InputError
from insitu.language import Corpus, Labelled, LanguageModel, Question, Template, draw_orders, pose, relabelled
from insitu.language.models.self_test import self_test
from insitu.language.texts.exclusions import LONG, exclusion_counts, exclusions_in_words
from insitu.language.texts.screening import screened, without
from insitu.seed import Seed

__all__ = ["Bench", "data_notes", "fallback", "fitting", "set_up", "shown_for"]


@final
@dataclass(frozen=True, eq=False)
class Bench:
    """A model with the texts that it classifies.

    Args:
        model: The model.
        corpus: Rows that fit its window, as single texts.
        template: How they are put into words.
        items: The test rows.
        seed: Where demonstrations and orders are drawn.
        pinned: Ids of train rows to demonstrate with, in place of drawn ones.
        balanced: Whether drawn demonstrations are balanced over the labels.
        labels: Which labels demonstrations carry: *gold*, *flipped* or *random*.
        batch: How many sequences are read together.
        longest: The most tokens that a text may have.
        cut: How many texts were cut to that.
        proposed: Whether the template was proposed from the labels.
    """

    model: LanguageModel
    corpus: Corpus
    template: Template
    items: tuple[Labelled, ...]
    seed: Seed
    pinned: tuple[str, ...] = ()
    balanced: bool = True
    labels: str = "gold"
    batch: int = 32
    longest: int | None = None
    cut: int = 0
    proposed: bool = False
    questions: list[Question] = field(init=False)

    def __post_init__(self) -> None:
        prompts = [self.template.prompt(row.text) for row in self.items]
        rows = [f"row {row.id}" for row in self.items]
        object.__setattr__(self, "questions", pose(self.model, self.template, prompts, rows))

    @property
    def texts(self) -> list[str]:
        """The texts of the items."""
        return [row.text for row in self.items]

    @property
    def right(self) -> Tensor:
        """The place of each question's label among the labels."""
        names = [label for label, _ in self.template.words]
        return torch.tensor([names.index(row.label) for row in self.items])

    @property
    def firsts(self) -> Tensor:
        """The first token of every label's word, for each question."""
        return torch.tensor([question.firsts for question in self.questions])

    def demonstrate(self, number: int, shots: int, name: str = "demonstrations") -> tuple[Labelled, ...]:
        """Demonstration set ``number``; a smaller one of the same number is its beginning."""
        if self.pinned and name == "demonstrations":
            if shots > len(self.pinned):
                raise InputError(f"{shots} demonstrations are needed and {len(self.pinned)} are named.")
            drawn = self.corpus.named(self.pinned[:shots])
        elif self.balanced:
            drawn = self.corpus.nested(self.seed / "set" / number / name, shots)
        else:
            drawn = self.corpus.demonstrate(self.seed / "set" / number / name, shots, balanced=False)
        return relabelled(drawn, self.corpus.labels, self.labels, self.seed / "set" / number / "labels")

    def orders(self, number: int, shots: int, count: int) -> Int[Tensor, "order shot"]:
        """Orders of demonstration set ``number``, all different as long as there are so many."""
        return draw_orders(self.seed / "set" / number / "orders", shots, count)

    @functools.cached_property
    def weights(self) -> str:
        """A digest of the model's weights; to make it takes as long as reading fifty tokens."""
        return weights_digest(self.model)

    def about(self) -> dict[str, Any]:
        """What identifies it, for records: names, and digests of weights, template, rows and questions."""
        return {
            "model": self.model.name,
            "weights": self.weights,
            "provenance": self.model.provenance,
            "data": self.corpus.name,
            "source": asdict(self.corpus.source) if self.corpus.source else None,
            "excluded": exclusion_counts(self.corpus.excluded),
            "longest": self.longest,
            "cut": self.cut,
            "rows": digest([(r.id, r.text, r.label) for r in self.corpus.train]),
            "template": repr(self.template),
            "proposed": self.proposed,
            "asked": digest([(r.id, r.text, r.label) for r in self.items]),
            "seed": self.seed.root,
            "pinned": list(self.pinned),
            "balanced": self.balanced,
            "labels": self.labels,
            "device": str(self.model.device),
        }


def digest(content: Any) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def weights_digest(model: LanguageModel) -> str:
    """A digest of the names, shapes and all numbers of the weights."""
    digest = hashlib.sha256()
    for name, weight in model.network.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy())
    return digest.hexdigest()[:16]


def set_up(  # noqa: PLR0913 - what the commands take
    model: LanguageModel,
    corpus: Corpus,
    template: Template,
    seed: Seed,
    *,
    shots: int,
    items: int,
    longest: int | None = None,
    shorten: bool = False,
    proportional: bool = False,
    **rest: Any,
) -> Bench:
    """A bench whose longest prompt, ``shots`` demonstrations and a question, fits the window.

    Args:
        model: The model.
        corpus: The labelled rows.
        template: How they are put into words.
        seed: Where questions, demonstrations and orders are drawn.
        shots: The most demonstrations.
        items: How many test rows are classified, drawn without repeating; all if there are fewer.
        longest: The most tokens a text may have, fewer where the window asks for it; longer texts are left out.
        shorten: Whether texts that are too long are cut instead of left out.
        proportional: Whether labels have the same shares of the questions as of all test rows.
        rest: The other fields of :class:`Bench`.

    Raises:
        InputError: If too few rows are left, and as :meth:`Template.dress`.
    """
    dressed = template.dress(corpus)
    most = text_room(model, template, shots)
    most = most if longest is None else max(1, min(most, longest))
    shown = cut_texts(model, dressed, most) if shorten else dressed
    # Two texts may begin alike, so rows are compared as they are shown.
    kept = fitting(model, screened(shown), most, shots)
    drawn = kept.questions(seed / "questions", min(items, len(kept.test)), proportional=proportional)
    return Bench(model, kept, template, drawn, seed, longest=most, cut=changes(dressed, shown), **rest)


def text_room(model: LanguageModel, template: Template, shots: int) -> int:
    """How many tokens each text may have, so that a question and its demonstrations fit the window."""
    words = max(len(model.encode(f" {word}")) for _, word in template.words)
    around = max(len(model.encode(template.prompt("", [Labelled("", label)]))) for label, _ in template.words) + words
    room = (model.window - len(model.encode(template.instruction)) - words) // (shots + 1) - around
    if room < 1:
        raise InputError(
            f"{shots} demonstrations do not fit the window of {model.name}, {model.window} tokens, whatever the text; "
            "use fewer."
        )
    return room


def fitting(model: LanguageModel, corpus: Corpus, most: int, shots: int) -> Corpus:
    """The rows of at most so many tokens.

    Raises:
        InputError: If a label or the test part is left without rows; the message names the longest text.
    """
    sizes = {row.text: len(model.encode(row.text)) for row in (*corpus.train, *corpus.test)}
    train, test = (
        {i: LONG for i, row in enumerate(rows) if sizes[row.text] > most} for rows in (corpus.train, corpus.test)
    )
    left = {row.label for i, row in enumerate(corpus.train) if i not in train}
    if len(test) == len(corpus.test) or left != set(corpus.labels):
        row = max((*corpus.train, *corpus.test), key=lambda row: sizes[row.text])
        raise InputError(
            f"corpus {corpus.name!r}: with {shots} demonstrations a text may have {most} tokens for the window of "
            f"{model.name} ({model.window}), and too few rows are that short: {len(corpus.train) - len(train)} to "
            f"demonstrate with, {len(corpus.test) - len(test)} to classify. The longest, row {row.id}, has "
            f"{sizes[row.text]}: {row.text[:60]!r}... Use fewer demonstrations, or ask for texts to be cut (--shorten)."
        )
    return without(corpus, train, test)


def cut_texts(model: LanguageModel, corpus: Corpus, most: int) -> Corpus:
    """The corpus with as much of every text as so many tokens hold."""
    train, test = (tuple(cut(model, row, most) for row in rows) for rows in (corpus.train, corpus.test))
    return replace(corpus, train=train, test=test)


def changes(before: Corpus, after: Corpus) -> int:
    """How many texts differ."""
    return sum(old != new for old, new in zip((*before.train, *before.test), (*after.train, *after.test), strict=True))


def cut(model: LanguageModel, row: Labelled, most: int) -> Labelled:
    """The row with as much of its text as so many tokens hold."""
    text = row.text
    while len(model.encode(text)) > most and text:
        share = most / len(model.encode(text))
        text = text[: min(len(text) - 1, int(len(text) * share) + 1)].rstrip()
    return replace(row, text=text)


def data_notes(bench: Bench) -> list[str]:
    """What a reader must know of the data: how many rows there are, where they were read, which are left out or cut."""
    corpus, source = bench.corpus, bench.corpus.source
    notes = [f"data {corpus.name}: {len(corpus.train)} train rows and {len(corpus.test)} test rows"]
    if source is not None:
        notes.append(f"texts in {' and '.join(source.texts)}, labels in {source.label}; {source.split}")
    if corpus.excluded:
        long = any(row.reason == LONG for row in corpus.excluded)
        room = f" (of more than {bench.longest} tokens)" if long else ""
        notes.append(f"left out: {exclusions_in_words(exclusion_counts(corpus.excluded))}{room}")
    if bench.cut:
        notes.append(f"{bench.cut} texts cut to {bench.longest} tokens")
    return notes


def fallback(readings: Iterable[tuple[Bench, Sequence[Labelled]]]) -> str:
    """What is done in place of short cuts where questions are read after demonstrations; empty if all are taken.

    It depends on the prompts alone, and not on what was read before.
    """
    readings = list(readings)
    lengths = [
        max(question.length for question in pose(b.model, b.template, [b.template.prompt(t, shown) for t in b.texts]))
        for b, shown in readings
    ]
    return self_test(readings[0][0].model).fallback(lengths)


def shown_for(demonstrations: Sequence[Labelled]) -> list[dict[str, str]]:
    """Demonstrations as a record names them."""
    return [{"id": d.id, "label": d.label} for d in demonstrations]
