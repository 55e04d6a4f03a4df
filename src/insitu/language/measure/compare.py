"""In-context learning against fine-tuning on the same demonstrations: ``insitu lm compare``.

Every arm answers the same questions with a distribution over the whole vocabulary. The reference is reading the
demonstrations in the order drawn; every other arm is compared with it, and with itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_count
from insitu.language import Answers, Descent, Labelled, Reader, Template, Weights, require_trainable, runs_at_once
from insitu.language.measure.bench import Bench, data_notes, fallback
from insitu.language.measure.development import Development, hold_out
from insitu.language.measure.memory import require_memory
from insitu.language.measure.readings import ICL, READINGS, ZERO_SHOT, Readings, ZeroShot, reading_names
from insitu.language.measure.trainings import Course, answer_with, follow, train_and_answer
from insitu.language.measure.unfinished import Piece, Unfinished
from insitu.language.models.forwards import distinct
from insitu.language.texts.chat import has_turns
from insitu.metrics import Estimate
from insitu.metrics.distributions import (
    PENALTIES,
    brier_score,
    calibration_error,
    kl_divergence,
    overlap_cosine,
    token_overlap,
)
from insitu.records import Damage, find_record, key_of, store_record

__all__ = ["ICL", "READINGS", "Comparison", "arm_name", "compare", "estimates", "measures", "train_and_answer"]


@final
@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Args:
        shots: Numbers of demonstrations.
        sets: How many demonstration sets.
        orders: In how many orders each set is read.
        descents: The ways of training.
        epochs: After how many passes to look, in rising order.
        top: How many top tokens overlaps compare.
        other: The template of the reference line *another template*; that line is left out if none.
        hidden: Whether hidden states are compared as well, see :mod:`insitu.language.models.hidden_states`.
        development: On how many train rows, which demonstrate nothing, rate and epochs are chosen, and a run that has
            collapsed is stopped; nothing is chosen or stopped if 0.
        every: Whether the questions are answered after every epoch, and read by the controls of the paper; otherwise
            after the chosen epoch alone.
    """

    shots: tuple[int, ...]
    sets: int
    orders: int
    descents: tuple[Descent, ...]
    epochs: tuple[int, ...]
    top: int = 10
    other: Template | None = None
    hidden: bool = False
    development: int = 0
    every: bool = True

    def readings(self, shots: int) -> list[str]:
        """What is read of each set of so many demonstrations."""
        return reading_names(shots, self.orders, controls=self.every, other=self.other is not None)


def measures(bench: Bench, answers: Answers, reference: Answers, start: Answers, top: int = 10) -> dict[str, Tensor]:
    r"""What is said of an arm's answers, a number for each question; the calibration error is one for all.

    *accuracy*: the most probable token of the whole vocabulary begins the right label's word, which is the likelier one
    where it begins several. *restricted accuracy*:
    the right label's word is the most probable of the label words, by summed log-probability. *label mass*: the
    probability of all tokens that begin a label word. *token overlap*, *overlap cosine (...)*: with the reference, over
    the ``top`` tokens. *KL from reading*: :math:`\mathrm{KL}(p_{\mathrm{ICL}} \| p)`. *KL from the start*:
    :math:`\mathrm{KL}(p \| p_0)` with the zero-shot answers of the untouched model. *calibration error*: of the label
    distribution, ten bins.
    """
    p, firsts, right = answers.tokens, bench.firsts, bench.right
    k = min(top, p.shape[-1])
    labels = answers.labels.log_softmax(-1).exp()
    gold = torch.nn.functional.one_hot(right, labels.shape[-1]).bool()
    cosines = {f"overlap cosine ({name})": overlap_cosine(reference.tokens, p, k, penalty=name) for name in PENALTIES}
    return {
        "accuracy": (answers.chosen(firsts) == right).double(),
        "restricted accuracy": (labels.argmax(-1) == right).double(),
        "label mass": (p.gather(-1, firsts) * distinct(firsts)).sum(-1),
        "token overlap": token_overlap(reference.tokens, p, k),
        **cosines,
        "KL from reading": kl_divergence(reference.tokens, p),
        "KL from the start": kl_divergence(p, start.tokens),
        "calibration error": calibration_error(labels, gold)[None],
        "Brier score": brier_score(labels, gold),
    }


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
    total = setting.sets * sum(len(setting.readings(shots)) + len(setting.descents) for shots in setting.shots)
    return (
        (done, total, record) for done, record in enumerate(Arms(bench, setting, folder, resume).records(), start=1)
    )


