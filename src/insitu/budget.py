"""Time budgets: long work asks whether its time is over, stores what it has and stops; the same command goes on."""

import contextlib
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import final

from insitu.errors import InputError

__all__ = ["Budget", "OutOfTimeError", "budget", "end_on_signals", "limited", "parse_duration"]

# What batch systems send before they kill: their own words for "your time is over".
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class OutOfTimeError(InputError):
    """The time of the work is over; what was done is stored, and the same command goes on from there."""


@final
class Budget:
    """Time that work may take.

    Args:
        seconds: How long, from now on; infinite for no limit.
        clock: What tells the time, in seconds.

    Example:
        >>> time_left = Budget(60.0)
        >>> time_left.spent
        False
        >>> time_left.end()
        >>> time_left.spent
        True
    """

    def __init__(self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.deadline = clock() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left; negative when the time is over."""
        return self.deadline - self.clock()

    @property
    def spent(self) -> bool:
        """Whether the time is over."""
        return self.left <= 0

    def end(self) -> None:
        """The time is over now."""
        self.deadline = -math.inf


class Current:
    """The budget of this process."""

    budget = Budget()


def budget() -> Budget:
    """The budget of this process; without a limit unless :func:`limited` or :func:`end_on_signals` gave it one."""
    return Current.budget


def end_on_signals(time_left: Budget) -> None:
    """Make this the budget of the process, which SIGTERM and SIGUSR1 end, for good."""
    Current.budget = time_left
    for number in SIGNALS:
        signal.signal(number, ender(time_left))


@contextlib.contextmanager
def limited(seconds: float = math.inf) -> Iterator[Budget]:
    """Give the process a budget for the work inside, which SIGTERM and SIGUSR1 end.

    Example:
        >>> with limited(seconds=60.0) as time_left:
        ...     budget() is time_left
        True
    """
    before, time_left = Current.budget, Budget(seconds)
    Current.budget = time_left
    # Only the main thread may say what happens at a signal.
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.signal(number, ender(time_left)) for number in SIGNALS} if main else {}
    try:
        yield time_left
    finally:
        Current.budget = before
        for number, handler in handlers.items():
            signal.signal(number, handler)


def ender(time_left: Budget) -> Callable[[int, FrameType | None], None]:
    return lambda _number, _frame: time_left.end()


def parse_duration(text: str) -> float:
    """Seconds from words such as ``90s``, ``9m``, ``1.5h`` or ``1h30m``; a bare number means seconds.

    Raises:
        InputError: If it is not a positive time.

    Example:
        >>> parse_duration("1h30m"), parse_duration("45")
        (5400.0, 45.0)
    """
    parts = re.findall(r"(\d+(?:\.\d*)?)([smhd]?)", text)
    whole = "".join(number + unit for number, unit in parts)
    seconds = sum(float(number) * UNITS[unit or "s"] for number, unit in parts)
    if whole != text or not 0 < seconds < math.inf:
        raise InputError(f"budget: expected a time such as 90s, 9m or 1h30m; got {text!r}.")
    return seconds
