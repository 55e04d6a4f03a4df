r"""Whether reading and training give the same answers: accuracy, and overlap of the distributions.

The reference line is reading against reading: the same demonstrations in another order. All claims but the identity
look at one study, :func:`comparison`. Where training is said to stay below the reference at every rate and epoch, the
best of them in hindsight is taken, with the largest mean over demonstration sets: most favourable to the hypothesis
that reading is descent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Claim, Figure, Measurement, Panel, Rule, Run, Study, line
from insitu.language import Answers, Descent, Labelled, Reader, Weights, read
from insitu.language.measure.bench import Bench
from insitu.language.measure.compare import ICL, Kept, arm_name, measures, train_and_answer
from insitu.language.measure.unfinished import Piece, Unfinished
from insitu.language.models.untrained import without_training
from insitu.metrics import Estimate
from insitu.metrics.distributions import PENALTIES, overlap_cosine, token_overlap
from insitu.papers.shen2024.setting import (
    AGNEWS,
    REDUCED,
    SMOLLM2,
    TextSource,
    accuracy_gap,
    look,
    missing_source,
    power,
    prepare,
)

__all__ = ["CLAIMS", "Compared", "OverlapSetting", "comparison"]

Overlap = Callable[[Tensor, Tensor], Tensor]
OTHER = "another order"
ZERO_SHOT, UNTRAINED = "zero-shot", "untrained"
READINGS = (ICL, OTHER, ZERO_SHOT, UNTRAINED)
PARTS = ("all", "value:mid", "value:deep")

# The quantities that rules bound.
ACCURACY_GAP = "accuracy in context - best of fine-tuning"
FORMAT_SHARE = "gap, all words - gap, label words"
GAP_DECREASE = "gap at most demonstrations - half of that at 2"
OVER_ZERO_SHOT = "training - zero-shot"
OVER_UNTRAINED = "training - untrained"
MATCHED = "accuracy matched"


def overlap_gap(where: str) -> str:
    """The quantity of the gap of token overlap, by number of demonstrations, part of the model or choice of epoch."""
    return f"gap of token overlap, {where}"


def cosine_gap(where: str) -> str:
    """The quantity of the gap of the overlap cosine, for one variant of it or choice of epoch."""
    return f"gap of cosine, {where}"


def with_one(measure: str) -> str:
    """The quantity of a measure with one demonstration."""
    return f"{measure} at N = 1"


@dataclass(frozen=True)
class OverlapSetting:
    """How reading and training are compared.

    Args:
        source: The model and the texts.
        sets: How many demonstration sets.
        shots: Numbers of demonstrations, at least two, in rising order.
        items: How many test texts are classified.
        descents: The ways of training; a part of the model is trained on the most demonstrations alone.
        epochs: After how many epochs to look.
    """

    source: TextSource
    sets: int
    shots: tuple[int, ...]
    items: int
    descents: tuple[Descent, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Compared:
    """What the study finds: of every arm its measures as means over the questions.

    Args:
        measures: For each arm and measure a tensor over numbers of demonstrations, sets and epochs; for what trains a
            part of the model, over the last number alone.
        parts: Which part of the model each way of training trains; readings are not among them.
        shots: Numbers of demonstrations.
        epochs: Epochs of training.
    """

    measures: Mapping[str, Mapping[str, Float[Tensor, "shots set epoch"]]]
    parts: Mapping[str, str]
    shots: tuple[int, ...]
    epochs: tuple[int, ...]

    def reading(self, arm: str, name: str, shots: int) -> Float[Tensor, " set"]:
        """A measure of a reading with so many demonstrations."""
        return self.of(arm, name, shots)[:, 0]

    def of(self, arm: str, name: str, shots: int) -> Float[Tensor, "set epoch"]:
        """A measure of an arm with so many demonstrations."""
        return self.measures[arm][name][self.shots.index(shots) - len(self.shots)]

    def best(self, name: str, shots: int, part: str = "all") -> Float[Tensor, " set"]:
        """A measure of the way of training a part, and of its epoch, for which the mean over sets is largest."""
        looks = [look for arm in self.trained(part) for look in self.of(arm, name, shots).T]
        return max(looks, key=lambda look: look.mean().item())

    def trained(self, part: str) -> list[str]:
        """The ways of training a part."""
        return [arm for arm, own in self.parts.items() if own == part]

    def gap(self, name: str, shots: int, part: str = "all", reading: str = OTHER) -> Float[Tensor, " set"]:
        """How much a reading exceeds the best of training."""
        return self.reading(reading, name, shots) - self.best(name, shots, part)


def comparison(run: Run) -> Compared:
    """Compare reading and training for every number of demonstrations, set, way of training and epoch."""
    s: OverlapSetting = run.setting
    bench = prepare(run, s.source, shots=max(s.shots), items=s.items)
    start = read(bench.model, bench.template, (), bench.texts, batch=bench.batch)
    fresh = without_training(bench.model, bench.seed / "untrained")
    rows: dict[str, list[dict[str, list[float]]]] = {}
    for shots in s.shots:
        most = shots == s.shots[-1]
        readings = dict.fromkeys(READINGS if most else READINGS[:-1])
        arms = readings | {arm_name(how): how for how in s.descents if most or how.part == "all"}
        for number in range(s.sets):
            one = Round(bench, s.epochs, number, shots, start, fresh, run.folder)
            for arm, how in arms.items():
                rows.setdefault(arm, []).append(one.measured(arm, how))
    stacked = {
        arm: {
            name: torch.tensor([row[name] for row in own], dtype=torch.float64).unflatten(0, (-1, s.sets))
            for name in own[0]
        }
        for arm, own in rows.items()
    }
    return Compared(stacked, {arm_name(how): how.part for how in s.descents}, s.shots, s.epochs)


@final
class Round:
    """One demonstration set, what is read of it and trained on it; finished arms are kept in a folder.

    Args:
        bench: The model with its questions.
        epochs: After how many epochs to look.
        number: Which demonstration set.
        shots: How many demonstrations.
        start: The zero-shot answers.
        fresh: The weights of the untrained network.
        folder: Where records are kept; nowhere if none.
    """

    def __init__(
        self,
        bench: Bench,
        epochs: Sequence[int],
        number: int,
        shots: int,
        start: Answers,
        fresh: Weights,
        folder: Path | None,
    ) -> None:
        self.bench, self.epochs, self.number, self.shots, self.folder = bench, epochs, number, shots, folder
        self.fresh, self.kept = fresh, Unfinished(folder)
        self.shown = bench.demonstrate(number, shots)
        self.read = {ZERO_SHOT: start}

    def measured(self, arm: str, how: Descent | None = None) -> dict[str, list[float]]:
        """The measures of an arm, means over the questions, at every epoch; one for a reading."""
        about = {**self.bench.about(), "kind": "shen2024.comparison", "arm": arm, "shots": self.shots}
        training = {"how": asdict(how), "epochs": self.epochs} if how else {}
        kept = Kept({**about, **training, "set": self.number}, self.folder, resume=True)
        if kept.found is None:
            own = [measures(self.bench, a, self.reading(ICL), self.reading(ZERO_SHOT)) for a in self.answers(arm, how)]
            rows = {name: [look[name].mean().item() for look in own] for name in own[0]}
            return kept.store({"measures": rows})["measures"]
        return kept.found["measures"]

    def answers(self, arm: str, how: Descent | None) -> Iterator[Answers]:
        """What an arm answers, epoch by epoch."""
        if how is None:
            yield self.reading(arm)
        else:
            trained = train_and_answer(self.bench, [self.shown], how, self.epochs, self.place(how))
            yield from (answers for (answers,) in trained)

    def place(self, how: Descent) -> Piece:
        """Where a training is kept between sittings."""
        return self.kept.piece(f"{arm_name(how)} {self.shots} {self.number}")

    def reading(self, name: str) -> Answers:
        """What a reading answers; each is read once."""
        if name not in self.read:
            b = self.bench
            shown = self.other_order() if name == OTHER else self.shown
            reader = Reader(b.model, self.fresh if name == UNTRAINED else None)
            self.read[name] = read(b.model, b.template, shown, b.texts, reader=reader, batch=b.batch)
        return self.read[name]

    def other_order(self) -> list[Labelled]:
        """The demonstrations in another order than the one drawn."""
        own = list(range(self.shots))
        orders = self.bench.orders(self.number, self.shots, 2).tolist()
        return [self.shown[i] for i in next(order for order in orders if order != own)]


COMPARISON = Study("shen2024.comparison", comparison)


# Accuracy


def measure_accuracy(run: Run, *, reading: str = ICL) -> Measurement:
    """The gap of accuracy between reading and the best training, at the largest number of demonstrations."""
    compared: Compared = run.study
    most = compared.shots[-1]
    gap = compared.gap("accuracy", most, reading=reading)
    own, best = compared.reading(reading, "accuracy", most).mean(), compared.best("accuracy", most).mean()
    note = (
        f"In context {own:.3f}, best of fine-tuning {best:.3f}, zero-shot {zero(compared, 'accuracy'):.3f} (whole "
        "vocabulary)."
    )
    estimates = {ACCURACY_GAP: accuracy_gap(gap, run.setting.items)}
    return Measurement(estimates, draw(compared), (note, power(estimates)))


def zero(compared: Compared, name: str) -> float:
    return compared.reading("zero-shot", name, compared.shots[-1]).mean().item()


def measure_format(run: Run, *, names: tuple[str, str] = ("accuracy", "restricted accuracy")) -> Measurement:
    """How much the gap of accuracy shrinks when only label words may be answered."""
    compared: Compared = run.study
    most = compared.shots[-1]
    gaps = [compared.gap(name, most, reading=ICL) for name in names]
    means = ", ".join(
        f"{name}: in context {compared.reading(ICL, name, most).mean():.3f}, best of fine-tuning "
        f"{compared.best(name, most).mean():.3f}, zero-shot {zero(compared, name):.3f}"
        for name in names
    )
    estimates = {FORMAT_SHARE: accuracy_gap(gaps[0] - gaps[1], run.setting.items)}
    return Measurement(estimates, draw(compared), (f"{means}.", power(estimates)))


# Distributions


def measure_overlap(run: Run, *, reading: str = OTHER) -> Measurement:
    """The gap of token overlap between the reference line and the best training, for every number but 1."""
    compared: Compared = run.study
    estimates = {
        overlap_gap(f"N = {n}"): Estimate.mean(compared.gap("token overlap", n, reading=reading))
        for n in compared.shots
    }
    return Measurement(estimates, draw(compared), (levels(compared, "token overlap"), power(estimates)))


def levels(compared: Compared, name: str) -> str:
    rows = [
        f"N = {n}: in context {compared.reading(OTHER, name, n).mean():.3f}, fine-tuned "
        f"{compared.best(name, n).mean():.3f}, zero-shot {compared.reading('zero-shot', name, n).mean():.3f}"
        for n in compared.shots
    ]
    return f"{name} with in-context learning; {'; '.join(rows)}."


def measure_cosine(run: Run, *, reading: str = OTHER) -> Measurement:
    """The gap of every variant of the overlap cosine, at the largest number of demonstrations."""
    compared: Compared = run.study
    most = compared.shots[-1]
    estimates = {
        cosine_gap(p): Estimate.mean(compared.gap(f"overlap cosine ({p})", most, reading=reading)) for p in PENALTIES
    }
    notes = tuple(levels(compared, f"overlap cosine ({p})") for p in PENALTIES)
    return Measurement(estimates, draw(compared), (*notes, power(estimates)))


def measure_matched(run: Run, *, reading: str = OTHER) -> Measurement:
    """The gaps where accuracy is matched: of each set the training and epoch whose accuracy is nearest to reading's."""
    compared: Compared = run.study
    most, arms = compared.shots[-1], compared.trained("all")
    own = compared.reading(ICL, "accuracy", most)
    accuracy = torch.cat([compared.of(a, "accuracy", most) for a in arms], dim=-1)
    nearest = (accuracy - own[:, None]).abs().argmin(-1)
    left = (accuracy.gather(-1, nearest[:, None])[:, 0] - own).abs()
    estimates = {}
    for quantity, name in ((overlap_gap, "token overlap"), (cosine_gap, "overlap cosine (guarded)")):
        trained = torch.cat([compared.of(a, name, most) for a in arms], dim=-1).gather(-1, nearest[:, None])[:, 0]
        estimates[quantity(MATCHED)] = Estimate.mean(compared.reading(reading, name, most) - trained)
    note = f"Accuracies differ by {left.mean():.3f} on average where they are nearest."
    return Measurement(estimates, draw(compared), (note, power(estimates)))


