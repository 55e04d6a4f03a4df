"""Prompt or fine-tune: what the records of a comparison say to someone who has to choose.

Answers are those among the labels. Every number has an interval over demonstration sets and items at once, see
:mod:`insitu.metrics.crossed`; differences are paired on the same sets and items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from insitu.language.measure.readings import ICL, ZERO_SHOT
from insitu.metrics import Estimate
from insitu.metrics.crossed import Components, calibration_interval, proportion_interval, variance_components
from insitu.metrics.distributions import brier_score, calibration_error
from insitu.seed import Seed

__all__ = ["CONFIDENCE", "Bounded", "Decision", "Procedure", "chosen_training", "decide"]

CONFIDENCE = 0.95
Action = Literal["prompt", "fine-tune", "zero-shot", "neither", "unclear", "open"]
Records = Sequence[Mapping[str, Any]]


@final
@dataclass(frozen=True)
class Bounded:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, eq=False)
class Procedure:
    """A way of labelling texts, as it was measured.

    Args:
        name: What it is.
        hits: Whether each answer is right.
        accuracy: The share of right answers.
        components: Where the variance of a right answer comes from.
        brier: The Brier score, between 0 and 2.
        calibration: The expected calibration error of all answers together.
        tokens: How many tokens it reads for a text.
        seconds: How many seconds it takes for a text here.
        training: How many seconds it is trained before, with the choice of rate and epochs.
    """

    name: str
    hits: Bool[Tensor, "set order item"]
    accuracy: Bounded
    components: Components
    brier: Bounded
    calibration: Bounded
    tokens: float
    seconds: float
    training: float = 0.0


@final
@dataclass(frozen=True)
class Decision:
    """What to do with so many demonstrations.

    Args:
        shots: How many demonstrations.
        action: What the intervals say: *open* where they do not tell prompting and fine-tuning apart; *zero-shot*
            where as many answers are right without demonstrations; *neither* where no way has more right answers than
            one label for all, *unclear* where some have, but perhaps by chance.
        zero_shot: Answers without demonstrations.
        prompting: Reading the demonstrations.
        calibrated: Reading them, the labels weighed by contextual calibration.
        tuning: Training on them; none if rate and epochs were not chosen.
        difference: How much more of the answers are right with fine-tuning than with prompting.
        commonest: The share of the commonest label among the questions.
        limit: What holds the interval of the difference wide: *sets* or *items*.
    """

    shots: int
    action: Action
    zero_shot: Procedure
    prompting: Procedure
    calibrated: Procedure
    tuning: Procedure | None
    difference: Bounded | None
    commonest: float
    limit: str

    @property
    def procedures(self) -> list[Procedure]:
        """All ways of labelling."""
        ways = (self.zero_shot, self.prompting, self.calibrated, self.tuning)
        return [way for way in ways if way is not None]

    def as_json(self) -> dict[str, Any]:
        """All numbers, as plain JSON."""
        ways = [
            {"name": way.name, **{name: vars(getattr(way, name)) for name in ("accuracy", "brier", "calibration")}}
            | {"tokens": way.tokens, "seconds": way.seconds, "training_seconds": way.training}
            for way in self.procedures
        ]
        difference = None if self.difference is None else vars(self.difference)
        return {"shots": self.shots, "action": self.action, "difference": difference, "ways": ways}

    @property
    def worth_training(self) -> float:
        """From how many texts on the time of training is won back; infinite if never."""
        if self.tuning is None or self.prompting.seconds <= self.tuning.seconds:
            return math.inf
        return self.tuning.training / (self.prompting.seconds - self.tuning.seconds)


def decide(records: Records, shots: int) -> Decision:
    """Compare the ways of labelling with so many demonstrations."""
    own = whole_sets([r for r in records if r["shots"] == shots])
    zero_shot = procedure("zero-shot", [[next(r for r in own if r["arm"] == ZERO_SHOT)]])
    prompting = procedure("prompting", orders_read(own))
    calibrated = procedure("calibrated prompting", [[r] for r in by_set(own) if r["arm"] == "calibrated"])
    trained = chosen_training(own)
    tuning = procedure("fine-tuning", [[r] for r in trained], training_seconds(own)) if trained else None
    difference = None if tuning is None else gap(tuning.hits, prompting.hits)
    return Decision(
        shots,
        action_of(zero_shot, prompting, tuning, commonest_hits(own)),
        zero_shot,
        prompting,
        calibrated,
        tuning,
        None if difference is None else bounded(difference, prompting.hits.shape[-1]),
        commonest_hits(own).double().mean().item(),
        widest(difference or prompting.components),
    )


def whole_sets(records: Records) -> list[Mapping[str, Any]]:
    """The records of the sets that every arm has; a folder may hold those of other settings besides."""
    sets: dict[str, set[int]] = {}
    for r in records:
        sets.setdefault(str(r["arm"]), set()).add(int(r["set"]))
    common = set.intersection(*sets.values())
    return [r for r in records if r["set"] in common]


def by_set(records: Records) -> list[Mapping[str, Any]]:
    return sorted(records, key=lambda r: int(r["set"]))


def orders_read(records: Records) -> list[list[Mapping[str, Any]]]:
    """The records of each set in its different orders; the order drawn comes first."""
    found: dict[int, dict[tuple[int, ...], Mapping[str, Any]]] = {}
    for r in by_set(records):
        if r["arm"] == ICL or r["arm"] == "another order" or r["arm"].startswith("order "):
            found.setdefault(r["set"], {}).setdefault(tuple(r["order"]), r)
    fewest = min(map(len, found.values()))
    return [list(own.values())[:fewest] for own in found.values()]


def chosen_training(records: Records) -> list[Mapping[str, Any]]:
    """Of each set the way of training with the smallest loss on development rows; none if nothing was chosen."""
    trained = [r for r in by_set(records) if r.get("development")]
    sets = dict.fromkeys(int(r["set"]) for r in trained)
    return [min((r for r in trained if r["set"] == s), key=chosen_loss) for s in sets]


def chosen_loss(record: Mapping[str, Any]) -> float:
    """The loss on development rows after the chosen epoch; infinite if training broke the model at once."""
    epochs = list(record["epochs"])
    return (
        float(record["development"][epochs.index(record["chosen"])]["loss"]) if record["chosen"] in epochs else math.inf
    )


def training_seconds(records: Records) -> float:
    """How long all ways of training took for a set, which is what choosing among them costs."""
    trained = [r for r in records if r.get("development")]
    return sum(float(r["training seconds"]) for r in trained) / len({r["set"] for r in trained})


def procedure(name: str, records: Sequence[Sequence[Mapping[str, Any]]], training: float = 0.0) -> Procedure:
    """What the records of sets and orders say of a way of labelling."""
    p, right = probabilities(records)
    hits = p.argmax(-1) == right
    gold = torch.nn.functional.one_hot(right, p.shape[-1]).bool()
    components, brier = variance_components(hits.double()), variance_components(brier_score(p, gold.expand(p.shape)))
    error = calibration_error(p.flatten(0, -2), gold.expand(p.shape).flatten(0, -2)).item()
    flat = [r for own in records for r in own]
    seconds = sum(float(r.get("reading seconds", r["seconds"])) for r in flat)
    return Procedure(
        name,
        hits,
        Bounded(components.mean.value, *proportion_interval(components.mean, p.shape[2], CONFIDENCE)),
        components,
        within(brier.mean, 0.0, 2.0),
        Bounded(error, *calibration_interval(p, gold, Seed(0) / "calibration", confidence=CONFIDENCE)),
        sum(float(r["tokens"]) for r in flat) / len(flat),
        seconds / (len(flat) * p.shape[2]),
        training,
    )


def probabilities(
    records: Sequence[Sequence[Mapping[str, Any]]],
) -> tuple[Float[Tensor, "set order item label"], Tensor]:
    """The labels' probabilities of every answer, and the place of each item's label."""
    items = records[0][0]["items"]
    names = list(items[0]["probabilities"])
    found = [[[[i["probabilities"][n] for n in names] for i in r["items"]] for r in own] for own in records]
    return torch.tensor(found, dtype=torch.float64), torch.tensor([names.index(i["label"]) for i in items])


def gap(hits: Tensor, others: Tensor) -> Components:
    """The difference of two shares on the same items, means over orders; paired by set where both have sets."""
    one, other = (h.double().mean(1, keepdim=True) for h in (hits, others))
    return variance_components(one - other)


def bounded(difference: Components, items: int) -> Bounded:
    r"""A difference of shares with its interval.

    Where it is the same for every item, the interval is as wide as items that differ can stay unseen: a share of
    :math:`1 - \alpha^{1/I}` of them, the rule of three.
    """
    mean = difference.mean
    if mean.error:
        return within(mean, -1.0, 1.0)
    unseen = 1 - (1 - CONFIDENCE) ** (1 / items)
    return Bounded(mean.value, max(-1.0, mean.value - unseen), min(1.0, mean.value + unseen))


def within(mean: Estimate, least: float, most: float) -> Bounded:
    low, high = mean.interval(CONFIDENCE)
    return Bounded(mean.value, max(least, low), min(most, high))


def widest(difference: Components) -> str:
    """Whether more sets or more items would narrow an interval more."""
    sets, items = difference.demonstrations, difference.items
    return "sets" if sets is not None and sets > items else "items"


def commonest_hits(records: Records) -> Bool[Tensor, "1 1 item"]:
    """Which items have the commonest label."""
    labels = [item["label"] for item in records[0]["items"]]
    commonest = max(sorted(set(labels)), key=labels.count)
    return torch.tensor([label == commonest for label in labels])[None, None]


def action_of(zero_shot: Procedure, prompting: Procedure, tuning: Procedure | None, constant: Tensor) -> Action:
    """What the intervals of the differences say."""
    arms = [prompting] if tuning is None else [prompting, tuning]
    ways = (zero_shot, *arms)
    if not any(better(way.hits, constant) for way in ways):
        most = max(way.accuracy.value for way in ways)
        return "unclear" if most > constant.double().mean().item() else "neither"
    if all(zero_shot.accuracy.value >= way.accuracy.value for way in arms):
        return "zero-shot"
    if tuning is not None and better(tuning.hits, prompting.hits):
        return "fine-tune"
    if tuning is not None and better(prompting.hits, tuning.hits):
        return "prompt"
    return "open"


def better(hits: Tensor, others: Tensor) -> bool:
    """Whether the whole interval of a difference lies above zero."""
    return bounded(gap(hits, others), hits.shape[-1]).low > 0
