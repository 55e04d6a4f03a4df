"""What commands print: JSON, progress bars, warnings, refusals."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["console", "escaped", "print_json", "progress_bar", "refuse", "warn"]

# Standard output holds results alone; everything said on the way there goes to standard error.
console = Console(stderr=True)


def escaped(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")


def print_json(value: Any) -> None:
    """A value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def warn(message: str) -> None:
    """A warning as one line on standard error."""
    console.print(f"[yellow]warning:[/] {escaped(message)}", soft_wrap=True)


def refuse(message: str) -> int:
    """Print why the input cannot be used, as one paragraph; the exit code for it."""
    console.print(f"[bold red]error:[/] {escaped(' '.join(message.split()))}", soft_wrap=True)
    return 2


@contextmanager
def progress_bar(what: str, total: int) -> "Iterator[Progress]":
    """A bar with the time that is left, shown where there is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("{task.description}"), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        bar.add_task(what, total=total)
        yield bar
