"""Figures: a record's curves drawn by matplotlib, once as files on white and once for the page.

The page has light and dark colours, files have the light ones. Both come from the same drawing: in the copy for
the page every light colour is replaced by the name of a CSS variable. On the page each panel is its own picture,
so that panels stand side by side on a desk and below each other on a phone.
"""

import contextlib
import functools
import io
import json
import math
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

from insitu.device import available_cores
from insitu.figure import Figure, Heatmap, Line, Panel
from insitu.processes import process_context
from insitu.report.inline import WHITE, inline_picture
from insitu.report.markup import Html, element
from insitu.report.numbers import number, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas
    from matplotlib.figure import FigureBase
else:
    # Matplotlib loads when something is drawn; until then its classes are only names in annotations.
    Axes = Axis = Canvas = FigureBase = Any

__all__ = ["COLOURS", "Drawing", "colour_variables", "draw", "draw_all", "read_figure"]

# Light and dark value of every colour in a figure. Okabe and Ito's hues, which the colour-blind tell apart,
# with the lightness moved until each has 3:1 against its background.
CURVES = {
    "curve-0": ("#0072b2", "#56a8ec"),
    "curve-1": ("#d1550a", "#ff8f52"),
    "curve-2": ("#008f68", "#35c596"),
    "curve-3": ("#b0508b", "#eb9ccb"),
    "curve-4": ("#a87400", "#efb93c"),
    "curve-5": ("#2b8fc9", "#8ad0fa"),
    "curve-6": ("#7d2250", "#d97aa6"),
    "curve-7": ("#6d757e", "#a7b0ba"),
}
INKS = ("#1b2129", "#e3e7ec")


def towards(colour: str, other: str) -> str:
    """The colour half-way between two."""
    pairs = ((int(c[i : i + 2], 16) for c in (colour, other)) for i in (1, 3, 5))
    return "#" + "".join(f"{sum(pair) // 2:02x}" for pair in pairs)


def deep(curve: str) -> tuple[str, str]:
    """A curve's colours half-way to the ink: theory drawn over what it predicts stays visible."""
    light, dark = (towards(colour, ink) for colour, ink in zip(CURVES[curve], INKS, strict=True))
    return light, dark


