"""The pages of ``insitu sweep`` and of claims over several seeds: pure functions of the tables in their records."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.claims import Figure, Line, Panel, line
from insitu.report.numbers import NONE, bound_text, interval_text, number
from insitu.report.sections import PageTable, Section, counted, write_page

__all__ = ["seeds_page", "sweep_page"]

# Panels of a figure, and rows of a page: the rest is in the table's file.
PANELS, SHOWN = 6, 500


def sweep_page(record: Mapping[str, Any], folder: Path) -> Path:
    """The page of ``insitu sweep``."""
    rows, fields = record["rows"], [name for name in record["fields"] if name != "seed"]
    value = "value" if "quantity" in rows[0] else "error"
    columns = tuple(name for name in rows[0] if name not in ("key", "standard_error"))
    table = PageTable(columns, tuple(tuple(shown(row.get(name)) for name in columns) for row in rows[:SHOWN]))
    more = f" The first {SHOWN} are shown." if len(rows) > SHOWN else ""
    words = (f"All {counted(len(rows), 'row')} are in sweep.csv and sweep.parquet.{more}",)
    lead = (
        f"{counted(record['jobs'], 'job')} over {', '.join(record['fields']) or 'one setting'}. Bands and bars are "
        "99 % intervals; where there are several seeds, points are means over them."
    )
    sections = [Section("Results", (), None, sweep_figure(rows, fields, value)), Section("Table", words, table)]
    return write_page(folder, "sweep", "A sweep", lead, sections, command="sweep")


def shown(value: Any) -> str:
    """A cell as people read it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if isinstance(value, int) else number(value)
    if value in ("inf", "-inf"):
        return number(value)
    return NONE if value is None else value if isinstance(value, str) else json.dumps(value)


def sweep_figure(rows: Sequence[Mapping[str, Any]], fields: Sequence[str], value: str) -> tuple[Figure, ...]:
    """One panel for each quantity: the values against the first field that is a number; none if there is none."""
    numeric = [name for name in fields if all(is_number(row.get(name)) for row in rows)]
    axis = numeric[0] if numeric else "seed"
    if not all(is_number(row.get(axis)) for row in rows):
        return ()
    names = list(dict.fromkeys(quantity_of(row) for row in rows))[:PANELS]
    panels = []
    for name in names:
        own = [row for row in rows if quantity_of(row) == name]
        curves = tuple(curves_of(own, axis, [field for field in fields if field != axis], value))
        panels.append(Panel(axis, name, curves, x_scale=scale_of([float(row[axis]) for row in own])))
    caption = f"Every quantity against {axis}, one curve for each combination of the other fields."
    return (Figure(tuple(panels), caption, f"Values against {axis}."),)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def quantity_of(row: Mapping[str, Any]) -> str:
    """The name of what a row measures."""
    return f"{row['claim']}: {row['quantity']}" if "quantity" in row else "error on new prompts"


def scale_of(places: Sequence[float]) -> Any:
    """Logarithmic where positive places span a decade, or are fractions, such as rates, that double.

    Example:
        >>> scale_of([0.001, 0.003]), scale_of([2, 4, 8]), scale_of([1, 10]), scale_of([0, 0.5])
        ('log', 'linear', 'log', 'linear')
    """
    spread = 10 if all(place == int(place) for place in places) else 2
    return "log" if min(places) > 0 and max(places) >= spread * min(places) else "linear"


def curves_of(rows: Sequence[Mapping[str, Any]], axis: str, others: Sequence[str], value: str) -> list[Line]:
    """A curve for each combination of the other fields, with means over what is left."""
    groups: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        label = ", ".join(f"{name} {shown(row.get(name))}" for name in others)
        groups.setdefault(label, {}).setdefault(float(row[axis]), []).append(float(row[value]))
    return [
        line(label, sorted(places), [statistics.fmean(places[x]) for x in sorted(places)], colour=i)
        for i, (label, places) in enumerate(groups.items())
    ]


def seeds_page(record: Mapping[str, Any], folder: Path) -> Path:
    """The page of claims over several seeds."""
    rows = record["rows"]
    columns = ("claim", "verdict", "alone", "quantity", "mean", "interval", "bound", "between trainings", "within one")
    table = PageTable(columns, tuple(map(seeds_cells, rows)))
    counts = [next(row for row in rows if row["claim"] == claim) for claim in dict.fromkeys(r["claim"] for r in rows)]
    same = sum(max(row["holds"], row["fails"], row["undecided"]) == row["seeds"] for row in counts)
    words = (
        "The interval is that of the mean over trainings, of which these are a sample; each seed draws weights, "
        "batches and prompts of its own. Between trainings is the standard deviation beyond what the prompts' errors "
        "explain, within one the error of a single training from its prompts.",
        f"{same} of {counted(len(counts), 'claim')} have the same verdict at every seed.",
    )
    lead = "Verdicts over several seeds, with intervals over trainings."
    sections = [Section("Verdicts", words, table)]
    return write_page(folder, "seeds", "Claims over seeds", lead, sections, command="reproduce")


def seeds_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    alone = ", ".join(f"{row[name]} {name}" for name in ("holds", "fails", "undecided") if row[name])
    numbers = number(row["value"]), interval_text(row["low"], row["high"]), bound_text(row["bound"])
    spread = number(row["between"], 3), number(row["within"], 3)
    return row["claim"], row["verdict"], f"{row['seeds']} seeds: {alone}", row["quantity"], *numbers, *spread
