"""A page of sections, each with words, a table and a figure: what ``insitu lm`` writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from insitu.claims import Figure
from insitu.report.document import document, write_drawing
from insitu.report.figures import Drawing, draw
from insitu.report.markup import Html, element, join
from insitu.storage import write_atomically

__all__ = ["Section", "Table", "counted", "write_page"]


def counted(count: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "seed"), counted(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@final
@dataclass(frozen=True)
class Table:
    """Columns, and rows of as many texts; the first cell of a row is its title."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@final
@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: Its heading.
        words: Its paragraphs.
        table: Its table, if any.
        figures: Its figures.
    """

    title: str
    words: tuple[str, ...] = ()
    table: Table | None = None
    figures: tuple[Figure, ...] = ()


def write_page(folder: Path, name: str, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write ``NAME.html`` and its figures as SVG and PDF; one file that works offline.

    Args:
        folder: Where to write.
        name: The name of the page and the beginning of those of the figures.
        title: The heading.
        lead: What the page is about.
        sections: Its parts.

    Raises:
        StorageError: If a file cannot be written.
    """
    parts, number = [], 0
    for section in sections:
        drawings = []
        for figure in section.figures:
            number += 1
            drawing = draw(figure, f"{name}-{number}")
            write_drawing(folder, f"{name}-{number}", drawing)
            drawings.append((figure, drawing))
        parts.append(section_html(section, drawings))
    kicker = element("p", f"insitu · lm {name}", class_="kicker")
    top = element("header", kicker, element("h1", title), element("p", lead, class_="lead"))
    path = folder / f"{name}.html"
    write_atomically(path, document(title, top, *parts))
    return path


def section_html(section: Section, drawings: Sequence[tuple[Figure, Drawing]]) -> Html:
    parts = [element("p", words) for words in section.words]
    if section.table is not None:
        parts.append(table_html(section.table))
    parts += [element("figure", drawing.inline, element("figcaption", figure.caption)) for figure, drawing in drawings]
    return element("section", element("h2", section.title), *parts)


def table_html(table: Table) -> Html:
    head = element("thead", element("tr", *(element("th", column, scope="col") for column in table.columns)))
    rows = [
        element("tr", element("th", first, scope="row"), *(element("td", cell, class_="number") for cell in cells))
        for first, *cells in table.rows
    ]
    whole = element("table", head, element("tbody", *rows), class_="summary measures")
    return element("div", join(whole), class_="scroll")
