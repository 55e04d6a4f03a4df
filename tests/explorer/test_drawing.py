"""Pictures: where things are drawn, and what a file of a picture needs."""

import math
import re
from xml.etree import ElementTree

import pytest

from insitu.explorer.drawing import Axis, Curves, Matrix, Note, curves_svg, matrix_svg, standalone
from insitu.figure import Line

SPACE = "{http://www.w3.org/2000/svg}"


def curves(*lines, x=None, y=None, **how):
    axes = (x or Axis("layers", 0, 10), y or Axis("error", 1e-4, 10, "log"))
    return curves_svg(Curves(*axes, lines, **how), "try", "A picture.")


def parsed(svg):
    return ElementTree.fromstring(standalone(svg))


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (Axis("", 0, 40), ["0", "10", "20", "30", "40"]),
        (Axis("", 1e-4, 10, "log"), ["10⁻⁴", "10⁻³", "10⁻²", "0.1", "1", "10"]),
        (Axis("", 0.25, 4, "log", ticks=(0.25, 1, 4)), ["0.25", "1", "4"]),
        (Axis("", -1.3, 1.3), ["−1", "−0.5", "0", "0.5", "1"]),
    ],
)
def test_axes_are_labelled_at_round_values(axis, labels):
    assert [label for _, label in axis.labels()] == labels


def test_a_logarithmic_axis_is_even_in_powers():
    axis = Axis("", 1e-4, 10, "log")
    shares = [axis.share(v) for v in (1e-4, 1e-3, 1.0, 10.0)]
    assert shares == pytest.approx([0, 0.2, 0.8, 1])


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0.0, 1e300])
def test_no_value_leaves_the_numbers_that_browsers_draw(value):
    assert math.isfinite(Axis("", 1e-4, 10, "log").share(value))
    assert math.isfinite(Axis("", 0, 1).share(value))


def test_a_line_goes_through_its_points():
    root = parsed(curves(Line("a", (0.0, 10.0), (10.0, 1e-4))))
    (drawn,) = root.findall(f"{SPACE}g/{SPACE}path")
    start, end = (tuple(map(float, p.split())) for p in drawn.attrib["d"][1:].split("L"))
    assert start[0] < end[0]
    assert start[1] < end[1], "the vertical coordinate of a picture grows downwards"


@pytest.mark.parametrize(("colour", "radius"), [(0, 3.2), (-1, 5.5)])
def test_dots_and_rings_lie_around_their_points(colour, radius):
    """A circle begins at its left and runs over its right, through the corners of a line through the same points."""
    places = ((0.0, 5.0, 10.0), (10.0, 0.1, 1e-4))
    line, dots = (parsed(curves(Line("a", *places, look=look, colour=colour))) for look in ("solid", "points"))
    (through,), (around,) = (root.findall(f"{SPACE}g/{SPACE}path") for root in (line, dots))
    corners = [tuple(map(float, p.split())) for p in through.attrib["d"][1:].split("L")]
    circles = re.findall(r"M([\d.]+) ([\d.]+)a([\d.]+) .*? ([\d.]+) 0a", around.attrib["d"])
    assert [(float(r), float(across)) for *_, r, across in circles] == [(radius, 2 * radius)] * 3
    centres = [(float(x) + radius, float(y)) for x, y, *_ in circles]
    assert centres == [pytest.approx(corner, abs=0.11) for corner in corners]


def test_a_file_of_a_picture_stands_alone():
    line = Line("a < b", (0.0, 1.0), (1.0, 1.0), look="points", colour=-1)
    svg = curves(line, here=1.0, notes=(Note(0, 1, "start"),))
    assert "var(--" in svg
    assert 'role="img"' in svg
    text = standalone(svg)
    assert "var(--" not in text
    assert parsed(svg).tag == f"{SPACE}svg"
    assert "a &lt; b" in text


def test_a_cell_that_is_not_seen_is_not_a_zero():
    rows = ((1.0, None), (-0.5, 0.0))
    root = parsed(matrix_svg(Matrix(("a", "b"), ("a", "b"), rows, "row", "column"), "A matrix."))
    cells = [r for r in root.findall(f"{SPACE}rect") if "rx" in r.attrib]
    assert [("stroke" in cell.attrib) for cell in cells] == [True, False, True, True]
