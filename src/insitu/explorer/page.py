"""The page: controls that move a state, and panels that follow it.

NiceGUI builds the page once. What follows a moved control goes out in one message that ``page.js`` puts in place:
NiceGUI itself would go through all elements of the page again for every change.
"""

import asyncio
import html
import json
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from insitu.errors import InputError
from insitu.explorer.drawing import standalone
from insitu.explorer.panels import PANELS
from insitu.explorer.presets import PRESETS
from insitu.explorer.state import CONTROLS, Control, State
from insitu.explorer.view import Panel, View
from insitu.explorer.widgets import button, markup, tag, words
from insitu.report.markup import Html, join

if TYPE_CHECKING:
    from nicegui import Client
    from nicegui.element import Element

__all__ = ["Explorer"]

# Seconds between two events of a slider that is being moved.
THROTTLE = 0.03
# Seconds in which a message goes out before the next picture is computed, and seconds of computing after which one goes
# out: a browser takes longer to paint pictures one by one than several at once.
SENDING, BETWEEN = 0.001, 0.03
VALUE = "(event) => emit(event.target.value)"
COPY_LINK = "() => navigator.clipboard.writeText(location.href)"
COPY_CODE = "() => navigator.clipboard.writeText(document.getElementById('code-text').textContent)"
CLOSE = "(event) => event.target.closest('dialog').close()"


