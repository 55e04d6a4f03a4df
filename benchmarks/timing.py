"""Rows: two ways of the same work, timed in turn."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Row", "compare", "cpu_seconds", "row_of"]

# Short calls are repeated until they fill this many seconds.
LEAST = 0.02


@dataclass(frozen=True)
class Row:
    """How much longer the common way of a piece of work takes.

    Args:
        family: The module that measures it.
        work: What is done.
        size: What the figure has on its axis: prompts, tokens, functions.
        ours: CPU seconds of the library's way, the median over rounds.
        common: CPU seconds of the common way.
        ratio: The common way over ours, the median of the ratios within a round.
        low: The smallest ratio of a round.
        high: The largest.
    """

    family: str
    work: str
    size: int
    ours: float
    common: float
    ratio: float
    low: float
    high: float


def compare(
    family: str,
    work: str,
    size: int,
    ways: tuple[Callable[[], Tensor], Callable[[], Tensor]],
    rounds: int,
    tolerance: float,
) -> Row:
    """Check that the library's way and the common way agree, and time them in turn.

    Raises:
        RuntimeError: If they differ by more than ``tolerance`` of the largest number.
    """
    ours, common = (way() for way in ways)
    gap = (ours - common).abs().max() / ours.abs().max()
    if not gap <= tolerance:
        raise RuntimeError(f"{family}, {work}: the two ways differ by {gap:.1e} of the largest number")
    calls = [max(1, math.ceil(LEAST / max(cpu_seconds(way), 1e-6))) for way in ways]
    taken = [[cpu_seconds(way, count) for way, count in zip(ways, calls, strict=True)] for _ in range(rounds)]
    return row_of(family, work, size, taken)


def row_of(family: str, work: str, size: int, taken: list[list[float]]) -> Row:
    """The row of rounds, each the seconds of the library's way and of the common way."""
    ours, common = (statistics.median(times) for times in zip(*taken, strict=True))
    ratios = [theirs / mine for mine, theirs in taken]
    return Row(family, work, size, ours, common, statistics.median(ratios), min(ratios), max(ratios))


def cpu_seconds(way: Callable[[], object], calls: int = 1) -> float:
    """CPU time of a call, as the mean of several: others' work on the machine does not count."""
    start = time.process_time()
    for _ in range(calls):
        way()
    return (time.process_time() - start) / calls
