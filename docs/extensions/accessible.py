"""What the theme leaves out for keyboards and screen readers, put into every page after the build."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

REPAIRS = (
    # A caption that is called a heading says of which level it is.
    (r'<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">'),
    # What scrolls can be reached with the keyboard.
    (r"<pre(?! tabindex)", '<pre tabindex="0"'),
    (r'<div class="(table-wrapper[^"]*)">', r'<div class="\1" tabindex="0" role="group" aria-label="table">'),
    # The text of these links is hidden where a title stands beside them.
    (
        r'<a class="reference internal" href="([^"]*)"><span class="doc">([^<"]*)</span>',
        r'<a class="reference internal" href="\1" aria-label="\2"><span class="doc">\2</span>',
    ),
    # The parameters of a signature are no list of definitions.
    (r'<dd>(<em class="sig-param">.*)</dd>', r'<div class="parameter">\1</div>'),
    (r'<dl>(?=\n<div class="parameter">)', "<div>"),
    (r'</dl>(?=\s*<span class="sig-paren">\))', "</div>"),
    # Sphinx begins this page below a heading that is not there.
    (r'<div id="search-results">', '<h1>Search</h1><div id="search-results">'),
    # Two asides need two names.
    (r'<aside class="sidebar-drawer">', '<aside class="sidebar-drawer" aria-label="all pages">'),
    (r'<aside class="(toc-drawer[^"]*)">', r'<aside class="\1" aria-label="this page">'),
)


def repaired(page: str) -> str:
    """A page with all repairs."""
    for pattern, text in REPAIRS:
        page = re.sub(pattern, text, page)
    return page


def repair_all(app: Sphinx, error: Exception | None) -> None:
    """Repair every page of a build that succeeded."""
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            path.write_text(repaired(path.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("build-finished", repair_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
