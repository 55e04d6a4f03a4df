"""Parts of all pages: one file that works offline, and the files of its figures."""

import importlib.resources
from pathlib import Path

from insitu.report.figures import Drawing, colour_variables
from insitu.report.markup import Html, element
from insitu.storage import write_atomically

__all__ = ["document", "style_sheet", "write_drawing"]

# Nothing is loaded from anywhere and no script runs; styles and pictures are inside the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def document(title: str, *content: Html) -> bytes:
    """A whole page with a title and its content."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"insitu: {title}"),
        Html(f"<style>{colour_variables()}{style_sheet()}</style>"),
    )
    body = element("body", element("main", *content))
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'.encode()


def style_sheet() -> str:
    """The styles of every page."""
    return (importlib.resources.files("insitu.report") / "style.css").read_text(encoding="utf-8")


def write_drawing(folder: Path, name: str, drawing: Drawing) -> list[Path]:
    """Write a figure as SVG and PDF below ``figures``.

    Raises:
        StorageError: If a file cannot be written.
    """
    paths = [folder / "figures" / f"{name}.{kind}" for kind in ("svg", "pdf")]
    for path, content in zip(paths, (drawing.svg, drawing.pdf), strict=True):
        write_atomically(path, content)
    return paths
