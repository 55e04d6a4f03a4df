"""Errors and warnings about the caller's input.

One class for wrong input, and the checks of parameters. A message names the function or class, the rule, the value,
and a remedy; the command line prints it as one paragraph and exits with 2.
"""

import difflib
import importlib.util
import numbers
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "InputError",
    "StepSizeWarning",
    "near_matches",
    "out_of_memory",
    "require_count",
    "require_flag",
    "require_not_negative",
    "require_one_of",
    "require_package",
    "shortened",
]


class InputError(ValueError):
    """The caller's input is wrong; the message says what was expected and what to do."""


class StepSizeWarning(UserWarning):
    """A learning rate is above the limit of convergence.

    Args:
        message: The message.
        limit: The limit.
    """

    def __init__(self, message: str, limit: float) -> None:
        super().__init__(message)
        self.limit = limit


def require_not_negative(who: str, name: str, value: Any, *, zero: bool = True) -> None:
    """Refuse a number that is negative, not finite or not a number at all.

    Raises:
        InputError: If ``value`` is not a finite number, is below zero, or is zero where ``zero`` is not allowed.
    """
    bound = "not be negative" if zero else "be positive"
    number: bool = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = number and bool(abs(value) <= sys.float_info.max)
    if not number or value < 0 or (value == 0 and not zero):
        raise InputError(f"{who}: {name} must be a finite number and {bound}; got {value!r}.")


def require_count(who: str, name: str, value: Any, *, least: int = 0) -> None:
    """Refuse anything that is not a whole number of at least ``least``.

    Raises:
        InputError: If ``value`` is not an ``int`` or is below ``least``.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{who}: {name} must be a whole number of at least {least}; got {value!r}.")


def require_one_of(who: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        InputError: If ``value`` is not among ``choices``.
    """
    if value not in choices:
        *others, last = map(repr, choices)
        raise InputError(f"{who}: {name} must be {', '.join(others)} or {last}; got {value!r}.")


def require_flag(who: str, name: str, value: Any) -> None:
    """Refuse anything but a ``bool``, such as the string "no", which is true in Python.

    Raises:
        InputError: If ``value`` is not a ``bool``.
    """
    if not isinstance(value, bool):
        raise InputError(f"{who}: {name} must be true or false; got {value!r}.")


def require_package(who: str, module: str, extra: str, otherwise: str = "") -> None:
    """Refuse to go on without a package that not everybody needs.

    Args:
        who: What needs it.
        module: The name by which it is imported.
        extra: The extra of insitu that installs it.
        otherwise: Another way out, as the end of the sentence.

    Raises:
        InputError: If it is not installed.

    Example:
        >>> require_package("insitu play", "no_such_package", "games", ", or play outside")
        Traceback (most recent call last):
            ...
        insitu.errors.InputError: insitu play needs the package no_such_package, which is not installed. Install it \
with pip install 'insitu[games]', or play outside.
    """
    # What is loaded is there, even without a specification of its own.
    if sys.modules.get(module) is None and importlib.util.find_spec(module) is None:
        raise InputError(
            f"{who} needs the package {module}, which is not installed. Install it with pip install "
            f"'insitu[{extra}]'{otherwise}."
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had, of this machine or of its GPU.

    Example:
        >>> out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
        True
    """
    message = str(error)
    return isinstance(error, MemoryError) or ("memory" in message and "alloc" in message)


def shortened(text: str, length: int = 80) -> str:
    """Text cut to a maximum length.

    Example:
        >>> shortened("abcdefgh", 5)
        'abcde…'
    """
    return text if len(text) <= length else text[:length] + "…"


# More choices than these fill a screen.
MANY = 40


def near_matches(word: str, choices: Iterable[str]) -> str:
    """A clause that names the choices nearest to ``word``, or all of them if none is near, the first forty of many.

    Example:
        >>> near_matches("Rigde", ["Ridge", "Zero"])
        'did you mean Ridge?'
        >>> near_matches("Xyzzy", map(str, range(100)))[-22:]
        '43, 44, and 60 others.'
    """
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    others = [f"and {len(names) - MANY} others"] if len(names) > MANY else []
    return f"there are: {', '.join(names[:MANY] + others)}."
