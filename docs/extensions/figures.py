"""Figures of the gallery: stored as SVG, and shown on the page of the paper that they belong to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx_gallery.scrapers import matplotlib_scraper


def vector_figures(*block: Any) -> str:
    """Sphinx-Gallery's own way to take figures, with SVG for PNG."""
    return matplotlib_scraper(*block, format="svg")


def figures_of(paper: str, gallery: Path) -> Iterator[str]:
    """The figures of the scripts that name the page of a paper, each with the title of its script."""
    for script in sorted(gallery.rglob("*.py")):
        text = script.read_text(encoding="utf-8")
        if f"</papers/{paper}>" in text:
            title = text.partition('"""')[2].strip().partition("\n")[0]
            folder = f"../examples/{script.parent.name}"
            picture = f"{folder}/images/sphx_glr_{script.stem}_001.svg"
            yield f"### {title}\n\n[![{title}]({picture})]({folder}/{script.stem}.rst)\n"


def add_figures(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the figures of a paper at the end of its page."""
    folder, _, paper = name.partition("/")
    if folder == "papers" and (found := list(figures_of(paper, Path(app.srcdir) / "gallery"))):
        source[0] += "\n## Figures\n\n" + "\n".join(found)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("source-read", add_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