@final
class Explorer:
    """One open page: its state, the inputs that move it, and the panels that follow.

    Args:
        words: The query of the link by which it was opened.
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self.state, self.problem = State(), ""
        try:
            self.state = State.from_query(words)
        except InputError as error:
            self.problem = f"The link was not understood, so everything stands where it starts. {error}"
        self.drawn: dict[str, State] = {}
        self.views: dict[str, View] = {}
        self.slid, self.following = "", False

    def build(self) -> None:
        """Fill the page."""
        from nicegui import ui

        self.client: Client = ui.context.client
        with tag("div", class_="explore"):
            with tag("form", class_="controls", aria_label="Controls", onsubmit="return false"):
                self.add_presets()
                for name, control in CONTROLS.items():
                    self.add_control(name, control)
                self.add_actions()
            with tag("div", class_="pictures"):
                for panel in PANELS.values():
                    self.add_panel(panel)
        self.add_dialog()

    def add_presets(self) -> None:
        """States worth seeing."""
        with tag("div", class_="control wide"):
            words("label", "Start from", for_="preset")
            select = options({"": "an example …"} | {name: name for name in PRESETS}, self.preset, id="preset")
        select.on("change", lambda event: self.jump(PRESETS.get(event.args, self.state)), js_handler=VALUE)

    def add_control(self, name: str, control: Control) -> None:
        """One control: a choice, or a slider with a field to type in."""
        symbol = f" <i>{control.symbol}</i>" if control.symbol else ""
        with tag("div", class_="control wide" if control.words else "control"):
            markup("label", html.escape(control.label) + symbol, for_=name)
            if control.words:
                self.add_choice(name, control)
            else:
                self.add_slider(name, control)

    def add_choice(self, name: str, control: Control) -> None:
        """A choice among words."""
        select = options(control.words, getattr(self.state, name), id=name)
        select.on("change", lambda event: self.move(name, event.args), js_handler=VALUE)

    def add_slider(self, name: str, control: Control) -> None:
        """A number to type, and a slider."""
        value = getattr(self.state, name)
        step = "any" if control.doubling else control.step
        ends = {"min": f"{control.low:g}", "max": f"{control.high:g}"}
        label = f"{control.label}, typed"
        typed = field("number", shown(value), id=f"{name}-typed", step=step, aria_label=label, **ends)
        low, high = (position(control, end) for end in (control.low, control.high))
        how = {"min": low, "max": high, "step": control.step, "aria_valuetext": shown(value)}
        slid = field("range", position(control, value), id=name, **how)
        typed.on("change", lambda event: self.move(name, event.args), js_handler=VALUE)
        slid.on("input", lambda event: self.slide(name, control, event.args), js_handler=VALUE, throttle=THROTTLE)

    def add_actions(self) -> None:
        """The link and the way back."""
        with tag("div", class_="actions"):
            button("Copy link").on("click", js_handler=COPY_LINK)
            button("Start again").on("click", lambda: self.jump(State()))
        self.notice = words("p", self.problem, class_="problem", role="alert")

    def add_panel(self, panel: Panel) -> None:
        """A question with its picture."""
        view = panel.view(self.state)
        with tag("article", class_="panel", id=f"panel-{panel.name}"):
            words("h2", panel.title)
            for part, content in panel_parts(panel, view).items():
                markup("div" if part == "figure" else "p", content, class_=part)
            with tag("div", class_="actions"):
                code, figure = (button(label, aria_label=f"{label}: {panel.title}") for label in ("Python", "SVG"))
            code.on("click", lambda: self.show_code(panel))
            figure.on("click", lambda: self.save_figure(panel))
        self.drawn[panel.name], self.views[panel.name] = self.state, view

    def add_dialog(self) -> None:
        """Where the Python of a panel is shown."""
        with tag("dialog", id="code", aria_labelledby="code-title"):
            words("h2", "Python", id="code-title")
            self.code = words("pre", "", id="code-text", tabindex="0")
            with tag("div", class_="actions"):
                button("Copy").on("click", js_handler=COPY_CODE)
                button("Close").on("click", js_handler=CLOSE)

    def slide(self, name: str, control: Control, text: str) -> None:
        """Follow a slider, whose place is a power of two where equal moves multiply."""
        value = float(text)
        number = shown(min(control.high, max(control.low, 2**value))) if control.doubling else text
        self.move(name, number, slid=name)

    def move(self, name: str, text: str, slid: str = "") -> None:
        """Move one control, from text; ``slid`` is its name where its slider stands there already."""
        try:
            state = self.state.moved({name: text})
        except InputError as error:
            self.notice.set_content(html.escape(str(error)))
            return
        self.notice.set_content("")
        self.jump(state, slid)

    def jump(self, state: State, slid: str = "") -> None:
        """Move all controls but the slider that is there already, and let the page follow."""
        from nicegui import background_tasks

        self.state, self.slid = state, slid
        if not self.following:
            background_tasks.create(self.follow())

    @property
    def preset(self) -> str:
        """The name of the example that the state is; empty for none."""
        return next((name for name, state in PRESETS.items() if state == self.state), "")

    @property
    def values(self) -> dict[str, list[Any]]:
        """What the controls stand at: the value of each, and of a slider the number beside it.

        A slider that is being moved has none: it is ahead of what is known here.
        """
        numbers = {name: getattr(self.state, name) for name, control in CONTROLS.items() if not control.words}
        chosen = {name: [getattr(self.state, name)] for name, control in CONTROLS.items() if control.words}
        places = {name: [position(CONTROLS[name], value), shown(value)] for name, value in numbers.items()}
        if self.slid:
            places[self.slid][0] = None
        return {"preset": [self.preset]} | chosen | places

    async def follow(self) -> None:
        """Draw what is late and send it, until the page shows the state."""
        self.following = True
        try:
            while self.late():
                self.send(self.draw_late())
                await asyncio.sleep(SENDING)
        finally:
            self.following = False

    def late(self) -> list[Panel]:
        """The panels that show another state; the one that has waited longest is the first."""
        return [PANELS[name] for name, state in self.drawn.items() if state != self.state]

    def draw_late(self) -> dict[str, dict[str, Html]]:
        """Draw late panels for a while; of those that change, what they show."""
        end, changed = time.monotonic() + BETWEEN, {}
        for panel in self.late():
            view, old = panel.view(self.state), self.views[panel.name]
            # Behind the others, since it is the one that waits least now.
            del self.drawn[panel.name]
            self.drawn[panel.name], self.views[panel.name] = self.state, view
            if view != old:
                changed[panel.name] = panel_parts(panel, view)
            if time.monotonic() > end:
                break
        return changed

    def send(self, panels: dict[str, dict[str, Html]]) -> None:
        """Bring the page to the state with some panels; with the last of them, its address."""
        link = "" if self.late() else f"?{self.state.query}" if self.state.query else "."
        self.client.run_javascript(f"show({json.dumps({'values': self.values, 'panels': panels, 'link': link})})")

    def show_code(self, panel: Panel) -> None:
        """Open the Python of a panel."""
        from nicegui import ui

        self.code.set_content(html.escape(panel.code(self.state)))
        ui.run_javascript("document.getElementById('code').showModal()")

    def save_figure(self, panel: Panel) -> None:
        """Give the picture of a panel as a file."""
        from nicegui import ui

        ui.download(standalone(panel.svg(panel.view(self.state))).encode(), f"insitu-{panel.name}.svg")


def panel_parts(panel: Panel, view: View) -> dict[str, Html]:
    """What a panel shows, by the class of the element that holds it."""
    return {"figure": panel.svg(view), "sentence": join(view.sentence), "source": join(view.source)}


def options(given: Mapping[str, str], chosen: str, **attributes: Any) -> "Element":
    """A choice among words."""
    with tag("select", **attributes) as select:
        for value, meaning in given.items():
            words("option", meaning, value=value, **{"selected": True} if value == chosen else {})
    return select


def field(kind: str, value: float | str, **attributes: Any) -> "Element":
    """An input whose value is an attribute: as a property it would be set again whenever NiceGUI goes over the page."""
    return tag("input", type=kind, **{"^value": value}, **attributes)


def position(control: Control, value: float) -> float:
    """Where a slider stands for a value.

    Example:
        >>> position(CONTROLS["rate"], 4.0), position(CONTROLS["depth"], 4)
        (2.0, 4)
    """
    return round(math.log2(value), 6) if control.doubling else value


def shown(value: float) -> str:
    """A value in a field.

    Example:
        >>> shown(16), shown(2**0.125)
        ('16', '1.091')
    """
    return f"{value:.4g}"
