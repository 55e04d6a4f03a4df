"""The server of the page: on this machine alone, and with nothing from elsewhere."""

import importlib.resources
import socket
from typing import TYPE_CHECKING

from insitu.errors import InputError, require_package
from insitu.explorer.identifying import IdentifyTab
from insitu.explorer.page import Explorer
from insitu.explorer.record import Record
from insitu.explorer.widgets import button, markup, tag, words
from insitu.processes import prepare_torch
from insitu.report.document import style_sheet
from insitu.report.figures import colour_variables

if TYPE_CHECKING:
    from nicegui.element import Element
    from starlette.requests import Request

__all__ = ["free_port", "require_page", "serve"]

HOST = "127.0.0.1"
TABS = {"explore": "Explore", "identify": "Which algorithm?"}
TAGLINE = "In-context learning as an algorithm: move anything, and exact theory, networks and learners follow."
ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='M1 3Q5 14 15 14' fill="
    "'none' stroke='%230072b2' stroke-width='2'/><path d='M1 3Q5 8 15 8' fill='none' stroke='%23d1550a' "
    "stroke-width='2'/></svg>"
)


def require_page() -> None:
    """Refuse to go on without the page's one dependency.

    Raises:
        InputError: If NiceGUI is not installed.
    """
    rest = "; the panels themselves work without it (insitu.explorer.PANELS)"
    require_package("explore", "nicegui", "explore", rest)


def free_port(port: int) -> int:
    """The port, if it can be had; any free one for 0.

    Raises:
        InputError: If something else listens there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise InputError(
                f"explore: port {port} is in use, perhaps by another explorer; choose another one with --port, or "
                "--port 0 for any that is free."
            ) from None
        return int(probe.getsockname()[1])


def serve(port: int, *, show: bool, model: str = "", record: Record | None = None) -> None:
    """Serve the page until it is interrupted.

    Args:
        port: Where; see :func:`free_port`.
        show: Whether a browser is opened.
        model: The model that the second tab names at first.
        record: The record that it shows at first.

    Raises:
        InputError: If NiceGUI is missing, or the port in use.
    """
    require_page()
    from nicegui import ui
    from starlette.requests import Request

    # For many small products several threads only wait for one another.
    prepare_torch()

    @ui.page("/", title="insitu explore", favicon=ICON)
    def page(request: Request) -> None:
        build(request, model, record)

    ui.run(
        host=HOST,
        port=port,
        title="insitu explore",
        dark=None,
        language="en-US",
        reload=False,
        show=show,
        show_welcome_message=False,
        tailwind=False,
    )


def build(request: "Request", model: str, record: Record | None) -> None:
    """Fill a page that is being opened."""
    from nicegui import ui

    parameters = dict(request.query_params)
    first = parameters.pop("tab", "explore" if record is None and not model else "identify")
    style, script = (own_file(name) for name in ("style.css", "page.js"))
    ui.add_head_html(f"<style>{colour_variables()}{style_sheet()}{style}</style><script>{script}</script>")
    with tag("header", class_="top"):
        markup("h1", "insitu <span>explore</span>")
        words("p", TAGLINE)
    add_tabs(first)
    with panel("explore", first):
        Explorer(parameters).build()
    with panel("identify", first):
        IdentifyTab(model, record).build()


def own_file(name: str) -> str:
    """A part of the page that is kept beside this module."""
    return (importlib.resources.files("insitu.explorer") / name).read_text(encoding="utf-8")


def add_tabs(first: str) -> None:
    """The tabs, which change places in the browser alone."""
    with tag("div", class_="tabs", role="tablist", aria_label="Views"):
        for name, title in TABS.items():
            state = {"aria_selected": str(name == first).lower(), "tabindex": "0" if name == first else "-1"}
            tab = button(title, role="tab", id=f"tab-{name}", aria_controls=f"view-{name}", **state)
            tab.on("click", js_handler=SELECT)
            tab.on("keydown", js_handler=ARROWS)


def panel(name: str, first: str) -> "Element":
    """The content of a tab."""
    hidden = {} if name == first else {"hidden": True}
    return tag("div", role="tabpanel", id=f"view-{name}", aria_labelledby=f"tab-{name}", **hidden)


SELECT = """(event) => {
  for (const tab of document.querySelectorAll('[role=tab]')) {
    const chosen = tab === event.currentTarget;
    tab.setAttribute('aria-selected', chosen);
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(tab.getAttribute('aria-controls')).hidden = !chosen;
  }
}"""
ARROWS = """(event) => {
  if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const step = event.key === 'ArrowRight' ? 1 : tabs.length - 1;
  const next = tabs[(tabs.indexOf(event.currentTarget) + step) % tabs.length];
  next.focus();
  next.click();
}"""