@final
class Arms:
    """The records of a comparison, one after the other."""

    def __init__(self, bench: Bench, setting: Comparison, folder: Path | None, resume: bool) -> None:
        self.bench, self.setting, self.folder, self.resume = bench, setting, folder, resume
        model = bench.model
        self.about = {
            **bench.about(),
            "architecture": type(model.network).__name__,
            "parameters": sum(weight.numel() for weight in model.network.parameters()),
            "provenance": model.provenance,
            "notes": data_notes(bench),
            "chat template": bool(getattr(model.tokenizer, "chat_template", None)),
            "in turns": has_turns(bench.template, model.tokenizer),
        }
        self.kept = Unfinished(folder, resume, {**self.about, "setting": repr(setting)})
        self.zero_shot = ZeroShot(bench, self.kept.piece(ZERO_SHOT))
        self.held_out = held_out(bench, setting)
        self.development: Development | None = None

    def records(self) -> Iterator[dict[str, Any]]:
        """Readings first, then the ways of training, for every number of demonstrations."""
        s, reader = self.setting, Reader(self.bench.model)
        for shots in s.shots:
            sets = [
                Readings(
                    self.bench,
                    number,
                    shots,
                    s.orders,
                    reader,
                    self.zero_shot,
                    self.part({"set": number, "shots": shots, "orders": s.orders}),
                    s.other,
                )
                for number in range(s.sets)
            ]
            for own in sets:
                for name in s.readings(shots):
                    place = self.place(own, name, {"orders": s.orders, "other": repr(s.other)})
                    yield place.found or place.store(self.reading(own, name))
                own.forget()
            for how in s.descents:
                yield from self.descents(how, sets)
            for own in sets:
                own.kept.forget()
        self.kept.forget()

    def part(self, content: dict[str, Any]) -> Unfinished:
        """Where a part of the work is kept until the records that need it are there."""
        return Unfinished(self.folder, self.resume, {**self.about, **content})

    def place(self, own: Readings, arm: str, content: dict[str, Any]) -> "Kept":
        """Where the record of an arm and a set lies."""
        common = {"top": self.setting.top, "shots": len(own.shown), "set": own.number, "arm": arm}
        return Kept({"kind": "lm compare", **self.about, **common, **content}, self.folder, self.resume)

    def reading(self, own: Readings, name: str) -> dict[str, Any]:
        """The record of something that is read."""
        timed = own[name]
        shown = () if name == ZERO_SHOT else own.shown
        return {
            "demonstrations": [{"id": d.id, "label": d.label, "text": d.text} for d in own.shown],
            "order": own.order(name),
            "measures": {n: [v.mean().item()] for n, v in self.measured(own, timed.answers).items()},
            "items": items_of(self.bench, timed.answers),
            "prompt": self.bench.template.prompt(self.bench.texts[0], shown),
            "tokens": tokens_of(self.bench, shown),
            "fallback": fallback([(self.bench, ()), (self.bench, own.shown)]),
            "seconds": round(timed.seconds, 3),
        }

    def measured(self, own: Readings, answers: Answers) -> dict[str, Tensor]:
        """What is measured of an arm's answers."""
        return measures(self.bench, answers, own[ICL].answers, own[ZERO_SHOT].answers, self.setting.top)

    def descents(self, how: Descent, sets: Sequence[Readings]) -> Iterator[dict[str, Any]]:
        """The records of one way of training, several demonstration sets trained together."""
        s = self.setting
        chosen_on = None if self.held_out is None else self.held_out.about()["asked"]
        extra = {"how": asdict(how), "epochs": s.epochs, "hidden": s.hidden, "chosen on": chosen_on, "every": s.every}
        places = [self.place(own, arm_name(how), extra) for own in sets]
        yield from (place.found for place in places if place.found is not None)
        size = runs_at_once(self.bench.model, how)
        for start in range(0, len(sets), size):
            # Who trains together does not depend on what is stored: the batch decides how numbers are rounded.
            part = range(start, min(start + size, len(sets)))
            kept = self.part({"training": [places[i].key for i in part]})
            if not all(places[i].found for i in part):
                courses = self.train(how, [sets[i] for i in part], kept.piece("training"))
                for i, course in zip(part, courses, strict=True):
                    if places[i].found is None:
                        yield places[i].store(self.training(sets[i], course))
            kept.forget()

    def train(self, how: Descent, sets: Sequence[Readings], place: Piece) -> list[Course]:
        """Train on several sets together."""
        if self.development is None and self.held_out is not None:
            self.development = Development(self.held_out, self.kept.piece("development"))
        courses = [Course(self.look(own), self.development, every=self.setting.every) for own in sets]
        follow(self.bench, [own.shown for own in sets], how, self.setting.epochs, courses, place)
        return courses

    def look(self, own: Readings) -> Callable[[Weights], tuple[Answers, dict[str, Tensor]]]:
        """What answers with trained weights and measures the answers against a set's readings."""

        def measured(weights: Weights) -> tuple[Answers, dict[str, Tensor]]:
            answers = answer_with(self.bench, weights)
            hidden = own.hidden(weights) if self.setting.hidden else {}
            return answers, self.measured(own, answers) | hidden

        return measured

    def training(self, own: Readings, course: Course) -> dict[str, Any]:
        """The record of a way of training: the measures of every epoch that was looked at."""
        answers = course.finish()
        looks = sorted(course.measures)
        names = course.measures[looks[0]]
        return {
            "demonstrations": [{"id": d.id, "label": d.label, "text": d.text} for d in own.shown],
            "looks": looks,
            "measures": {name: [course.measures[epoch][name].mean().item() for epoch in looks] for name in names},
            "chosen": course.chosen,
            "development": [asdict(score) for score in course.scores],
            "collapsed": course.collapsed,
            "items": items_of(self.bench, answers),
            "tokens": tokens_of(self.bench, ()),
            "fallback": fallback([(self.bench, ()), (self.bench, own.shown)]),
            "training seconds": round(course.training_seconds, 3),
            "reading seconds": round(course.reading_seconds, 3),
            "seconds": round(course.training_seconds + course.reading_seconds, 3),
        }


