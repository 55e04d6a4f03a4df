"""Figures: a record's curves drawn by matplotlib, once as files on white and once for the page.

The page has light and dark colours, files have the light ones. Both come from the same drawing: in the copy for
the page every light colour is replaced by the name of a CSS variable. On the page each panel is its own picture,
so that panels stand side by side on a desk and below each other on a phone.
"""

import contextlib
import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final
from xml.etree import ElementTree

from insitu.device import available_cores
from insitu.figure import Figure, Heatmap, Line, Panel
from insitu.processes import process_context
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
INK, AXIS, GRID, WHITE = LIGHT["axis-text"], LIGHT["axis-line"], LIGHT["grid"], "#ffffff"
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

# Inches.
PANEL_WIDTH, PANEL_HEIGHT, AROUND_AXES, LEGEND_ROW = 3.7, 2.75, 0.75, 0.19
PER_ROW = 3
# Characters after which words are wrapped.
TITLE_WIDTH, X_WIDTH, Y_WIDTH, LEGEND_WIDTH = 42, 46, 32, 42
# The largest number of points that a solid line marks.
FEW = 16
# A process for figures has to start first.
WORTH_A_PROCESS = 12

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@final
@dataclass(frozen=True)
class Drawing:
    """A figure as files and as part of the page."""

    svg: bytes
    pdf: bytes
    inline: Html


def draw(figure: Figure, name: str) -> Drawing:
    """Draw a figure; ``name`` keeps the identifiers inside apart from those of other figures on the page."""
    with looks():
        whole = canvas(figure.panels)
        svg, pdf = saved(whole, "svg"), saved(whole, "pdf")
        panels = [saved(canvas([panel]), "svg") for panel in figure.panels] if len(figure.panels) > 1 else [svg]
    labels = [panel_label(panel) for panel in figure.panels] if len(panels) > 1 else [figure.alt]
    pictures = [for_page(s, f"{name}-{i}", label) for i, (s, label) in enumerate(zip(panels, labels, strict=True))]
    group = {"role": "group", "aria_label": figure.alt} if len(panels) > 1 else {}
    return Drawing(svg, pdf, element("div", *pictures, class_="panels", **group))


def draw_all(stored: Sequence[dict[str, Any]], names: Sequence[str]) -> list[Drawing]:
    """Draw the figures of records, in several processes where there are many: each takes half a second.

    Args:
        stored: The figures, as records hold them.
        names: The name of each, as for :func:`draw`.
    """
    workers = min(available_cores(), len(stored) // WORTH_A_PROCESS)
    if workers < 2:
        return list(map(draw_stored, stored, names))
    with ProcessPoolExecutor(workers, mp_context=process_context(__name__)) as pool:
        return list(pool.map(draw_stored, stored, names))


def draw_stored(stored: dict[str, Any], name: str) -> Drawing:
    return draw(read_figure(stored), name)


def read_figure(stored: dict[str, Any]) -> Figure:
    """A figure from the plain JSON of a record."""
    return Figure(tuple(map(read_panel, stored["panels"])), stored["caption"], stored["alt"])


def read_panel(stored: dict[str, Any]) -> Panel:
    matrix = stored["heatmap"]
    heatmap = read_heatmap(matrix) if matrix else None
    return Panel(**{**stored, "lines": tuple(map(read_line, stored["lines"])), "heatmap": heatmap})


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
    # By hand and once: a figure with an engine of its own is laid out anew for every file.
    ConstrainedLayoutEngine().execute(page)
    return page


def draw_panel(place: "FigureBase", panel: Panel, legend: float) -> None:
    """One panel, with room of ``legend`` inches for the legend below it."""
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


def wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))


def legend_shape(panel: Panel) -> tuple[int, int]:
    """Rows of text and columns of the legend; as many columns as their texts leave room for."""
    labels = [wrapped(line.label, LEGEND_WIDTH).split("\n") for line in panel.lines if line.label]
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
    for curve in panel.lines:
        draw_line(axes, panel, curve, lowest)
    for axis, scale in ((axes.xaxis, panel.x_scale), (axes.yaxis, panel.y_scale)):
        if scale == "log":
            label_decades(axis)
    if panel.x_scale == "linear" and all(x.is_integer() for curve in panel.lines for x in curve.x):
        whole_ticks(axes.xaxis)


def draw_line(axes: "Axes", panel: Panel, line: Line, lowest: float) -> None:
    """One line and its band, without the points that its axes cannot show."""
    palette = DEEP_PALETTE if line.look in ("dashed", "dotted", "dashdotted") else PALETTE
    colour = INK if line.colour < 0 else palette[line.colour % len(palette)]
    x, y = shown(line.x, panel.x_scale), shown(line.y, panel.y_scale)
    how = dict(STROKES[line.look])
    if line.look == "points":
        how["marker"] = MARKERS[max(line.colour, 0) % len(MARKERS)]
    elif len(x) == 1 or (line.look == "solid" and len(x) <= FEW):
        how |= {"marker": "o", "markersize": 3.6}
    axes.plot(x, y, color=colour, label=wrapped(line.label, LEGEND_WIDTH) or "_", markeredgewidth=0, **how)
    if line.low and line.high:
        low = line.low if panel.y_scale == "linear" else [max(v, lowest) for v in line.low]
        high = shown(line.high, panel.y_scale)
        axes.fill_between(x, shown(low, panel.y_scale), high, color=colour, alpha=0.18, linewidth=0)


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
    decades = math.log10(high / low)
    plain = low >= 1e-3 and high <= 2e4
    if decades < 2 and plain:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    as_text = number if plain or decades < 1 else lambda v: power(round(math.log10(v)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: as_text(v)))
    axis.set_minor_locator(NullLocator())


def whole_ticks(axis: "Axis") -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


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


def for_page(svg: bytes, prefix: str, label: str) -> Html:
    """A drawing for the inside of a page: its own identifiers, the page's fonts and colours, no background."""
    root = ElementTree.fromstring(svg)
    remove_all(root, {"metadata", "style"})
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg.decode()))
    for node in root.iter():
        node.tag = local(node.tag)
        node.attrib = {local(k): inside_page(local(k), v, prefix) for k, v in node.attrib.items() if keep(k, v, used)}
    shape = root.attrib["viewBox"]
    root.attrib = {"viewBox": shape, "role": "img", "aria-label": label}
    return Html(ElementTree.tostring(root, encoding="unicode"))


def remove_all(node: ElementTree.Element, names: set[str]) -> None:
    for child in list(node):
        if local(child.tag) in names:
            node.remove(child)
        else:
            remove_all(child, names)


def local(name: str) -> str:
    """A name without its namespace, as HTML writes it."""
    return name.rpartition("}")[2]


def keep(name: str, value: str, used: set[str]) -> bool:
    """Whether an attribute goes into the page: identifiers only if something refers to them."""
    return value in used if local(name) == "id" else True


def inside_page(name: str, value: str, prefix: str) -> str:
    """An attribute's value with its references and, in styles, its colours and fonts made those of the page."""
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", value)
    if name != "style":
        return value
    for colour, light in LIGHT.items():
        value = value.replace(light, f"var(--{colour})")
    # Versions of matplotlib write a font in one property or in several.
    return re.sub(r"(font-family: |font: [^;']*px )[^;]*", r"\1var(--sans)", value.replace(WHITE, "none"))


def colour_variables() -> str:
    """The style sheet's variables for :data:`COLOURS`: light, and dark on a screen that asks for it."""
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in COLOURS.items()) for i in (0, 1))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}\n"
