"""The page: controls that move a state, and panels that follow it."""

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
from insitu.explorer.view import Panel
from insitu.explorer.widgets import button, markup, tag, words

if TYPE_CHECKING:
    from nicegui.elements.html import Html as Markup

__all__ = ["Explorer"]

# Seconds between two events of a slider that is being moved.
THROTTLE = 0.03
# Seconds in which drawn pictures go out before the next one is computed, and at least so many between two sendings: a
# browser takes longer to paint pictures one by one than several at once.
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
        self.inputs: dict[str, list[Any]] = {}
        self.pictures: dict[str, Markup] = {}
        self.sentences: dict[str, Markup] = {}
        self.sources: dict[str, Markup] = {}
        self.drawn: dict[str, State] = {}
        self.following = False

    def build(self) -> None:
        """Fill the page."""
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
            with tag("select", id="preset", value="") as select:
                words("option", "an example …", value="")
                for name in PRESETS:
                    words("option", name, value=name)
        select.on("change", lambda event: self.jump(PRESETS.get(event.args, self.state)), js_handler=VALUE)
        self.inputs["preset"] = [select]

    def add_control(self, name: str, control: Control) -> None:
        """One control: a choice, or a slider with a field to type in."""
        symbol = f" <i>{control.symbol}</i>" if control.symbol else ""
        with tag("div", class_="control wide" if control.words else "control"):
            markup("label", html.escape(control.label) + symbol, for_=name)
            self.inputs[name] = [self.choice(name, control)] if control.words else self.slider(name, control)

    def choice(self, name: str, control: Control) -> Any:
        """A choice among words."""
        with tag("select", id=name, value=getattr(self.state, name)) as select:
            for value, meaning in control.words.items():
                words("option", meaning, value=value)
        select.on("change", lambda event: self.move(name, event.args), js_handler=VALUE)
        return select

    def slider(self, name: str, control: Control) -> list[Any]:
        """A number to type, and a slider."""
        value = getattr(self.state, name)
        step = "any" if control.doubling else control.step
        ends = {"min": f"{control.low:g}", "max": f"{control.high:g}"}
        typed = tag("input", type="number", step=step, value=shown(value), aria_label=f"{control.label}, typed", **ends)
        low, high = (position(control, end) for end in (control.low, control.high))
        slid = tag("input", id=name, type="range", min=low, max=high, step=control.step, value=position(control, value))
        slid.props["aria-valuetext"] = shown(value)
        typed.on("change", lambda event: self.move(name, event.args), js_handler=VALUE)
        slid.on("input", lambda event: self.slide(name, control, event.args), js_handler=VALUE, throttle=THROTTLE)
        return [typed, slid]

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
            self.pictures[panel.name] = markup("div", panel.svg(view))
            self.sentences[panel.name] = words("p", view.sentence, class_="sentence")
            self.sources[panel.name] = words("p", view.source, class_="source")
            with tag("div", class_="actions"):
                code, figure = (button(label, aria_label=f"{label}: {panel.title}") for label in ("Python", "SVG"))
            code.on("click", lambda: self.show_code(panel))
            figure.on("click", lambda: self.save_figure(panel))
        self.drawn[panel.name] = self.state

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
        self.move(name, shown(min(control.high, max(control.low, 2**value))) if control.doubling else text)

    def move(self, name: str, text: str) -> None:
        """Move one control, from text."""
        try:
            state = self.state.moved({name: text})
        except InputError as error:
            self.notice.set_content(html.escape(str(error)))
            return
        self.notice.set_content("")
        self.jump(state)

    def jump(self, state: State) -> None:
        """Move all controls, and let the panels follow."""
        from nicegui import background_tasks, ui

        self.state = state
        self.show_values()
        link = f"?{state.query}" if state.query else "."
        ui.run_javascript(f"history.replaceState(null, '', {json.dumps(link)})")
        if not self.following:
            background_tasks.create(self.follow())

    def show_values(self) -> None:
        """Bring the inputs to the state."""
        for name, control in CONTROLS.items():
            value = getattr(self.state, name)
            if control.words:
                put(self.inputs[name][0], value=value)
            else:
                typed, slid = self.inputs[name]
                put(typed, value=shown(value))
                put(slid, value=position(control, value), **{"aria-valuetext": shown(value)})
        chosen = next((name for name, state in PRESETS.items() if state == self.state), "")
        put(self.inputs["preset"][0], value=chosen)

    async def follow(self) -> None:
        """Draw the panels until they show the state; the first one is sent at once, the others some at a time."""
        self.following, sent = True, -math.inf
        try:
            while late := [panel for name, panel in PANELS.items() if self.drawn[name] != self.state]:
                panel = late[0]
                # Of all that are late the one that was drawn for the oldest state has waited longest.
                self.drawn[panel.name] = self.drawn.pop(panel.name) and self.state
                self.draw(panel, self.state)
                if time.monotonic() > sent + BETWEEN:
                    await asyncio.sleep(SENDING)
                    sent = time.monotonic()
        finally:
            self.following = False

    def draw(self, panel: Panel, state: State) -> None:
        """Bring one panel to a state; what stays as it is is not sent."""
        view = panel.view(state)
        self.pictures[panel.name].set_content(panel.svg(view))
        self.sentences[panel.name].set_content(html.escape(view.sentence))
        self.sources[panel.name].set_content(html.escape(view.source))

    def show_code(self, panel: Panel) -> None:
        """Open the Python of a panel."""
        from nicegui import ui

        self.code.set_content(html.escape(panel.code(self.state)))
        ui.run_javascript("document.getElementById('code').showModal()")

    def save_figure(self, panel: Panel) -> None:
        """Give the picture of a panel as a file."""
        from nicegui import ui

        ui.download(standalone(panel.svg(panel.view(self.state))).encode(), f"insitu-{panel.name}.svg")


def put(element: Any, **values: Any) -> None:
    """Set attributes that have changed."""
    if any(element.props.get(name) != value for name, value in values.items()):
        element.props.update(values)
        element.update()


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
