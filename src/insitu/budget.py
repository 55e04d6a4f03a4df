"""Time budgets: long work checks its budget, stores its state and stops; the same command resumes it.

Work that has nothing to store looks at no clock: a timer cuts it short, in the middle of whatever it does.
"""

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

__all__ = ["Budget", "OutOfTimeError", "begin", "budget", "elapsed", "end_on_signals", "limited", "parse_duration"]

# Signals that batch systems send before they kill a process.
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)]
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class OutOfTimeError(InputError):
    """The budget is spent; finished work is stored, and the same command resumes it."""


@final
class CutShort(BaseException):
    """Raised by the timer in the middle of any step; :func:`limited` turns it into :class:`OutOfTimeError`.

    Like ``KeyboardInterrupt`` it is no ``Exception``, so that code which tries something and goes on cannot swallow it.
    """


@final
class Budget:
    """A limit on the time that work takes.

    Args:
        seconds: The limit, from now on; infinite for none.
        clock: A clock, in seconds.

    Attributes:
        stored: What a later sitting finds, in words; work that is cut short keeps it up to date.
        advanced: Whether anything was stored; a sitting that stores nothing is too short.

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
        self.stored = "what is finished is stored"
        self.advanced = False

    @property
    def left(self) -> float:
        """The remaining seconds; negative when the budget is spent."""
        return self.deadline - self.clock()

    @property
    def spent(self) -> bool:
        """Whether no time remains."""
        return self.left <= 0

    def end(self) -> None:
        """Spend the rest of the budget at once."""
        self.deadline = -math.inf

    def over(self) -> "OutOfTimeError":
        """What is raised when it is spent: the message says what is stored."""
        longer = "" if self.advanced else " Nothing was stored in this sitting, which has to be longer."
        return OutOfTimeError(
            f"the time is over: {self.stored}.{longer} The same command with --resume or --budget continues from there."
        )


class Current:
    """The budget of this process, and when its command began."""

    budget = Budget()
    begun = time.monotonic()


def begin() -> None:
    """A command begins: budgets count from here, with the time that its libraries take to load."""
    Current.begun = time.monotonic()


def elapsed() -> float:
    """The seconds since the command began.

    Example:
        >>> begin()
        >>> elapsed() < 60
        True
    """
    return time.monotonic() - Current.begun


def budget() -> Budget:
    """The budget of this process; without limit unless :func:`limited` or :func:`end_on_signals` set one."""
    return Current.budget


def end_on_signals(time_left: Budget) -> None:
    """Make this the budget of the process, to be ended by SIGTERM and SIGUSR1."""
    Current.budget = time_left
    for number in SIGNALS:
        signal.signal(number, ender(time_left))


@contextlib.contextmanager
def limited(seconds: float = math.inf, grace: float = math.inf) -> Iterator[Budget]:
    """A context with a budget for the process, to be ended by SIGTERM and SIGUSR1.

    Args:
        seconds: The limit, which work is expected to check.
        grace: How many seconds later work that goes on is cut short; infinite for never.

    Raises:
        OutOfTimeError: If work was cut short; the message says what is stored.

    Example:
        >>> with limited(seconds=60.0) as time_left:
        ...     budget() is time_left
        True
    """
    before, time_left = Current.budget, Budget(seconds)
    Current.budget = time_left
    timer = Timer(time_left, grace)
    try:
        # Only the main thread may set signal handlers.
        with timer if threading.current_thread() is threading.main_thread() else contextlib.nullcontext():
            yield time_left
    except (CutShort, Exception) as error:
        # Libraries may wrap what the timer raised into errors of their own.
        if not timer.fired or isinstance(error, OutOfTimeError):
            raise
        raise time_left.over() from None
    finally:
        Current.budget = before


@final
class Timer:
    """Handles the signals that end a budget, and raises :class:`CutShort` a grace period after its end."""

    def __init__(self, time_left: Budget, grace: float) -> None:
        self.time_left, self.grace = time_left, grace
        self.fired = False

    def __enter__(self) -> None:
        self.before = {number: signal.signal(number, self.end) for number in SIGNALS}
        if hasattr(signal, "SIGALRM"):
            # A timer around this one goes on when this one is gone.
            self.begun, (self.outer, _) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, 0.0)
            self.before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self.cut)
            self.arm(self.time_left.left + self.grace)

    def __exit__(self, *error: object) -> None:
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if hasattr(signal, "SIGALRM") and self.outer:
            self.arm(self.outer - (time.monotonic() - self.begun))

    def arm(self, seconds: float) -> None:
        """Cut work short after so many seconds, and again every two, for code that ignores an exception."""
        if hasattr(signal, "SIGALRM") and seconds < math.inf:
            signal.setitimer(signal.ITIMER_REAL, min(max(seconds, 1e-3), 1e8), 2.0)

    def end(self, number: int, frame: FrameType | None) -> None:
        """What a signal does."""
        self.time_left.end()
        self.arm(self.grace)

    def cut(self, number: int, frame: FrameType | None) -> None:
        """What the timer does."""
        self.fired = True
        self.time_left.end()
        raise CutShort


def ender(time_left: Budget) -> Callable[[int, FrameType | None], None]:
    return lambda _number, _frame: time_left.end()


def parse_duration(text: str) -> float:
    """Seconds from text such as ``90s``, ``9m``, ``1.5h`` or ``1h30m``; a bare number means seconds.

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
