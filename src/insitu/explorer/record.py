"""An identification as the page shows it, from the record that ``insitu identify --json`` prints alone."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from insitu.errors import InputError
from insitu.explorer.drawing import Axis, Curves, curves_svg
from insitu.figure import line
from insitu.report.markup import Html, element
from insitu.report.numbers import interval_text, number

__all__ = ["read_record", "record_parts"]

Record = Mapping[str, Any]
LOOKS = {"indistinguishable": "holds", "mixture": "holds", "closest": "undecided", "none": "fails"}
HOLDS = {True: "yes", False: "no", None: "noise does not tell"}
# Candidates that are listed.
SHOWN = 8
NAMED = {
    "verdict",
    "reason",
    "properties",
    "gains",
    "ranking",
    "mixture",
    "best",
    "agreeing",
    "diagnostics",
    "way",
    "numbers",
}


def read_record(text: str) -> Record:
    """The record of an identification.

    Raises:
        InputError: If the text is no JSON, or no record of an identification.

    Example:
        >>> read_record('{"verdict": "none", "reason": "Nothing fits."}')["verdict"]
        'none'
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise InputError(f"explore: the file is no JSON ({error}); `insitu identify --json` prints a record.") from None
    if not isinstance(record, dict) or not {"verdict", "reason"} <= record.keys():
        raise InputError(
            "explore: the file is no record of an identification, which has a verdict and a reason; got "
            f"{', '.join(record) if isinstance(record, dict) else type(record).__name__}. `insitu identify --json` "
            "prints one."
        )
    return record


def record_parts(record: Record) -> Iterator[Html]:
    """The parts of the page: verdict, properties, gain curves, candidates, and whatever else the record says."""
    verdict = str(record["verdict"])
    yield element("p", element("span", verdict, class_=f"verdict {LOOKS.get(verdict, 'undecided')}"))
    yield element("p", str(record["reason"]), class_="lead")
    yield from titled("What it shows", properties(record.get("properties") or ()))
    yield from titled("By which factor directions are fitted", gains(record.get("gains") or ()))
    yield from titled("Nearest learners", ranking(record.get("ranking") or ()))
    yield from titled("Regression written as text", numbers(record.get("numbers") or {}))
    rest = {name: value for name, value in record.items() if name not in NAMED and value not in (None, [], {}, "")}
    yield from titled("Also in the record", table(("Name", "Value"), ((k, plain(v)) for k, v in rest.items())))


def titled(title: str, part: Html) -> Iterator[Html]:
    """A part below its title; nothing for a part that is empty."""
    if part:
        yield element("h2", title)
        yield part


def plain(value: Any) -> str:
    """A value of the record as text."""
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return " ".join(value)
    return number(value) if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Html:
    """A table; empty without rows."""
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    if not body:
        return Html()
    head = element("tr", *(element("th", name, scope="col") for name in columns))
    return element("table", element("thead", head), element("tbody", *body))


def properties(given: Iterable[Record]) -> Html:
    """Symmetries of the answers."""
    rows = (
        (str(p["name"]), HOLDS[p.get("holds")], number(p.get("discrepancy"), 3), interval(p), str(p.get("pairs", "")))
        for p in given
    )
    return table(("The answer is", "Holds", "Differs by", "Interval", "Pairs"), rows)


def numbers(given: Record) -> Html:
    """How well a language model does at every length, in whole numbers; beside it the mean label and least squares."""
    rows = []
    for length in given.get("lengths") or ():
        errors = length.get("root mean squared error") or {}
        shown = (errors.get("model"), errors.get("mean label"), errors.get("least squares"), length.get("spread"))
        mass = length.get("mass on numbers")
        rows.append((str(length.get("points")), *(number(value, 3) for value in (*shown, mass))))
    columns = ("Examples", "Off by", "Mean label", "Least squares", "Spread", "Mass on numbers")
    shown_table = table(columns, rows)
    if not shown_table:
        return Html()
    return element("div", element("p", f"Model: {given.get('model')}"), shown_table)


def interval(given: Record) -> str:
    """The interval of a number."""
    return interval_text(given.get("low"), given.get("high"))


def ranking(given: Iterable[Record]) -> Html:
    """The nearest candidates."""
    rows = ((str(c["learner"]), number(c.get("distance"), 3), interval(c)) for c in list(given)[:SHOWN])
    return table(("Learner", "Distance", "Interval"), rows)


def gains(given: Iterable[Record]) -> Html:
    """The gain at every context length."""
    pictures = [gain_picture(curve) for curve in given if curve.get("curve")]
    return element("div", *pictures, class_="curve") if pictures else Html()


def gain_picture(curve: Record) -> Html:
    """One gain curve with its intervals and the levels 0 and 1."""
    sizes, heights, low, high = (
        [float(row[name]) for row in curve["curve"]] for name in ("size", "gain", "low", "high")
    )
    top = max(1.2, min(3.0, max(heights)))
    lines = (
        line("", (0, max(sizes)), (1, 1), look="dotted", colour=-2),
        line("gain", sizes, heights, low=low, high=high),
        line("", sizes, heights, look="points"),
    )
    axes = Axis("size of the direction, σ/√n", 0, max(sizes) * 1.03), Axis("gain", min(-0.1, min(heights)), top)
    points = curve.get("points", "?")
    return element(
        "figure",
        element("figcaption", f"n = {points}; not explained: {number(curve.get('unexplained'), 2)}"),
        curves_svg(Curves(*axes, lines), f"gain-{points}", f"Gain against the size of a direction at n = {points}"),
    )
