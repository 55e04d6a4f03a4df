"""In-context learning against fine-tuning on the same demonstrations: ``insitu lm compare``.

Every arm answers the same questions with a distribution over the whole vocabulary. The reference is reading the
demonstrations in the order drawn; every other arm is compared with it, and with itself.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.language import (
    Answers,
    Descent,
    Labelled,
    Reader,
    Template,
    Weights,
    average,
    calibrated,
    draw_orders,
    fine_tune_together,
    pose,
    read,
    require_trainable,
    runs_at_once,
)
from insitu.language.measure.bench import Bench, shown_for
from insitu.language.models.hidden_states import AttentionStates, attention_states, similarities
from insitu.language.models.in_context import CONTENT_FREE
from insitu.language.models.untrained import without_training
from insitu.metrics import Estimate
from insitu.metrics.distributions import (
    PENALTIES,
    calibration_error,
    kl_divergence,
    overlap_cosine,
    token_overlap,
)
from insitu.records import Damage, find_record, key_of, store_record

__all__ = ["ICL", "READINGS", "Comparison", "compare", "estimates", "measures", "train_and_answer"]

ICL = "in context"
READINGS = (
    "zero-shot",
    ICL,
    "another order",
    "other demonstrations",
    "another template",
    "orders averaged",
    "calibrated",
    "untrained",
)


@final
@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Args:
        shots: Numbers of demonstrations.
        sets: How many demonstration sets.
        orders: Over how many orders *orders averaged* is the mean.
        descents: The ways of training.
        epochs: After how many passes to look, in rising order.
        top: How many top tokens overlaps compare.
        other: The template of the reference line *another template*; that line is left out if none.
        hidden: Whether hidden states are compared as well, see :mod:`insitu.language.models.hidden_states`.
    """

    shots: tuple[int, ...]
    sets: int
    orders: int
    descents: tuple[Descent, ...]
    epochs: tuple[int, ...]
    top: int = 10
    other: Template | None = None
    hidden: bool = False


def measures(bench: Bench, answers: Answers, reference: Answers, start: Answers, top: int = 10) -> dict[str, Tensor]:
    r"""What is said of an arm's answers, a number for each question; the calibration error is one for all.

    *accuracy*: the most probable token of the whole vocabulary begins the right label's word. *restricted accuracy*:
    the right label's word is the most probable of the label words, by summed log-probability. *label mass*: the
    probability of all tokens that begin a label word. *token overlap*, *overlap cosine (...)*: with the reference, over
    the ``top`` tokens. *KL from reading*: :math:`\mathrm{KL}(p_{\mathrm{ICL}} \| p)`. *KL from the start*:
    :math:`\mathrm{KL}(p \| p_0)` with the zero-shot answers of the untouched model. *calibration error*: of the label
    distribution, ten bins.
    """
    p, firsts, right = answers.tokens, bench.firsts, bench.right
    rows = torch.arange(len(p))
    k = min(top, p.shape[-1])
    labels = answers.labels.log_softmax(-1).exp()
    gold = torch.nn.functional.one_hot(right, labels.shape[-1]).bool()
    cosines = {f"overlap cosine ({name})": overlap_cosine(reference.tokens, p, k, penalty=name) for name in PENALTIES}
    return {
        "accuracy": (p.argmax(-1) == firsts[rows, right]).double(),
        "restricted accuracy": (labels.argmax(-1) == right).double(),
        "label mass": p.gather(-1, firsts).sum(-1),
        "token overlap": token_overlap(reference.tokens, p, k),
        **cosines,
        "KL from reading": kl_divergence(reference.tokens, p),
        "KL from the start": kl_divergence(p, start.tokens),
        "calibration error": calibration_error(labels, gold)[None],
    }