def held_out(bench: Bench, setting: Comparison) -> Bench | None:
    """The rows that rate and epochs are chosen on, if they are chosen."""
    if not setting.development or not setting.descents:
        return None
    return hold_out(bench, setting.sets, max(setting.shots), setting.development)


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


def items_of(bench: Bench, answers: Answers) -> list[dict[str, Any]]:
    """What was said to each question: the most probable token, the likeliest label, the probabilities of the labels."""
    names = [label for label, _ in bench.template.words]
    return [
        {
            "id": row.id,
            "label": row.label,
            "answer": bench.model.word(int(p.argmax())),
            "restricted": names[int(scores.argmax())],
            "probabilities": dict(zip(names, scores.log_softmax(-1).exp().tolist(), strict=True)),
        }
        for row, p, scores in zip(bench.items, answers.tokens, answers.labels, strict=True)
    ]


def tokens_of(bench: Bench, shown: Sequence[Labelled]) -> float:
    """How many tokens a prompt has on average, with these demonstrations before it."""
    before = len(bench.model.encode(bench.template.stem(shown))) if shown else 0
    return before + sum(len(question.prompt) for question in bench.questions) / len(bench.questions)


def require_comparison(bench: Bench, setting: Comparison) -> None:
    if not setting.shots or min(setting.shots) < 1:
        raise InputError(f"lm compare: shots must be whole numbers of at least 1; got {setting.shots}.")
    if list(setting.epochs) != sorted(set(setting.epochs)) or not setting.epochs or setting.epochs[0] < 0:
        raise InputError(f"lm compare: epochs must be rising whole numbers of at least 0; got {setting.epochs}.")
    require_count("lm compare", "development", setting.development)
    if setting.sets < 1 or setting.orders < 1:
        raise InputError(f"lm compare: sets and orders must be at least 1; got {setting.sets} and {setting.orders}.")
    if len(bench.items) < 2:
        raise InputError("lm compare: an interval over texts needs at least two of them (--items); there is 1.")
    for number in range(setting.sets):
        bench.demonstrate(number, max(setting.shots))
    for how in setting.descents:
        require_trainable(bench.model, how)
    held_out(bench, setting)
    require_memory(bench, max(setting.shots), setting.sets, setting.descents)


def estimates(records: Sequence[dict[str, Any]], shots: int, arm: str, name: str) -> list[Estimate]:
    """A measure of an arm at every epoch, with its error over demonstration sets; without one for a single set."""
    rows = [r["measures"][name] for r in records if r["shots"] == shots and r["arm"] == arm]
    # A run that collapsed has fewer epochs than the others.
    fewest = min(map(len, rows))
    rows = [row[:fewest] for row in rows]
    values: Float[Tensor, "set epoch"] = torch.tensor([[float(v) for v in row] for row in rows], dtype=torch.float64)
    return [over_sets(column) for column in values.T]


def over_sets(values: Float[Tensor, " set"]) -> Estimate:
    """The mean with its error; without one for a single set, and where a value is infinite, as after a collapse."""
    if len(values) == 1 or not values.isfinite().all():
        return Estimate(values.mean().item())
    return Estimate.mean(values)
