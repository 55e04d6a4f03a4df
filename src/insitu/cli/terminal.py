"""Output of commands: JSON, progress bars, warnings, errors."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

__all__ = [
    "console",
    "duration",
    "escaped",
    "print_json",
    "print_result",
    "progress_bar",
    "progress_by_stage",
    "refuse",
    "warn",
]

# Results go to standard output; progress and messages go to standard error.
console = Console(stderr=True)


def escaped(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")


def print_json(value: Any) -> None:
    """A value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def print_result(result: Any, text: str, page: "Path | None", *, as_json: bool) -> None:
    """A result with ``as_json()`` on standard output: as JSON, or as text that ends with where its page is."""
    if as_json:
        print_json(result.as_json())
        return
    sys.stdout.write(f"{text}\n")
    if page is not None:
        sys.stdout.write(f"The report is {page}.\n")


def duration(seconds: float) -> str:
    """A duration for people.

    Example:
        >>> [duration(seconds) for seconds in (0.3, 42.0, 200.0, 9000.0)]
        ['1 s', '42 s', '3 min', '2.5 h']
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def warn(message: str) -> None:
    """A warning as one line on standard error."""
    console.print(f"[yellow]warning:[/] {escaped(message)}", soft_wrap=True)


def refuse(message: str) -> int:
    """Print why the input cannot be used, as one paragraph; the exit code for it."""
    console.print(f"[bold red]error:[/] {escaped(' '.join(message.split()))}", soft_wrap=True)
    return 2


@contextmanager
def progress_bar(what: str, total: int, left: Callable[[], float] | None = None) -> "Iterator[Progress]":
    """A progress bar with the remaining time, from ``left`` if given; shown in a terminal only."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Left(ProgressColumn):
        """The predicted time."""

        def render(self, task: Task) -> Text:
            return Text(f"{duration(left())} left" if left else "")

    remaining = Left() if left else TimeRemainingColumn()
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), remaining)
    with Progress(
        *columns, TextColumn("{task.description}"), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        bar.add_task(what, total=total)
        yield bar


@contextmanager
def progress_by_stage(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar and what advances it by one: a function that takes the name of the stage."""
    with progress_bar(what, total) as bar:
        yield lambda stage: bar.update(bar.task_ids[0], advance=1, description=escaped(stage))
