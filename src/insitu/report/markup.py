"""HTML that is escaped by construction: text becomes markup in one place only."""

import html
from typing import final

__all__ = ["Html", "element", "join"]

# Elements of HTML that have no content and no end tag.
VOID = frozenset({"meta", "br", "hr", "link", "input"})


@final
class Html(str):
    """Text that is markup already; every other string is escaped where it enters an element."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: str) -> Html:
    """One element. ``class_`` is written *class*, ``data_label`` *data-label*.

    Example:
        >>> element("p", "a < b, ", element("b", "c"), class_="note")
        '<p class="note">a &lt; b, <b>c</b></p>'
    """
    words = "".join(f' {k.rstrip("_").replace("_", "-")}="{html.escape(v)}"' for k, v in attributes.items())
    if tag in VOID:
        return Html(f"<{tag}{words}>")
    return Html(f"<{tag}{words}>{join(*children)}</{tag}>")


def join(*children: str, by: str = "") -> Html:
    """Pieces one after the other, escaped unless they are markup."""
    return Html(by.join(c if isinstance(c, Html) else html.escape(c) for c in children))
