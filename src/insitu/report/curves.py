"""The learning curves of a training, from its metrics alone."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.figure import Figure, Line, Look, Panel, line
from insitu.report.figures import draw
from insitu.storage import write_atomically

__all__ = ["learning_curves", "write_curves"]

# One for each start of the same network.
LOOKS: tuple[Look, ...] = ("solid", "dashed", "dashdotted", "dotted")


def write_curves(metrics: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write ``curves.svg`` and ``curves.pdf``; the former's path."""
    drawing = draw(learning_curves(metrics))
    write_atomically(folder / "curves.svg", drawing.svg)
    write_atomically(folder / "curves.pdf", drawing.pdf)
    return folder / "curves.svg"


def learning_curves(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss against the step, one curve per network: a colour for each mask, or other name, dashes for each start."""
    metrics = [{"network": "", **row} for row in metrics if "loss" in row]
    names = list(dict.fromkeys(row["network"] for row in metrics))
    colours = {kind: i for i, kind in enumerate(dict.fromkeys(name.rpartition("-")[0] for name in names))}
    lines = [curve(metrics, name, colours[name.rpartition("-")[0]]) for name in names]
    panel = Panel("step", "loss, mean over steps", tuple(lines), x_scale="log", y_scale="log")
    return Figure((panel,), "Learning curves.", "Loss against the step, one curve per network.")


def curve(metrics: Sequence[Mapping[str, Any]], name: str, colour: int) -> Line:
    """One network's losses, as means over twentieths of a decade: a single step's loss is that of few prompts."""
    # A pretraining, whose one network has no name, counts its steps from one.
    points = [(row["step"] + bool(name), row["loss"]) for row in metrics if row["network"] == name]
    parts = [list(part) for _, part in itertools.groupby(points, key=lambda pair: round(20 * math.log10(pair[0])))]
    steps, losses = ([statistics.mean(pair[i] for pair in part) for part in parts] for i in (0, 1))
    start = name.rpartition("-")[2]
    look = LOOKS[int(start) % len(LOOKS)] if start.isdecimal() else LOOKS[0]
    return line(name, steps, losses, colour=colour, look=look)
