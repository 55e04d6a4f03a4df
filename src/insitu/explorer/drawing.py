"""Pictures as SVG in milliseconds, in colours that follow the page: curves in a frame, and matrices with named rows.

Figures of reports are drawn by Matplotlib, which takes a quarter of a second for each: too long for a picture that
follows a finger.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, final

from insitu.figure import AxisScale, Line
from insitu.report.figures import COLOURS
from insitu.report.markup import Html, element
from insitu.report.numbers import number, power

__all__ = ["Axis", "Curves", "Matrix", "Note", "curves_svg", "matrix_svg", "standalone"]

# In units of the view box, which is about as many pixels wide on a phone.
WIDTH, HEIGHT = 420, 390
LEFT, RIGHT, BELOW = 52, 12, 46
LEGEND_ROW, CHARACTER, SAMPLE = 18, 6.6, 26
# Far outside of every frame; browsers draw no coordinate that is not finite.
FAR = 5000.0
DASHES = {"dashed": "7 4", "dotted": "1.5 4", "dashdotted": "8 3 2 3"}


@final
@dataclass(frozen=True)
class Axis:
    """One axis of a frame.

    Args:
        label: What it shows, with its unit.
        low: Its lower end.
        high: Its upper end.
        scale: *linear* or *log*.
        ticks: Where it is labelled; chosen where none are given.
    """

    label: str
    low: float
    high: float
    scale: AxisScale = "linear"
    ticks: tuple[float, ...] = ()

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; far outside for what the axis cannot show.

        Example:
            >>> Axis("", 1, 100, "log").share(10.0)
            0.5
        """
        if math.isnan(value):
            return FAR
        low, high = self.low, self.high
        if self.scale == "log":
            value = math.log(value) if 0 < value < math.inf else math.copysign(math.inf, value - 1)
            low, high = math.log(low), math.log(high)
        return max(-FAR, min(FAR, (value - low) / (high - low)))

    def labels(self) -> list[tuple[float, str]]:
        """The values that are labelled, with their labels."""
        if self.ticks:
            return [(t, number(t)) for t in self.ticks]
        if self.scale == "log":
            exponents = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            return [(10.0**e, number(10.0**e) if -2 < e < 3 else power(e)) for e in exponents]
        step = next(s for s in steps() if (self.high - self.low) / s <= 6)
        return [(k * step, number(k * step)) for k in range(math.ceil(self.low / step), int(self.high // step) + 1)]


def steps() -> Iterator[float]:
    """The distances that ticks may have: 1, 2 and 5 times powers of ten."""
    for exponent in range(-6, 9):
        yield from (k * 10.0**exponent for k in (1, 2, 5))


@final
@dataclass(frozen=True)
class Note:
    """A word at a point of a picture."""

    x: float
    y: float
    text: str
    colour: int = -1
    anchor: Literal["start", "middle", "end"] = "start"


@final
@dataclass(frozen=True)
class Curves:
    """Lines in a frame.

    Args:
        x: The horizontal axis.
        y: The vertical axis.
        lines: The lines; points of the ink's colour are drawn as rings.
        here: Where the state stands on the horizontal axis; none if it is not on it.
        notes: Words at points.
        square: Whether both axes have one unit.
    """

    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    here: float | None = None
    notes: tuple[Note, ...] = ()
    square: bool = False


@final
@dataclass(frozen=True)
class Matrix:
    """A matrix with named rows and columns; cells that are none are empty.

    Args:
        rows: The names of the rows.
        columns: The names of the columns.
        values: A number from -1 to 1 for each cell, or none.
        row_label: What a row is.
        column_label: What a column is.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    row_label: str
    column_label: str


def colour(index: int) -> str:
    """The colour of the page with a number of the palette; the ink for -1, greys below."""
    return {-1: "var(--axis-text)", -2: "var(--axis-line)", -3: "var(--underline)"}.get(index, f"var(--curve-{index})")


@dataclass(frozen=True)
class Frame:
    """Where data lie in the view box."""

    curves: Curves
    top: float
    width: float = WIDTH
    height: float = field(default=HEIGHT)

    def x(self, value: float) -> float:
        """The pixel of a horizontal value."""
        return LEFT + self.curves.x.share(value) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """The pixel of a vertical value."""
        bottom = self.height - BELOW
        return bottom - self.curves.y.share(value) * (bottom - self.top)


def curves_svg(given: Curves, name: str, alt: str) -> Html:
    """Lines in a frame as a picture.

    Args:
        given: The lines.
        name: Keeps the identifiers inside apart from those of other pictures on the page.
        alt: The picture in words.
    """
    legend, top = legend_of(given.lines)
    side = WIDTH - LEFT - RIGHT
    height = top + side + BELOW if given.square else HEIGHT
    frame = Frame(given, top, WIDTH, height)
    clip = element("clipPath", rectangle(frame, 4), id=f"clip-{name}")
    here = () if given.here is None else (vertical(frame, given.here),)
    drawn = [piece for line in given.lines for piece in line_pieces(frame, line)]
    notes = [note_text(frame, note) for note in given.notes]
    inside = element("g", *here, *drawn, clip_path=f"url(#clip-{name})")
    return picture(height, alt, element("defs", clip), *axes(frame), inside, *notes, *legend)


def picture(height: float, alt: str, *content: Html) -> Html:
    """An SVG element of the common width."""
    size = f"0 0 {WIDTH} {height:g}"
    return element("svg", *content, viewBox=size, role="img", aria_label=alt, class_="picture")


def standalone(svg: Html) -> str:
    """A picture as a file: its own namespace and font, light colours on white.

    Example:
        >>> "var(" in standalone(picture(10, "nothing", element("path", stroke=colour(0))))
        False
    """
    text = re.sub(r"var\(--([a-z0-9-]+)\)", lambda match: LIGHT[match[1]], svg)
    opening = '<svg xmlns="http://www.w3.org/2000/svg" font-family="system-ui, Helvetica, Arial, sans-serif"'
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return re.sub("<svg([^>]*)>", rf"{opening}\1>{ground}", text, count=1)


LIGHT = {name: light for name, (light, _) in COLOURS.items()} | {"paper": "#ffffff", "underline": "#b9c1ca"}


def text(x: float, y: float, words: str, size: float = 12.5, anchor: str = "start", **how: str) -> Html:
    where = {"x": f"{x:.1f}", "y": f"{y:.1f}", "font_size": f"{size:g}", "text_anchor": anchor}
    return element("text", words, **where, **{"fill": colour(-1), **how})


def path(*lines: Sequence[tuple[float, float]], **how: str) -> Html:
    """Lines through points, as one element: a browser's time goes by their number."""
    traces = ("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) for points in lines)
    return element("path", d="".join(traces), fill="none", **how)


def rectangle(frame: Frame, margin: float = 0.0) -> Html:
    low, high = frame.y(frame.curves.y.low), frame.y(frame.curves.y.high)
    width, height = frame.width - LEFT - RIGHT + 2 * margin, low - high + 2 * margin
    shape = {"x": LEFT - margin, "y": high - margin, "width": width, "height": height}
    return element("rect", **{k: f"{v:.1f}" for k, v in shape.items()}, fill="none")


def axes(frame: Frame) -> Iterator[Html]:
    """The grid, the labels of its lines, and what the axes show."""
    left, right = frame.x(frame.curves.x.low), frame.x(frame.curves.x.high)
    bottom, top = frame.y(frame.curves.y.low), frame.y(frame.curves.y.high)
    columns = [(frame.x(value), label) for value, label in frame.curves.x.labels()]
    rows = [(frame.y(value), label) for value, label in frame.curves.y.labels()]
    grid = [[(x, bottom), (x, top)] for x, _ in columns] + [[(left, y), (right, y)] for y, _ in rows]
    yield path(*grid, stroke="var(--grid)", stroke_width="1")
    yield from (text(x, bottom + 17, label, anchor="middle") for x, label in columns)
    yield from (text(left - 7, y + 4, label, anchor="end") for y, label in rows)
    yield path([(left, top), (left, bottom), (right, bottom)], stroke=colour(-2))
    yield text((left + right) / 2, bottom + 38, frame.curves.x.label, anchor="middle")
    middle = (top + bottom) / 2
    turn = f"rotate(-90 13 {middle:.1f})"
    yield text(13, middle, frame.curves.y.label, anchor="middle", transform=turn)


def vertical(frame: Frame, value: float) -> Html:
    """A line where the state stands."""
    x = frame.x(value)
    ends = [(x, frame.y(frame.curves.y.low)), (x, frame.y(frame.curves.y.high))]
    return path(ends, stroke=colour(-2), stroke_width="5", opacity="0.3")


def line_pieces(frame: Frame, line: Line) -> Iterator[Html]:
    """A line with the marks at its points and the intervals around them."""
    points = [(frame.x(x), frame.y(y)) for x, y in zip(line.x, line.y, strict=True)]
    ink = colour(line.colour)
    bars = [
        [(x, frame.y(low)), (x, frame.y(high))]
        for (x, y), low, high in zip(points, line.low, line.high, strict=False)
        if frame.top <= y <= frame.height - BELOW  # An interval around what lies outside says nothing.
    ]
    if bars:
        yield path(*bars, stroke=ink, stroke_width="1.2", opacity="0.55")
    if line.look == "points":
        yield marks(points, line.colour)
        return
    dashes = {"stroke_dasharray": DASHES[line.look]} if line.look in DASHES else {}
    width = "2.4" if line.look == "solid" else "1.6"
    yield path(points, stroke=ink, stroke_width=width, stroke_linejoin="round", **dashes)


def marks(points: Sequence[tuple[float, float]], index: int) -> Html:
    """Dots; rings in the colour of the ink, so that what lies inside is seen."""
    radius, look = (5.5, {"fill": "none", "stroke_width": "1.5"}) if index == -1 else (3.2, {})
    half = f"a{radius} {radius} 0 0 1"
    circles = (f"M{x - radius:.1f} {y:.1f}{half} {2 * radius} 0{half} {-2 * radius} 0" for x, y in points)
    kind = "stroke" if index == -1 else "fill"
    return element("path", d="".join(circles), **{kind: colour(index), **look})


def note_text(frame: Frame, note: Note) -> Html:
    x, y = frame.x(note.x), frame.y(note.y)
    halo = {"stroke": "var(--paper)", "stroke_width": "3", "paint_order": "stroke"}
    return text(x, y, note.text, 12, note.anchor, **halo, fill=colour(note.colour))


def legend_of(lines: Sequence[Line]) -> tuple[list[Html], float]:
    """The legend above a frame, and where the frame begins below it."""
    pieces: list[Html] = []
    x, row = 4.0, 0
    for line in [line for line in lines if line.label]:
        width = SAMPLE + 6 + CHARACTER * len(line.label) + 14
        if x > 4 and x + width > WIDTH:
            x, row = 4.0, row + 1
        pieces += sample(line, x, 11 + LEGEND_ROW * row)
        x += width
    return pieces, 26 + LEGEND_ROW * row


def sample(line: Line, x: float, y: float) -> list[Html]:
    """An entry of the legend."""
    if line.look == "points":
        shown = marks([(x + SAMPLE / 2, y)], line.colour)
    else:
        dashes = {"stroke_dasharray": DASHES[line.look]} if line.look in DASHES else {}
        shown = path([(x, y), (x + SAMPLE, y)], stroke=colour(line.colour), stroke_width="2.4", **dashes)
    return [shown, text(x + SAMPLE + 6, y + 4, line.label)]


def matrix_svg(given: Matrix, alt: str) -> Html:
    """A matrix as a picture: warm for positive cells, cold for negative ones, a dot for zero, nothing for none."""
    count = len(given.columns)
    left, top = 66.0, 54.0
    size = min((WIDTH - left - RIGHT) / count, 40.0)
    middle = left + size * count / 2
    height = top + size * len(given.rows) + 12
    pieces = [text(middle, 14, given.column_label, anchor="middle")]
    turn = f"rotate(-90 13 {(top + height) / 2:.1f})"
    pieces.append(text(13, (top + height) / 2, given.row_label, anchor="middle", transform=turn))
    for j, name in enumerate(given.columns):
        pieces.append(text(left + size * (j + 0.5), top - 8, name, anchor="middle"))
    for i, (name, values) in enumerate(zip(given.rows, given.values, strict=True)):
        y = top + size * i
        pieces.append(text(left - 8, y + size / 2 + 4, name, anchor="end"))
        pieces += [cell(left + size * j, y, size, value) for j, value in enumerate(values)]
    return picture(height, alt, *pieces)


def cell(x: float, y: float, size: float, value: float | None) -> Html:
    """One cell; its colour is the number, the frame says that there is one."""
    shape = {"x": f"{x + 1.5:.1f}", "y": f"{y + 1.5:.1f}", "width": f"{size - 3:.1f}", "height": f"{size - 3:.1f}"}
    if value is None:
        return element("rect", **shape, rx="4", fill="var(--grid)", opacity="0.45")
    ink = colour(0 if value < 0 else 1)
    strength = f"{0.12 + 0.88 * min(1.0, abs(value)):.2f}"
    return element("rect", **shape, rx="4", fill=ink, fill_opacity=strength, stroke=ink)
