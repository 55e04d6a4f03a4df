"""Numbers with intervals, and how they are written."""

import math
from dataclasses import dataclass
from typing import final

__all__ = ["Interval", "shortest"]

# Relative half-widths below which an interval is written as a deviation.
NARROW = 1e-4


@final
@dataclass(frozen=True)
class Interval:
    """A number and the values that the answers do not refute, at 99 %.

    Example:
        >>> str(Interval("rate", 0.41, 0.38, 0.44)), str(Interval("rate", 0.4, 0.4 - 3e-9, 0.4 + 3e-9))
        ('rate 0.41 in [0.38, 0.44]', 'rate 0.4 ± 3e-09')
        >>> str(Interval("weight", 0.745802, 0.727069, 0.772286))
        'weight 0.746 in [0.727, 0.772]'
        >>> str(Interval("steps", 5, 5, 5)), str(Interval("steps", 1000, 800, math.inf))
        ('steps 5', 'steps at least 800')
        >>> str(Interval("momentum", 0.5, -math.inf, math.inf))
        'momentum not determined'
    """

    name: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        half = max(self.high - self.value, self.value - self.low)
        if not half:
            return f"{self.name} {self.value:.6g}"
        if math.isinf(self.low):
            return f"{self.name} not determined"
        if math.isinf(self.high):
            return f"{self.name} at least {self.low:.6g}"
        if half <= NARROW * abs(self.value):
            return f"{self.name} {self.value:.6g} ± {half:.1g}"
        # The last digit is at most a tenth of the half-width.
        decimals = 1 - math.floor(math.log10(half))
        value, low, high = (f"{round(number, decimals):.6g}" for number in (self.value, self.low, self.high))
        return f"{self.name} {value} in [{low}, {high}]"


def shortest(value: float, low: float, high: float) -> float:
    """The shortest decimal within a tenth of the interval's half-width of a value.

    Example:
        >>> shortest(0.2500000000003, 0.24999999999, 0.25000000001), shortest(0.26137, 0.25, 0.27)
        (0.25, 0.261)
    """
    room = min(high - value, value - low) / 10
    if abs(value) <= room:
        return 0.0
    for digits in range(1, 17):
        rounded = float(f"{value:.{digits}g}")
        if abs(rounded - value) <= room:
            return rounded
    return value