def measure_parts(run: Run, *, reading: str = OTHER) -> Measurement:
    """The gap of token overlap when only one value matrix is trained."""
    compared: Compared = run.study
    most = compared.shots[-1]
    estimates = {
        overlap_gap(part): Estimate.mean(compared.gap("token overlap", most, part, reading)) for part in PARTS[1:]
    }
    best = [f"{part} {compared.best('token overlap', most, part).mean():.3f}" for part in PARTS]
    note = f"Best token overlap of training: {', '.join(best)}."
    return Measurement(estimates, draw(compared), (note, power(estimates)))


def measure_more(run: Run, *, reading: str = OTHER) -> Measurement:
    """How the gap of token overlap changes from two demonstrations to the most; at one the reference is 1."""
    compared: Compared = run.study
    few, many = (compared.gap("token overlap", n, reading=reading) for n in (compared.shots[0], compared.shots[-1]))
    # A gap that closes would fall by as much as it was; one that does not close keeps at least half.
    estimates = {GAP_DECREASE: Estimate.mean(many - few / 2)}
    gaps = [f"N = {n}: {compared.gap('token overlap', n).mean():.3f}" for n in compared.shots]
    return Measurement(estimates, draw(compared), (f"Gap of token overlap; {', '.join(gaps)}.", power(estimates)))


