"""Links between pages as the repository has them, also to files above the documentation."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# Files of the repository that are pages of the site.
PAGES = {"README.md": "/index.md", "CONTRIBUTING.md": "/contributing.md", "CHANGELOG.md": "/changes.md"}


def site_links(text: str, up: str) -> str:
    """A text in which links to files above the documentation lead to the pages that show them.

    Args:
        text: A page.
        up: The path from the page to the root of the repository, such as ``../``.
    """
    for file, page in PAGES.items():
        text = re.sub(rf"\]\({re.escape(up + file)}(#[^)]*)?\)", rf"]({page}\1)", text)
    # The source is read in the repository; here its module is named.
    source = rf"\[([^\]]+)\]\({re.escape(up)}src/([\w/]+)\.py\)"
    return re.sub(source, lambda link: f"{link[1]} (`{link[2].replace('/', '.')}`)", text)


def read_page(_: Sphinx, name: str, source: list[str]) -> None:
    """Change a page as it is read."""
    source[0] = site_links(source[0], "../" * (name.count("/") + 1))
    if "/" not in name:
        # A script beside the pages is no page.
        source[0] = re.sub(r"\[`?([^\]`]+)`?\]\((\w+\.py)\)", r"{download}`\1 <\2>`", source[0])


def read_included(_: Sphinx, path: Path, parent: str, source: list[str]) -> None:
    """Change a file above the documentation as it is included."""
    source[0] = site_links(source[0], "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
