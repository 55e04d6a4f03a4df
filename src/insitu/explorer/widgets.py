"""HTML elements of a page that NiceGUI serves; the one place that makes them."""

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nicegui.element import Element
    from nicegui.elements.html import Html as Markup

__all__ = ["button", "markup", "tag", "words"]


def tag(name: str, **attributes: Any) -> "Element":
    """An empty element, to be filled inside ``with``. ``class_`` is written *class*, ``aria_label`` *aria-label*."""
    from nicegui import ui

    return with_attributes(ui.element(name), attributes)


def words(name: str, text: str, **attributes: Any) -> "Markup":
    """An element that holds text."""
    return markup(name, html.escape(text), **attributes)


def markup(name: str, content: str, **attributes: Any) -> "Markup":
    """An element that holds markup of our own."""
    from nicegui import ui

    return with_attributes(ui.html(content, tag=name, sanitize=False), attributes)


def button(text: str, **attributes: Any) -> "Markup":
    """A button."""
    return words("button", text, type="button", **attributes)


def with_attributes(element: Any, attributes: dict[str, Any]) -> Any:
    classes = attributes.pop("class_", "")
    for name, value in attributes.items():
        element.props[name.rstrip("_").replace("_", "-")] = value
    return element.classes(classes)