def measure_controls(run: Run, *, controls: tuple[str, str] = ("zero-shot", "untrained")) -> Measurement:
    """How much nearer training comes to reading than not training at all, and than an untrained network."""
    compared: Compared = run.study
    most = compared.shots[-1]
    names = (OVER_ZERO_SHOT, OVER_UNTRAINED)
    estimates = {
        name: Estimate.mean(compared.best("token overlap", most) - compared.reading(control, "token overlap", most))
        for name, control in zip(names, controls, strict=True)
    }
    return Measurement(estimates, draw(compared), (levels(compared, "token overlap"), power(estimates)))


def draw(compared: Compared) -> Figure:
    """Three measures along training at the most demonstrations, for the whole model: the form of Figure 5."""
    most, panels = compared.shots[-1], []
    for name in ("accuracy", "token overlap", "overlap cosine (guarded)"):
        lines = [
            line(arm, compared.epochs, v.mean(0), low=v.amin(0), high=v.amax(0), look=look(compared.epochs), colour=i)
            for i, arm in enumerate(compared.parts)
            for v in [compared.of(arm, name, most)]
        ]
        for arm in (ICL, "zero-shot") if name == "accuracy" else (OTHER, "zero-shot", "untrained"):
            own = compared.reading(arm, name, most).mean().item()
            dashes = "dashed" if arm in (ICL, OTHER) else "dotted"
            lines.append(line(arm, compared.epochs, [own] * len(compared.epochs), look=dashes, colour=-1))
        panels.append(Panel("epochs of training", name, tuple(lines)))
    return Figure(
        tuple(panels),
        caption=f"Answers after fine-tuning on {compared.shots[-1]} demonstrations against answers in context: "
        "accuracy over the whole vocabulary, token overlap and overlap cosine with ICL. Horizontal lines: ICL, "
        "in another order where it is compared with itself, and controls. Means and ranges over demonstration sets.",
        alt="Three panels over epochs of training with a curve for every way of training, and horizontal lines for "
        "ICL, the zero-shot answers and an untrained network.",
    )


