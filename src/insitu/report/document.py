"""Parts of all pages: one file that works offline, and the files of its figures."""

import base64
import hashlib
import importlib.resources
from pathlib import Path

from insitu.report.figures import Drawing, colour_variables
from insitu.report.inline import compressed
from insitu.report.markup import Html, element
from insitu.storage import write_atomically

__all__ = ["document", "part_of_pages", "style_sheet", "write_drawing"]

NOTHING = Html()
# Nothing is loaded from anywhere; styles and pictures are inside the page.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def document(title: str, *content: Html, navigation: Html = NOTHING, script: str = "") -> bytes:
    """A whole page.

    Args:
        title: Its title.
        content: Its content.
        navigation: What stands above it.
        script: What makes it more comfortable to use. A page is complete without; no other script runs in it.
    """
    body, styles = compressed(element("body", navigation, element("main", *content)))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY + permission(script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"insitu: {title}"),
        Html(f"<style>{colour_variables()}{style_sheet()}{styles}</style>"),
    )
    end = Html(f"<script>{script}</script>\n" if script else "")
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n{end}</html>\n'.encode()


def permission(script: str) -> str:
    """The policy that lets this one script run, named by its digest."""
    if not script:
        return ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"; script-src 'sha256-{digest}'"


def style_sheet() -> str:
    """The styles of every page."""
    return part_of_pages("style.css")


def part_of_pages(name: str) -> str:
    """A file that becomes part of pages."""
    return (importlib.resources.files("insitu.report") / name).read_text(encoding="utf-8")


def write_drawing(folder: Path, name: str, drawing: Drawing) -> list[Path]:
    """Write a figure as SVG and PDF below ``figures``.

    Raises:
        StorageError: If a file cannot be written.
    """
    paths = [folder / "figures" / f"{name}.{kind}" for kind in ("svg", "pdf")]
    for path, content in zip(paths, (drawing.svg, drawing.pdf), strict=True):
        write_atomically(path, content)
    return paths
