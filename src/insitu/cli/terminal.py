"""What every command shares: options, the terminal, a progress bar."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["DeviceChoice", "DeviceOption", "JsonOption", "SeedOption", "escaped", "print_json", "progress_bar", "told"]

told = Console(stderr=True)


class DeviceChoice(StrEnum):
    """The devices, as the command line spells them."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The root of all random streams.")]
DeviceOption = Annotated[DeviceChoice, typer.Option("--device", help="Where to compute; auto takes a GPU if any.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines on standard output.")]


def escaped(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")


def print_json(value: Any) -> None:
    """A value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Progress]:
    """A bar with the time that is left, shown where there is a terminal."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("{task.description}"), console=told, transient=True, disable=not told.is_terminal
    ) as bar:
        bar.add_task(what, total=total)
        yield bar