# One demonstration


@dataclass(frozen=True)
class IdentitySetting:
    """How the reference line is measured.

    Args:
        source: The model and the texts.
        sets: How many demonstration sets for each number of demonstrations.
        shots: Numbers of demonstrations, 1 among them.
        items: How many test texts are classified.
    """

    source: TextSource
    sets: int
    shots: tuple[int, ...]
    items: int


def measure_reference_line(
    run: Run, *, overlap: Overlap = token_overlap, cosine: Overlap = overlap_cosine
) -> Measurement:
    """Overlaps of the answers between two orders of the same demonstrations."""
    s: IdentitySetting = run.setting
    bench = prepare(run, s.source, shots=max(s.shots), items=s.items)
    overlaps, cosines = (torch.empty(len(s.shots), s.sets, dtype=torch.float64) for _ in range(2))
    for row, shots in enumerate(s.shots):
        for number in range(s.sets):
            shown = bench.demonstrate(number, shots)
            orders = bench.orders(number, shots, 2)
            one, other = (
                read(bench.model, bench.template, [shown[i] for i in order], bench.texts).tokens
                for order in orders.tolist()
            )
            overlaps[row, number], cosines[row, number] = overlap(one, other).mean(), cosine(one, other).mean()
    named = {"token overlap": overlaps, "overlap cosine": cosines}
    estimates = {with_one(name): Estimate.mean(values[s.shots.index(1)]) for name, values in named.items()}
    ends = [f"{name} {values[-1].mean():.3f}" for name, values in named.items()]
    notes = (f"Between different orders of {s.shots[-1]} demonstrations: {', '.join(ends)} (means; no rule).",)
    return Measurement(estimates, draw_reference_line(s, overlaps, cosines), notes)