COLOURS = {
    **CURVES,
    **{curve.replace("curve", "theory"): deep(curve) for curve in CURVES},
    "axis-text": INKS,
    "axis-line": ("#8c959f", "#6b7682"),
    "grid": ("#e6e9ed", "#2a313a"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
PALETTE = [LIGHT[name] for name in CURVES]
DEEP_PALETTE = [deep(name)[0] for name in CURVES]
VARIABLES = {light: name for name, light in LIGHT.items()}
INK, AXIS, GRID = LIGHT["axis-text"], LIGHT["axis-line"], LIGHT["grid"]
# The ends of the map for matrices: mid-tones that are seen on white and on black; zero is transparent.
NEGATIVE, POSITIVE = (0.13, 0.45, 0.75), (0.85, 0.37, 0.10)

# Any: matplotlib declares the type of every single setting.
LOOK: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": AXIS,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-3, 5),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    "figure.facecolor": WHITE,
    "svg.fonttype": "none",
    "svg.hashsalt": "insitu",
}
STROKES: dict[str, dict[str, Any]] = {
    "solid": {"linewidth": 2.0, "zorder": 3},
    "dashed": {"linewidth": 1.3, "linestyle": (0, (5, 2.6)), "zorder": 4},
    "dotted": {"linewidth": 1.4, "linestyle": (0, (1, 1.8)), "zorder": 2},
    "dashdotted": {"linewidth": 1.4, "linestyle": (0, (7, 2, 1.5, 2)), "zorder": 2},
    "points": {"linestyle": "none", "marker": "o", "markersize": 4.8, "zorder": 5},
}
MARKERS = "osD^vPXp"
# Dashes of lines that would look like an earlier one with another name.
MORE_DASHES = ((0, (9, 2.2)), (0, (2.6, 1.4)), (0, (1, 4.2)), (0, (7, 1.6, 1, 1.6, 1, 1.6)))

# Inches.
PANEL_WIDTH, PANEL_HEIGHT, AROUND_AXES, LEGEND_ROW = 3.7, 2.75, 0.75, 0.19
PER_ROW = 3
# Characters after which words are wrapped.
TITLE_WIDTH, X_WIDTH, Y_WIDTH, LEGEND_WIDTH, NAMES_WIDTH, LONGEST_NAME = 42, 46, 32, 42, 50, 14
# The largest number of points that a solid line marks.
FEW = 16
# The share of a height within which others are the same.
LEVEL = 1e-9
# Drawings that are kept: a page that is built again has the same figures, each of which takes half a second.
KEPT = 64
# A process for figures has to start first.
WORTH_A_PROCESS = 12


@final
@dataclass(frozen=True)
class Drawing:
    """A figure as files and as part of the page."""

    svg: bytes
    pdf: bytes
    inline: Html


@functools.lru_cache(KEPT)
def draw(figure: Figure) -> Drawing:
    """Draw a figure; one that was drawn lately is not drawn again."""
    with looks():
        whole = canvas(figure.panels)
        svg, pdf = saved(whole, "svg"), saved(whole, "pdf")
        panels = [saved(canvas([panel]), "svg") for panel in figure.panels] if len(figure.panels) > 1 else [svg]
    labels = [panel_label(panel) for panel in figure.panels] if len(panels) > 1 else [figure.alt]
    pictures = [inline_picture(panel, label, VARIABLES) for panel, label in zip(panels, labels, strict=True)]
    group = {"role": "group", "aria_label": figure.alt} if len(panels) > 1 else {}
    return Drawing(svg, pdf, element("div", *pictures, class_="panels", **group))


def draw_all(stored: Sequence[dict[str, Any]]) -> list[Drawing]:
    """Draw the figures of records, each once, in several processes where there are many: one takes half a second.

    Args:
        stored: The figures, as records hold them.
    """
    texts = [json.dumps(figure, sort_keys=True) for figure in stored]
    different = dict(zip(texts, stored, strict=True))
    workers = min(available_cores(), len(different) // WORTH_A_PROCESS)
    if workers < 2:
        drawings = list(map(draw_stored, different.values()))
    else:
        with ProcessPoolExecutor(workers, mp_context=process_context(__name__)) as pool:
            drawings = list(pool.map(draw_stored, different.values()))
    drawn = dict(zip(different, drawings, strict=True))
    return [drawn[text] for text in texts]


def draw_stored(stored: dict[str, Any]) -> Drawing:
    return draw(read_figure(stored))


def read_figure(stored: dict[str, Any]) -> Figure:
    """A figure from the plain JSON of a record."""
    return Figure(tuple(map(read_panel, stored["panels"])), stored["caption"], stored["alt"])


def read_panel(stored: dict[str, Any]) -> Panel:
    matrix = stored["heatmap"]
    heatmap = read_heatmap(matrix) if matrix else None
    names = tuple(stored.get("x_names", ()))
    return Panel(**{**stored, "lines": tuple(map(read_line, stored["lines"])), "heatmap": heatmap, "x_names": names})


def read_heatmap(stored: dict[str, Any]) -> Heatmap:
    row, column = stored.get("first", (0, 0))
    return Heatmap(tuple(map(numbers, stored["values"])), stored.get("limit"), (int(row), int(column)))


def read_line(stored: dict[str, Any]) -> Line:
    return Line(**{**stored, **{name: numbers(stored[name]) for name in ("x", "y", "low", "high")}})


def numbers(stored: Sequence[float | str]) -> tuple[float, ...]:
    """Numbers of a record, in which non-finite ones are text."""
    return tuple(map(float, stored))


def panel_label(panel: Panel) -> str:
    words = f"{panel.y_label} against {panel.x_label}"
    return f"{panel.title}: {words}" if panel.title else words


@contextlib.contextmanager
def looks() -> Iterator[None]:
    """A context with Matplotlib's defaults and ours, independent of the user's configuration."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # A missing glyph or an empty axis spoils one figure a little; it must not fill the terminal.
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(LOOK)
        yield


def saved(canvas: "Canvas", kind: str) -> bytes:
    """A canvas as a file without its date, so that the same curves give the same bytes."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format=kind, metadata={"Date" if kind == "svg" else "CreationDate": None})
    return buffer.getvalue()


def canvas(panels: Sequence[Panel]) -> "Canvas":
    """Panels side by side, at most three in a row."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(len(panels), PER_ROW)
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    legends = [LEGEND_ROW * max(legend_shape(panel)[0] for panel in row) for row in rows]
    heights = [PANEL_HEIGHT + legend for legend in legends]
    page = Canvas(figsize=(PANEL_WIDTH * columns, sum(heights)))
    places = page.subfigures(len(rows), columns, squeeze=False, height_ratios=heights)
    for line_of_places, row, legend in zip(places, rows, legends, strict=True):
        for place, panel in zip(line_of_places, row, strict=False):
            draw_panel(place, panel, legend)
    # By hand: a figure with an engine of its own is laid out anew for every file. Twice: axes that became higher may
    # have other ticks, whose labels may be wider.
    for _ in range(2):
        ConstrainedLayoutEngine().execute(page)
    return page


def draw_panel(place: "FigureBase", panel: Panel, legend: float) -> None:
    """One panel, with room of ``legend`` inches for the legend below it."""
    panel = by_name(panel)
    shares = (PANEL_HEIGHT - AROUND_AXES, max(legend, 0.01))
    axes, below = place.subplots(2, 1, height_ratios=shares)
    below.axis("off")
    axes.set_title(wrapped(panel.title, TITLE_WIDTH))
    axes.set_xlabel(wrapped(panel.x_label, X_WIDTH))
    axes.set_ylabel(wrapped(panel.y_label, Y_WIDTH))
    if panel.heatmap is not None:
        draw_heatmap(place, axes, panel.heatmap)
        return
    draw_lines(axes, panel)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        below.legend(handles, labels, loc="upper center", ncols=legend_shape(panel)[1], borderaxespad=0)


def by_name(panel: Panel) -> Panel:
    """The panel with a place on the axis for each line where all of them are one point at the same x.

    Example:
        >>> points = (Line("a", (1.0,), (5.0,)), Line("b", (1.0,), (6.0,)))
        >>> shown = by_name(Panel("epochs of training", "error", points))
        >>> shown.x_label, shown.x_names, [line.x for line in shown.lines]
        ('epochs of training: 1', ('a', 'b'), [(0.0,), (1.0,)])
    """
    places = {x for line in panel.lines for x in line.x}
    if panel.x_names or len(places) != 1 or len(panel.lines) < 2 or not all(line.label for line in panel.lines):
        return panel
    points = [replace(line, label="", x=(float(i),), look="points") for i, line in enumerate(panel.lines)]
    title = f"{panel.x_label}: {number(places.pop())}"
    names = tuple(line.label for line in panel.lines)
    return replace(panel, x_label=title, x_scale="linear", lines=tuple(points), x_names=names)


def wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))


def legend_shape(panel: Panel) -> tuple[int, int]:
    """Rows of text and columns of the legend; as many columns as their texts leave room for."""
    labels = [wrapped(line.label, LEGEND_WIDTH).split("\n") for line in by_name(panel).lines if line.label]
    if not labels:
        return 0, 1
    longest = max(len(row) for label in labels for row in label)
    columns = max(1, min(len(labels), 54 // (longest + 7)))
    # Texts that wrap are too long to stand beside others.
    return (sum(map(len, labels)) if columns == 1 else math.ceil(len(labels) / columns)), columns


def draw_lines(axes: "Axes", panel: Panel) -> None:
    axes.set_xscale(panel.x_scale)
    axes.set_yscale(panel.y_scale)
    lowest = smallest_positive(panel)
    for curve, earlier in zip(panel.lines, alike(panel.lines), strict=True):
        draw_line(axes, panel, curve, stroke(curve, earlier), lowest)
    for axis, scale in ((axes.xaxis, panel.x_scale), (axes.yaxis, panel.y_scale)):
        if scale == "log":
            label_decades(axis)
    if panel.y_scale == "linear":
        show_level(axes, panel)
    if panel.x_names:
        name_places(axes, panel.x_names)
    elif panel.x_scale == "linear" and all(x.is_integer() for curve in panel.lines for x in curve.x):
        whole_ticks(axes.xaxis)


def show_level(axes: "Axes", panel: Panel) -> None:
    """Begin the axis at zero where all heights are one, around which Matplotlib would magnify nothing."""
    heights = [v for line in panel.lines for v in (*line.y, *line.low, *line.high) if math.isfinite(v)]
    most = max(map(abs, heights), default=0.0)
    if heights and max(heights) - min(heights) <= LEVEL * most:
        axes.set_ylim(*sorted((0.0, 2 * heights[0] or 1.0)))


def alike(lines: Sequence[Line]) -> list[int]:
    """For every line how many names before it have its look and colour; a line without a name continues the last.

    Example:
        >>> level = {"x": (0.0,), "y": (0.0,), "look": "dotted", "colour": -1}
        >>> alike([Line("chance", **level), Line("", **level), Line("untrained", **level), Line("net", (0.0,), (0.0,))])
        [0, 0, 1, 0]
    """
    names: Counter[tuple[str, int]] = Counter()
    repeats = []
    for line in lines:
        names[line.look, line.colour] += bool(line.label)
        repeats.append(max(names[line.look, line.colour] - 1, 0))
    return repeats


def stroke(line: Line, earlier: int) -> dict[str, Any]:
    """How Matplotlib draws a line that ``earlier`` others with a name would look like."""
    how = dict(STROKES[line.look])
    marker = MARKERS[(max(line.colour, 0) + earlier) % len(MARKERS)]
    if line.look == "points":
        return how | {"marker": marker}
    if earlier:
        how["linestyle"] = MORE_DASHES[(earlier - 1) % len(MORE_DASHES)]
    if len(line.x) == 1 or (line.look == "solid" and len(line.x) <= FEW):
        how |= {"marker": marker, "markersize": 4.2}
    return how


def draw_line(axes: "Axes", panel: Panel, line: Line, how: dict[str, Any], lowest: float) -> None:
    """One line and its band, without the points that its axes cannot show."""
    palette = DEEP_PALETTE if line.look in ("dashed", "dotted", "dashdotted") else PALETTE
    colour = INK if line.colour < 0 else palette[line.colour % len(palette)]
    x, y = shown(line.x, panel.x_scale), shown(line.y, panel.y_scale)
    axes.plot(x, y, color=colour, label=wrapped(line.label, LEGEND_WIDTH) or "_", markeredgewidth=0, **how)
    if not (line.low and line.high):
        return
    low = shown(line.low if panel.y_scale == "linear" else [max(v, lowest) for v in line.low], panel.y_scale)
    high = shown(line.high, panel.y_scale)
    if line.look == "points":
        axes.vlines(x, low, high, color=colour, linewidth=1.2, alpha=0.7)
    else:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def shown(values: Sequence[float], scale: str) -> list[float]:
    """The values, with NaN, which matplotlib leaves out, for values that are not finite or have no logarithm."""
    return [v if math.isfinite(v) and (scale == "linear" or v > 0) else math.nan for v in values]


def smallest_positive(panel: Panel) -> float:
    """The lower end of a band on a logarithmic axis if it reaches zero."""
    heights = [v for line in panel.lines for v in (*line.y, *line.low, *line.high)]
    return min((v for v in heights if 0 < v < math.inf), default=1.0)


def label_decades(axis: "Axis") -> None:
    """Ticks of a logarithmic axis: powers of ten, or 1, 2, 5 where there are hardly any of those."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    plain = low >= 1e-3 and high <= 2e4
    between = powers < 2 or (high < 100 * low and plain)
    if between:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    as_text = number if plain or between else lambda v: power(round(math.log10(v)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: as_text(v)))
    axis.set_minor_locator(NullLocator())


def whole_ticks(axis: "Axis") -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def name_places(axes: "Axes", names: Sequence[str]) -> None:
    """Names below the axis, aslant where they are too long to stand side by side."""
    room = NAMES_WIDTH // len(names)
    texts = [wrapped(name, max(room, LONGEST_NAME)) for name in names]
    fits = max(len(row) for text in texts for row in text.split("\n")) <= room
    aslant: dict[str, Any] = {} if fits else {"rotation": 25, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), texts, **aslant)
    axes.set_xlim(-0.5, len(names) - 0.5)


def draw_heatmap(place: "FigureBase", axes: "Axes", heatmap: Heatmap) -> None:
    """A matrix as coloured cells; zero is the colour of the page, so the same picture serves light and dark."""
    import numpy as np
    from matplotlib.colors import ListedColormap

    strength = np.linspace(-1, 1, 256)
    ends = np.where(strength[:, None] < 0, NEGATIVE, POSITIVE)
    colours = ListedColormap(np.column_stack([ends, np.abs(strength)]))
    values = np.array(heatmap.values, dtype=np.float64)
    cells = np.ma.masked_invalid(values)
    most = heatmap.limit or (float(np.abs(cells).max()) if cells.count() else 1.0) or 1.0
    row, column = heatmap.first
    ends_of = (column - 0.5, column + values.shape[1] - 0.5, row + values.shape[0] - 0.5, row - 0.5)
    image = axes.imshow(
        cells, cmap=colours, vmin=-most, vmax=most, interpolation="none", aspect="equal", extent=ends_of
    )
    axes.grid(False)
    axes.spines[:].set(visible=True, color=GRID)
    for axis in (axes.xaxis, axes.yaxis):
        whole_ticks(axis)
    bar = place.colorbar(image, ax=axes, shrink=0.9, aspect=18, pad=0.03, use_gridspec=False)
    if cells.count() and cells.min() >= 0:
        bar.ax.set_ylim(0, most)
    bar.outline.set_edgecolor(GRID)
    bar.ax.grid(False)


def colour_variables() -> str:
    """The style sheet's variables for :data:`COLOURS`: light, and dark on a screen that asks for it."""
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLOURS.items()) for i in (0, 1))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