@final
class Readings:
    """The answers of everything that is read, for one demonstration set; each is computed when first asked for."""

    def __init__(self, bench: Bench, setting: Comparison, number: int, shots: int, reader: Reader) -> None:
        self.bench, self.setting, self.number, self.reader = bench, setting, number, reader
        self.shown = bench.demonstrate(number, shots)
        self.found: dict[str, Answers] = {}
        self.states: tuple[AttentionStates, AttentionStates] | None = None

    def __getitem__(self, name: str) -> Answers:
        if name not in self.found:
            made: dict[str, Callable[[], Answers]] = {
                ICL: lambda: self.read(self.shown),
                "zero-shot": lambda: self.read(()),
                "another order": lambda: self.read(self.order(1)),
                "other demonstrations": self.others,
                "another template": self.another_template,
                "orders averaged": lambda: average([self.read(self.order(i)) for i in range(self.setting.orders)]),
                "calibrated": self.calibrated,
                "untrained": self.untrained,
            }
            self.found[name] = made[name]()
        return self.found[name]

    def read(self, shown: Sequence[Labelled]) -> Answers:
        b = self.bench
        return read(b.model, b.template, shown, b.texts, reader=self.reader, batch=b.batch)

    def order(self, i: int) -> list[Labelled]:
        """The demonstrations in the order drawn (0), or in another one where there is another."""
        if i == 0:
            return list(self.shown)
        place = self.bench.seed / "set" / self.number / "orders"
        orders = draw_orders(place, len(self.shown), self.setting.orders + 1).tolist()
        own = list(range(len(self.shown)))
        others = [order for order in orders if order != own] or [own]
        return [self.shown[j] for j in others[(i - 1) % len(others)]]

    def others(self) -> Answers:
        return self.read(self.bench.demonstrate(self.number, len(self.shown), "others"))

    def another_template(self) -> Answers:
        assert self.setting.other is not None
        b = self.bench
        return read(b.model, self.setting.other, self.shown, b.texts, batch=b.batch)

    def calibrated(self) -> Answers:
        b = self.bench
        free = read(b.model, b.template, self.shown, CONTENT_FREE, reader=self.reader, batch=b.batch)
        return calibrated(self[ICL], free, b.questions[0].firsts)

    def hidden(self, weights: Weights) -> dict[str, Tensor]:
        """SimAOU and SimAM of trained weights for each question, means over layers, and what noise gives."""
        b = self.bench
        if self.states is None:
            prompts = [b.template.prompt(text, self.shown) for text in b.texts]
            read = attention_states(b.model, pose(b.model, b.template, prompts), b.questions)
            self.states = read, attention_states(b.model, b.questions, b.questions)
        read, start = self.states
        return similarities(read, attention_states(b.model, b.questions, b.questions, weights), start, b.seed / "noise")

    def untrained(self) -> Answers:
        b = self.bench
        fresh = without_training(b.model, b.seed / "untrained")
        return read(b.model, b.template, self.shown, b.texts, reader=Reader(b.model, fresh), batch=b.batch)


def arm_name(how: Descent) -> str:
    """A way of training as a record names it."""
    return f"{how.name} {how.part} {how.rate:g}"


