"""Figures as data, to be stored in a record and drawn from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError

__all__ = ["Figure", "Heatmap", "Line", "Look", "Panel", "heatmap", "line"]

AxisScale = Literal["linear", "log"]
Look = Literal["solid", "dashed", "points", "dotted", "dashdotted"]


@dataclass(frozen=True)
class Line:
    """One curve.

    Args:
        label: The entry in the legend; none if empty.
        x: The x coordinates.
        y: The y coordinates.
        low: Lower ends of the interval at each x; empty for none.
        high: Upper ends.
        look: *solid* for measurements, *dashed* for theory, *points* for single measurements, *dotted* and
            *dashdotted* for bounds and reference levels.
        colour: The index of a colour of the palette; -1 is the colour of the axes.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    look: Look = "solid"
    colour: int = 0

    def __post_init__(self) -> None:
        ends = [values for values in (self.low, self.high) if values]
        if any(len(values) != len(self.x) for values in (self.y, *ends)):
            sizes = [len(values) for values in (self.x, self.y, self.low, self.high)]
            raise InputError(f"Line {self.label!r}: x, y, low and high must be equally long; got {sizes}.")


@dataclass(frozen=True)
class Heatmap:
    """A matrix as an image, with one colour scale that starts at zero.

    Args:
        values: The rows.
        limit: The upper end of the colour scale (default: the largest value).
        first: The numbers of the first row and the first column.
    """

    values: tuple[tuple[float, ...], ...]
    limit: float | None = None
    first: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if len({len(row) for row in self.values}) != 1:
            raise InputError(f"Heatmap: rows must be equally long; got {[len(row) for row in self.values]}.")


@dataclass(frozen=True)
class Panel:
    """One pair of axes, with lines or one heat map.

    Args:
        x_label: The quantity on the x axis.
        y_label: The quantity on the y axis.
        lines: The curves.
        heatmap: The matrix, instead of curves.
        title: The heading.
        x_scale: Whether the x axis is logarithmic.
        y_scale: Whether the y axis is logarithmic.
        x_names: The names of the places 0, 1, ... of the x axis, where they are kinds and no numbers.
    """

    x_label: str
    y_label: str
    lines: tuple[Line, ...] = ()
    heatmap: Heatmap | None = None
    title: str = ""
    x_scale: AxisScale = "linear"
    y_scale: AxisScale = "linear"
    x_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """Panels side by side, with a caption and alternative text."""

    panels: tuple[Panel, ...]
    caption: str
    alt: str


def line(
    label: str,
    x: Float[Tensor, " place"] | Sequence[float],
    y: Float[Tensor, " place"] | Sequence[float],
    **how: object,
) -> Line:
    """A line from tensors or sequences; ``how`` are the other fields of :class:`Line`."""
    values = {k: floats(v) if k in ("low", "high") else v for k, v in how.items()}  # type: ignore[arg-type]
    return Line(label, floats(x), floats(y), **values)  # type: ignore[arg-type]


def heatmap(values: Float[Tensor, "row column"]) -> Heatmap:
    """A heat map from a matrix; NaN leaves a cell empty."""
    return Heatmap(tuple(tuple(float(v) for v in row) for row in values))


def floats(values: Float[Tensor, " place"] | Sequence[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
