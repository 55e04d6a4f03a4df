"""The conclusion of a comparison in sentences, as a recommendation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from insitu.language.measure.decision import CONFIDENCE, Bounded, Decision, Procedure
from insitu.report.lm_records import Records
from insitu.report.numbers import number
from insitu.report.sections import counted

__all__ = ["calibration", "collapses", "conclusion", "cost", "dependence", "full_batch", "headline", "share"]

HEADLINES = {
    "prompt": "Prompt rather than fine-tune",
    "fine-tune": "Fine-tune rather than prompt",
    "zero-shot": "No demonstrations are needed",
    "neither": "Neither prompting nor fine-tuning is worth it",
    "unclear": "Prompt or fine-tune: too little was measured",
    "open": "Prompt or fine-tune: these texts do not decide",
}
DASH = "\N{EN DASH}"


def headline(decision: Decision) -> str:
    """The conclusion in a few words."""
    return "Only prompting was measured" if decision.tuning is None else HEADLINES[decision.action]


def conclusion(decision: Decision) -> str:
    """The first sentence: the recommendation and its numbers."""
    if decision.tuning is None or decision.difference is None:
        return f"No rate was chosen for fine-tuning (--development), so it is not evaluated; {accuracies(decision)}."
    both, difference, zero_shot = accuracies(decision), gap(decision.difference), decision.zero_shot
    without = f"Without demonstrations it is {share(zero_shot.accuracy.value)} ({interval(zero_shot)})."
    return {
        "prompt": f"Prompt rather than fine-tune: {both}, {difference}. {without}",
        "fine-tune": f"Fine-tune rather than prompt: {both}, {difference}. {without}",
        "zero-shot": "Use no demonstrations: without any, and with the answer restricted to the labels, "
        f"{share(zero_shot.accuracy.value)} of the texts get the right label ({interval(zero_shot)}), as many as with "
        f"any other way; {both}.",
        "neither": f"Use neither with this model, as far as was measured: {both}, and giving every text the commonest "
        f"label is right for {share(decision.commonest)}. Other words (--template) or a larger model may change that. "
        f"{without}",
        "unclear": f"Measure more before you choose: {both}, which may be no more than giving every text the commonest "
        f"label, {share(decision.commonest)}. {without} {narrower(decision)}",
        "open": f"Prompt, since no benefit of fine-tuning is established: {both}, {difference}, which may be chance. "
        f"{without} {narrower(decision)}",
    }[decision.action]


def accuracies(decision: Decision) -> str:
    """The accuracies of prompting and fine-tuning, each with its interval."""
    prompting, tuning = decision.prompting, decision.tuning
    words = (
        f"with {counted(decision.shots, 'demonstration')}, prompting gives {share(prompting.accuracy.value)} of the "
        f"texts the right label ({share(CONFIDENCE)} interval {interval(prompting)})"
    )
    if tuning is None:
        return words
    return f"{words} and fine-tuning on the same demonstrations {share(tuning.accuracy.value)} ({interval(tuning)})"


def interval(way: Procedure) -> str:
    """The interval of an accuracy."""
    return f"{percent(way.accuracy.low)} to {share(way.accuracy.high)}"


def gap(difference: Bounded) -> str:
    """How many points more or fewer fine-tuning gets right, with the interval in the same direction."""
    points = [100 * v for v in (difference.value, difference.low, difference.high)]
    if difference.value < 0:
        points = [-points[0], -points[2], -points[1]]
    value, low, high = (f"{p:.0f}".replace("-0", "0").replace("-", "\N{MINUS SIGN}") for p in points)
    return f"{value} points {'fewer' if difference.value < 0 else 'more'} ({low} to {high})"


def narrower(decision: Decision) -> str:
    """The data that would narrow the interval of the difference most, four times as much for half its width."""
    sets, _, items = decision.prompting.hits.shape
    what = {
        "sets": f"{4 * sets} demonstration sets (--sets {4 * sets})",
        "items": f"{4 * items} texts (--items {4 * items})",
    }
    return f"To decide, measure {what[decision.limit]}: their number limits the width of the interval most."


def share(value: float) -> str:
    """A share in per cent.

    Example:
        >>> share(0.954)
        '95\\xa0%'
    """
    return f"{percent(value)}\N{NO-BREAK SPACE}%"


def percent(value: float) -> str:
    return f"{100 * value:.0f}"


def calibration(decision: Decision) -> str:
    """How far the probabilities can be trusted."""
    parts = [
        f"{way.name} {bounded(way.calibration)} and {bounded(way.brier)}"
        for way in decision.procedures
        if way.name != "calibrated prompting"
    ]
    return f"Expected calibration error and Brier score (0 is best): {'; '.join(parts)}."


def bounded(value: Bounded) -> str:
    """A number with its interval."""
    return f"{number(value.value, 2)} ({number(value.low, 2)} to {number(value.high, 2)})"


def dependence(decision: Decision, records: Records) -> str:
    """How much accuracy depends on which demonstrations are drawn, and on their order."""
    parts = [f"prompting by {spread(decision.prompting.components.demonstrations)} points"]
    parts.append(f"in another order by {spread(decision.prompting.components.order)}")
    if decision.tuning is not None:
        parts.append(f"fine-tuning by {spread(decision.tuning.components.demonstrations)}{order_of_training(records)}")
    return f"Other demonstrations change the accuracy of {', '.join(parts)} (standard deviations)."


def order_of_training(records: Records) -> str:
    """The effect of the order of demonstrations on fine-tuning."""
    summed = ", their order by nothing, since a full-batch gradient is a sum"
    return summed if full_batch(records) else ", including their order"


def full_batch(records: Records) -> bool:
    """Whether all training was on full batches, which have no order."""
    return all(r["how"]["batch"] is None for r in records if "how" in r)


def spread(variance: float | None) -> str:
    """The standard deviation of a share in points; a dash where it was not measured."""
    return DASH if variance is None else f"{100 * math.sqrt(variance):.0f}"


def cost(decision: Decision) -> str:
    """The cost per text of either method, and the number of texts from which fine-tuning is cheaper."""
    prompting, tuning = decision.prompting, decision.tuning
    sentence = (
        f"For a text, prompting processes {prompting.tokens:.0f} tokens ({number(prompting.seconds, 2)} s here, where "
        "the demonstrations are processed once for all texts)"
    )
    if tuning is None:
        return f"{sentence}."
    sentence += (
        f" and fine-tuning {tuning.tokens:.0f} ({number(tuning.seconds, 2)} s) after {number(tuning.training, 2)} s of "
        "training, including the choice of rate and epochs"
    )
    if math.isinf(decision.worth_training):
        return f"{sentence}; that time is never recovered."
    return f"{sentence}; that time is recovered after {number(decision.worth_training, 2)} texts."


def collapses(records: Records) -> list[str]:
    """Which ways of training were given up, when and why."""
    broken: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for record in records:
        if record.get("collapsed"):
            broken.setdefault((record["arm"], record["shots"]), []).append(record)
    return [collapse_of(arm, shots, own, records) for (arm, shots), own in broken.items()]


def collapse_of(arm: str, shots: int, stopped: Sequence[Mapping[str, Any]], records: Records) -> str:
    sets = len({r["set"] for r in records})
    epochs = sorted({int(r["epochs"][len(r["development"]) - 1]) for r in stopped})
    reasons = "; ".join(dict.fromkeys(str(r["collapsed"]) for r in stopped))
    when = f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {epochs[0]} to {epochs[-1]}"
    where = f"{counted(shots, 'demonstration')}, {len(stopped)} of {counted(sets, 'set')}"
    return f"{arm} ({where}) collapsed by {when} and was stopped: {reasons}."