def draw_reference_line(s: IdentitySetting, overlaps: Tensor, cosines: Tensor) -> Figure:
    def panel(name: str, values: Tensor, colour: int) -> Panel:
        spread = line("", s.shots, values.mean(1), low=values.amin(1), high=values.amax(1), colour=colour)
        identity = line("", s.shots, [1.0] * len(s.shots), look="dotted", colour=-1)
        return Panel("demonstrations N", name, (spread, identity))

    return Figure(
        (panel("token overlap, top 10", overlaps, 0), panel("overlap cosine, top 10", cosines, 1)),
        caption="How much the answers after two different orders of the same demonstrations have in common: the "
        "reference line against which gradient descent is compared. One demonstration has one order, so there it is "
        f"exactly 1. Means and ranges over {s.sets} demonstration sets.",
        alt="Two panels against the number of demonstrations: the token overlap and the overlap cosine between two "
        "orders start at exactly 1 for one demonstration and are lower for more.",
    )


# The rate after which the labels of other questions, with other demonstrations than the records', were most probable.
DESCENTS = (Descent(1e-3), Descent(5e-3, part="value:mid"), Descent(5e-3, part="value:deep"))
SWEEP = tuple(Descent(rate, part=part) for part in PARTS for rate in (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3))
QUICK = OverlapSetting(SMOLLM2, sets=6, shots=(2, 4, 8), items=8, descents=DESCENTS, epochs=(1, 3))
FULL = OverlapSetting(
    AGNEWS, sets=3, shots=(2, 4, 8), items=250, descents=SWEEP, epochs=(1, 2, 5, 10, 20, 50, 100, 150, 200)
)
SMALLER = (
    f"{REDUCED}; {QUICK.items} questions, one rate of the paper's for the whole model and one for its parts, 3 epochs "
    "instead of 200."
)
PRINTED = "above every curve of training (LLaMA-7B, AGNews)"
PERSISTENT = "no number from 1 to 8 closes the gap (LLaMA-7B, AGNews)"


def claim(
    name: str, statement: str, source: str, rules: tuple[Rule, ...], measure: Callable[..., Measurement]
) -> Claim:
    """A claim on the study of this module."""
    return Claim(
        id=f"shen2024.{name}",
        statement=statement,
        source=source,
        rules=rules,
        measure=measure,
        quick=QUICK,
        full=FULL,
        quick_seconds=14,
        quick_gigabytes=2.4,
        full_hours=0.1,
        reduced=SMALLER,
        study=COMPARISON,
        missing=missing_source,
        version=2,
    )


