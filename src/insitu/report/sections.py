"""A page of sections, each with words, a table and a figure: what ``insitu lm`` and ``insitu sweep`` write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from insitu.claims import Figure
from insitu.report.document import document, write_drawing
from insitu.report.figures import Drawing, draw
from insitu.report.markup import Html, element, join
from insitu.report.tables import cells, stacked_table
from insitu.storage import write_atomically

__all__ = ["PageTable", "Section", "counted", "write_page"]


def counted(count: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "seed"), counted(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@final
@dataclass(frozen=True)
class PageTable:
    """Columns, and rows of as many texts; the first cell of a row is its title.

    Args:
        columns: Titles.
        rows: Texts.
        prose: Whether cells hold sentences, not numbers.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    prose: bool = False


@final
@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: Its heading.
        words: Its paragraphs.
        table: Its table, if any.
        figures: Its figures.
        code: Text that is shown as it is, such as a prompt.
    """

    title: str
    words: tuple[str, ...] = ()
    table: PageTable | None = None
    figures: tuple[Figure, ...] = ()
    code: str = ""


def write_page(
    folder: Path, name: str, title: str, lead: str, sections: Sequence[Section], *, command: str = ""
) -> Path:
    """Write ``NAME.html`` and its figures as SVG and PDF; one file that works offline.

    Args:
        folder: Where to write.
        name: The name of the page and the beginning of those of the figures.
        title: The heading.
        lead: What the page is about.
        sections: Its parts.
        command: The command that made it (default: ``lm NAME``).

    Raises:
        StorageError: If a file cannot be written.
    """
    parts, number = [], 0
    for section in sections:
        drawings = []
        for figure in section.figures:
            number += 1
            drawing = draw(figure)
            drawings.append((figure, drawing, write_drawing(folder, f"{name}-{number}", drawing)))
        parts.append(section_html(section, drawings))
    kicker = element("p", f"insitu · {command or f'lm {name}'}", class_="kicker")
    top = element("header", kicker, element("h1", title), element("p", lead, class_="lead"))
    path = folder / f"{name}.html"
    write_atomically(path, document(title, top, *parts))
    return path


def section_html(section: Section, drawings: Sequence[tuple[Figure, Drawing, Sequence[Path]]]) -> Html:
    parts = [element("p", words) for words in section.words]
    if section.code:
        parts.append(element("pre", section.code, class_="wrapped"))
    if section.table is not None:
        parts.append(table_html(section.table))
    return element("section", element("h2", section.title), *parts, *(figure_html(*drawn) for drawn in drawings))


def figure_html(figure: Figure, drawing: Drawing, files: Sequence[Path]) -> Html:
    """A drawing with its caption, and links to the files of it."""
    links = [
        element("a", path.suffix[1:].upper(), href=f"{path.parent.name}/{path.name}", download=path.name)
        for path in files
    ]
    beside = element("span", join(*links, by=" · "), class_="files")
    return element("figure", drawing.inline, element("figcaption", figure.caption, " ", beside))


def table_html(table: PageTable) -> Html:
    """A table whose rows are cards where the screen is narrow."""
    first, *others = table.columns
    rows = [
        element(
            "tr",
            element("th", title, scope="row", role="rowheader"),
            *cells(others, contents),
            role="row",
        )
        for title, *contents in table.rows
    ]
    body = element("tbody", *rows, role="rowgroup")
    return stacked_table((first, *others), [body], "texts" if table.prose else "checks")