def compare(
    bench: Bench, setting: Comparison, folder: Path | None = None, *, resume: bool = False
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Compare; yields how many records are done, of how many, and the record.

    Args:
        bench: The model and its questions.
        setting: What is compared.
        folder: Where records are written; nowhere if none.
        resume: Whether to take records of the same configuration that the folder holds.

    Raises:
        InputError: If a number is out of its range or a prompt is too long.
        StorageError: If a record cannot be written.
    """
    require_comparison(bench, setting)
    return compared(bench, setting, folder, resume)


def compared(
    bench: Bench, setting: Comparison, folder: Path | None, resume: bool
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    names = [name for name in READINGS if name != "another template" or setting.other is not None]
    about = bench.about()
    total = len(setting.shots) * setting.sets * (len(names) + len(setting.descents))
    done = 0
    reader = Reader(bench.model)
    for shots in setting.shots:
        readings = [Readings(bench, setting, number, shots, reader) for number in range(setting.sets)]

        def kept(name: str, number: int, content: dict[str, Any], shots: int = shots) -> Kept:
            common = {"top": setting.top, "shots": shots, "set": number, "arm": name}
            return Kept({"kind": "lm compare", **about, **common, **content}, folder, resume)

        for own in readings:
            for name in names:
                extra = {"orders": setting.orders, "other": repr(setting.other)}
                place = kept(name, own.number, extra)
                record = place.found or place.store(reading_record(bench, own, name, setting.top))
                done += 1
                yield done, total, record
        for how in setting.descents:
            extra = {"how": asdict(how), "epochs": setting.epochs, "hidden": setting.hidden}
            places = [kept(arm_name(how), own.number, extra) for own in readings]
            for record in descents(bench, setting, how, readings, places):
                done += 1
                yield done, total, record


@final
class Kept:
    """Where one record lies: its configuration, and what an earlier run left there."""

    def __init__(self, configuration: dict[str, Any], folder: Path | None, resume: bool) -> None:
        self.configuration, self.folder = configuration, folder
        self.key = key_of(configuration)
        c = configuration
        self.name = f"{c['kind'].removeprefix('lm ')}.{c['arm']}.n{c['shots']}.set{c['set']}"
        earlier = find_record(folder, self.name, self.key) if folder is not None and resume else None
        self.found = None if isinstance(earlier, Damage) else earlier

    def store(self, content: dict[str, Any]) -> dict[str, Any]:
        """Write the record, if anywhere, and return it."""
        whole = {**self.configuration, **content}
        return whole if self.folder is None else store_record(self.folder, self.name, self.key, whole)


def reading_record(bench: Bench, own: Readings, name: str, top: int) -> dict[str, Any]:
    started = time.perf_counter()
    answers = own[name]
    found = measures(bench, answers, own[ICL], own["zero-shot"], top)
    return finished(bench, own.shown, [found], answers, started)


def descents(
    bench: Bench, setting: Comparison, how: Descent, readings: Sequence[Readings], places: Sequence[Kept]
) -> Iterator[dict[str, Any]]:
    """The records of one way of training, several demonstration sets trained together."""
    yield from (place.found for place in places if place.found is not None)
    missing = [i for i, place in enumerate(places) if place.found is None]
    size = runs_at_once(bench.model, how)
    for start in range(0, len(missing), size):
        part = missing[start : start + size]
        started = time.perf_counter()
        found: dict[int, list[dict[str, Tensor]]] = {i: [] for i in part}
        last: dict[int, Answers] = {}
        for trained in trained_weights(bench, [readings[i].shown for i in part], how, setting.epochs):
            for i, weights in zip(part, trained, strict=True):
                own, answers = readings[i], answer_with(bench, weights)
                looked = measures(bench, answers, own[ICL], own["zero-shot"], setting.top)
                found[i].append(looked | own.hidden(weights) if setting.hidden else looked)
                last[i] = answers
        for i in part:
            yield places[i].store(finished(bench, readings[i].shown, found[i], last[i], started))


def train_and_answer(
    bench: Bench,
    runs: Sequence[Sequence[Labelled]],
    how: Descent,
    epochs: Sequence[int],
    train: Callable[..., Iterator[Weights]] = fine_tune_together,
) -> Iterator[list[Answers]]:
    """Zero-shot answers of every run after each of the epochs."""
    for trained in trained_weights(bench, runs, how, epochs, train):
        yield [answer_with(bench, weights) for weights in trained]


def trained_weights(
    bench: Bench,
    runs: Sequence[Sequence[Labelled]],
    how: Descent,
    epochs: Sequence[int],
    train: Callable[..., Iterator[Weights]] = fine_tune_together,
) -> Iterator[list[Weights]]:
    """The weights of every run after each of the epochs."""
    for weights in train(bench.model, bench.template, runs, how, epochs):
        yield [{name: w[run] for name, w in weights.items()} for run in range(len(runs))]


def answer_with(bench: Bench, weights: Weights) -> Answers:
    """Zero-shot answers with other weights."""
    return Reader(bench.model, weights).answers(bench.questions, batch=bench.batch)


def finished(
    bench: Bench,
    shown: Sequence[Labelled],
    found: Sequence[dict[str, Tensor]],
    answers: Answers,
    started: float,
) -> dict[str, Any]:
    """The content of a record: means over questions at every epoch, and what was said to each at the last one."""
    names = [label for label, _ in bench.template.words]
    word = bench.model.tokenizer.decode
    items = [
        {
            "id": row.id,
            "label": row.label,
            "answer": word([int(p.argmax())]),
            "restricted": names[int(scores.argmax())],
            "probabilities": dict(zip(names, scores.log_softmax(-1).exp().tolist(), strict=True)),
        }
        for row, p, scores in zip(bench.asked, answers.tokens, answers.labels, strict=True)
    ]
    return {
        "demonstrations": shown_for(shown),
        "measures": {name: [f[name].mean().item() for f in found] for name in found[0]},
        "items": items,
        "seconds": round(time.perf_counter() - started, 3),
    }


def require_comparison(bench: Bench, setting: Comparison) -> None:
    if not setting.shots or min(setting.shots) < 1:
        raise InputError(f"lm compare: shots must be whole numbers of at least 1; got {setting.shots}.")
    if list(setting.epochs) != sorted(set(setting.epochs)) or not setting.epochs or setting.epochs[0] < 0:
        raise InputError(f"lm compare: epochs must be rising whole numbers of at least 0; got {setting.epochs}.")
    if setting.sets < 1 or setting.orders < 1:
        raise InputError(f"lm compare: sets and orders must be at least 1; got {setting.sets} and {setting.orders}.")
    for number in range(setting.sets):
        bench.demonstrate(number, max(setting.shots))
    for how in setting.descents:
        require_trainable(bench.model, how)


def estimates(records: Sequence[dict[str, Any]], shots: int, arm: str, name: str) -> list[Estimate]:
    """A measure of an arm at every epoch, with its error over demonstration sets; without one for a single set."""
    rows = [r["measures"][name] for r in records if r["shots"] == shots and r["arm"] == arm]
    values: Float[Tensor, "set epoch"] = torch.tensor([[float(v) for v in row] for row in rows], dtype=torch.float64)
    if len(values) == 1:
        return [Estimate(float(v)) for v in values[0]]
    return [
        Estimate(column.mean().item(), column.std().item() / len(column) ** 0.5, len(column)) for column in values.T
    ]
