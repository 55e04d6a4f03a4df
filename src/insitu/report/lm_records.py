"""What the pages of ``insitu lm`` take from records: arms, epochs, and measures with their errors over sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from insitu.figure import Line, line
from insitu.language.measure.compare import estimates
from insitu.language.measure.readings import READINGS
from insitu.metrics import Estimate
from insitu.report.numbers import number

__all__ = [
    "Records",
    "arms_of",
    "curve",
    "descents_of",
    "epochs_of",
    "fallback_of",
    "measures_of",
    "shots_of",
    "values",
    "with_error",
]

Records = Sequence[Mapping[str, Any]]


def fallback_of(records: Records) -> tuple[str, ...]:
    """What a model's self-test had done in place of short cuts that are not exact for it, as a sentence if anything."""
    said = list(dict.fromkeys(r["fallback"] for r in records if r.get("fallback")))
    return (
        (f"This model does not allow every short cut of a forward pass; its self-test chose {said[-1]}.",)
        if said
        else ()
    )


def values(records: Records, shots: int, arm: str, name: str) -> list[Estimate]:
    """A measure of an arm at every epoch that was looked at, with its error over sets."""
    return estimates([dict(r) for r in records], shots, arm, name)


def arms_of(records: Records) -> list[str]:
    """Readings first, in their usual order, then descents in the order of the records."""
    arms = list(dict.fromkeys(str(r["arm"]) for r in records))
    orders = sorted((arm for arm in arms if is_reading(arm) and arm not in READINGS), key=order_number)
    place = READINGS.index("orders averaged")
    usual = [*READINGS[:place], *orders, *READINGS[place:]]
    return [arm for arm in usual if arm in arms] + [arm for arm in arms if not is_reading(arm)]


def order_number(arm: str) -> int:
    """Which order an arm such as *order 3* reads."""
    return int(arm.split()[-1])


def is_reading(arm: str) -> bool:
    """Whether an arm is read, not trained."""
    return arm in READINGS or arm.startswith("order ")


def descents_of(records: Records) -> list[str]:
    """The ways of training."""
    return [arm for arm in arms_of(records) if not is_reading(arm)]


def shots_of(records: Records) -> list[int]:
    """The numbers of demonstrations."""
    return sorted({int(r["shots"]) for r in records})


def epochs_of(records: Records, arm: str) -> list[int]:
    """The epochs at which all sets of an arm were looked at; 0 for a reading."""
    looks = [list(r.get("looks", r.get("epochs", [0]))) for r in records if r["arm"] == arm]
    return min(looks, key=len)


def measures_of(records: Records, arm: str) -> list[str]:
    """What was measured of an arm."""
    return list(next(r for r in records if r["arm"] == arm)["measures"])


def with_error(estimate: Estimate) -> str:
    """A value and its error."""
    # Sets that differ by rounding alone do not differ.
    spread = estimate.error > 1e-9 * abs(estimate.value)
    return number(estimate.value, 3) + (f" ± {number(estimate.error, 2)}" if spread else "")


def curve(label: str, x: Sequence[float], points: Sequence[Estimate], colour: int, **how: Any) -> Line:
    """Estimates as a line with its band."""
    low, high = zip(*((e.value - e.error, e.value + e.error) for e in points), strict=True)
    spread = {"low": low, "high": high} if any(e.error for e in points) else {}
    return line(label, x, [e.value for e in points], colour=colour, **spread, **how)