CLAIMS = (
    claim(
        "descent-needs-more-demonstrations",
        "From as many demonstrations, in-context learning answers far more accurately than fine-tuning on them, over "
        "the whole vocabulary: by 0.2 and more at the most demonstrations.",
        "Section 5, Table 1",
        (
            Rule(
                ACCURACY_GAP,
                low=0.2,
                printed="0.26 to 0.33 (8 demonstrations against what 512 reach; LLaMA-7B)",
            ),
        ),
        measure_accuracy,
    ),
    claim(
        "the-accuracy-gap-is-partly-format",
        "Part of the gap of accuracy between in-context learning and fine-tuning is the format of the answer: among "
        "the label words alone it is smaller. (A control that the paper lacks).",
        "Section 5, a control",
        (Rule(FORMAT_SHARE, low=0.0),),
        measure_format,
    ),
    claim(
        "token-overlap-stays-below-reading",
        "The most probable tokens after fine-tuning overlap with those of in-context learning less than those of "
        "in-context learning in another order do, at every rate and epoch and for every number of demonstrations but "
        "one.",
        "Section 5, Figure 5",
        tuple(Rule(overlap_gap(f"N = {n}"), low=0.0, printed=PRINTED) for n in QUICK.shots),
        measure_overlap,
    ),
    claim(
        "overlap-cosine-stays-below-reading",
        "The overlap cosine of fine-tuning with in-context learning stays below that of in-context learning in "
        "another order, at every rate and epoch and in every variant of the cosine.",
        "Section 5, Figure 5",
        tuple(Rule(cosine_gap(p), low=0.0, printed=PRINTED) for p in PENALTIES),
        measure_cosine,
    ),
    claim(
        "matching-accuracy-is-not-matching-answers",
        "Where fine-tuning is as accurate as in-context learning, its answers are still not the same: token overlap "
        "and overlap cosine stay below the reference line.",
        "Section 5, Figure 5",
        (
            Rule(overlap_gap(MATCHED), low=0.0, printed=PRINTED),
            Rule(cosine_gap(MATCHED), low=0.0, printed=PRINTED),
        ),
        measure_matched,
    ),
    claim(
        "training-a-part-does-not-help",
        "Training the value matrix of one middle or deep layer alone, as a proxy for descent on a smaller inner "
        "model, does not bring the answers to those of in-context learning either.",
        "Section 5, Figure 5",
        tuple(Rule(overlap_gap(part), low=0.0, printed=PRINTED) for part in PARTS[1:]),
        measure_parts,
    ),
    claim(
        "more-demonstrations-do-not-close-the-gap",
        "The gap of token overlap between in-context learning and fine-tuning does not close with more "
        "demonstrations: at the most it is at least half of what it is at two.",
        "Section 5",
        (Rule(GAP_DECREASE, low=0.0, printed=PERSISTENT),),
        measure_more,
    ),
    claim(
        "training-beats-no-training",
        "Fine-tuning on the demonstrations brings the answers nearer to those of in-context learning than the zero-"
        "shot answers are, and than an untrained network's; otherwise overlap would measure format alone. (A control "
        "that the paper lacks).",
        "Section 5, a control",
        (Rule(OVER_ZERO_SHOT, low=0.0), Rule(OVER_UNTRAINED, low=0.0)),
        measure_controls,
    ),
    Claim(
        id="shen2024.one-demonstration-is-its-own-order",
        statement=(
            "With one demonstration there is one order only, so the reference line, the token overlap and the overlap "
            "cosine of in-context answers between two orders of the same demonstrations, starts at exactly 1."
        ),
        source="Section 5, the reference line ICL against ICL",
        rules=(
            Rule(with_one("token overlap"), low=1.0, high=1.0, printed="1"),
            Rule(with_one("overlap cosine"), low=1.0, high=1.0, printed="1"),
        ),
        measure=measure_reference_line,
        quick=IdentitySetting(SMOLLM2, sets=2, shots=(1, 2, 4, 8), items=4),
        full=IdentitySetting(AGNEWS, sets=100, shots=(1, 2, 4, 8), items=16),
        quick_seconds=10,
        quick_gigabytes=0.3,
        full_hours=0.5,
        reduced=f"{REDUCED}.",
        version=3,
        missing=missing_source,
    ),
)
