"""Checks the built site: links inside it lead somewhere, pictures have a text, headings go down one level at a time.

python docs/check_site.py build/site
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Page(HTMLParser):
    """What a page links to, what can be linked to in it, and how it is built."""

    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    headings: list[int] = field(default_factory=list)
    pictures: list[dict[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := given.get(name))}
        self.links += [value for name in ("href", "src") if (value := given.get(name))]
        if tag == "img":
            self.pictures.append(given)
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.headings.append(int(tag[1]))


def read(folder: Path) -> dict[Path, Page]:
    """Every page of the site by its path."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        page = Page()
        page.feed(path.read_text(encoding="utf-8"))
        pages[path.resolve()] = page
    return pages


def broken(path: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """The links of a page to files or places in the site that are not there."""
    for link in pages[path].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        missing = not target.exists()
        if missing or (parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors):
            yield f"the link {link} leads nowhere"


def fetched(page: Page) -> Iterator[str]:
    """What a page would load from elsewhere."""
    for picture in page.pictures:
        if urlsplit(picture.get("src") or "").scheme in ("http", "https"):
            yield f"the picture {picture['src']} is not part of the site"


def unreadable(page: Page) -> Iterator[str]:
    """Pictures without a text, and headings out of order."""
    for picture in page.pictures:
        # A small picture in the gallery stands beside its title.
        if not picture.get("alt") and "_thumb" not in (picture.get("src") or ""):
            yield f"the picture {picture.get('src')} has no text"
    if page.headings.count(1) != 1:
        yield f"it has {page.headings.count(1)} main headings"
    for above, below in zip(page.headings, page.headings[1:], strict=False):
        if below > above + 1:
            yield f"a heading of level {below} follows one of level {above}"


def faults(folder: Path) -> list[str]:
    """Everything that is wrong, each with its page."""
    pages = read(folder)
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve()).as_posix()
        wrong = [*broken(path, pages), *fetched(page), *unreadable(page)]
        found += [f"{name}: {text}" for text in dict.fromkeys(wrong)]
    return found


def main() -> None:
    """Name every fault, and exit with 1 if there is one."""
    found = faults(Path(sys.argv[1]))
    sys.exit("\n".join(found) or 0)


if __name__ == "__main__":
    main()
