"""The second tab: which algorithm a stored model runs, found in a thread, or read from a record."""

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from insitu.errors import InputError
from insitu.explorer.record import Record, read_record, record_parts
from insitu.explorer.widgets import button, markup, tag, words
from insitu.seed import Seed

if TYPE_CHECKING:
    from nicegui.elements.html import Html as Markup

__all__ = ["IdentifyTab", "identification_record"]

READ_FILE = "(event) => event.target.files[0]?.text().then(emit)"
VALUE = "(event) => emit(event.target.value)"
# Seconds between two looks at how far an identification is.
LOOK = 0.3
MODEL = "GradientDescent(steps=3, rate=0.4)"


@final
class IdentifyTab:
    """The form, the progress and the result.

    Args:
        model: The model that the form names at first.
        record: The record that is shown at first; none where empty.
    """

    def __init__(self, model: str = "", record: Record | None = None) -> None:
        self.model, self.dim, self.record = model or MODEL, "", record
        self.stage, self.stages_done, self.running = "", 0, False

    def build(self) -> None:
        """Fill the tab."""
        from nicegui import ui

        with tag("div", class_="identify"):
            words("p", INTRODUCTION)
            with tag("form", onsubmit="return false"):
                self.add_fields()
            with tag("p", role="status") as line:
                self.progress = tag("progress", max=1, value=0, aria_label="Progress")
                self.status = words("span", "")
            self.status_line = line
            self.progress.set_visibility(False)
            self.notice = words("p", "", class_="problem", role="alert")
            self.result: Markup = markup("div", "", class_="result")
        ui.timer(LOOK, self.show_progress)
        if self.record is not None:
            self.show(self.record)

    def add_fields(self) -> None:
        """The model, its dimension, the button, and the record."""
        with tag("div", class_="field"):
            words("label", "Checkpoint, learner or language model", for_="model")
            # As an attribute: as a property it would be set again, over what was typed, whenever the page changes.
            start = {"^value": self.model}
            name = tag("input", id="model", type="text", spellcheck="false", autocomplete="off", **start)
        with tag("div", class_="field"):
            words("label", "Dimension", for_="model-dim")
            dim = tag("input", id="model-dim", type="number", min=1, placeholder="its own")
        self.start = button("Identify", id="identify")
        with tag("div", class_="field"):
            words("label", "or a record of insitu identify --json", for_="record")
            record = tag("input", id="record", type="file", accept=".json,application/json")
        name.on("input", lambda event: setattr(self, "model", event.args), js_handler=VALUE)
        dim.on("input", lambda event: setattr(self, "dim", event.args), js_handler=VALUE)
        self.start.on("click", self.identify)
        record.on("change", lambda event: self.read(event.args), js_handler=READ_FILE)

    async def identify(self) -> None:
        """Identify the model in a thread."""
        from nicegui import run

        if self.running:
            return
        self.running, self.stages_done, self.stage = True, 0, "loading the model"
        self.notice.set_content("")
        try:
            record = await run.io_bound(identification_record, self.model, self.dim, self.tell)
            if record is not None:  # The program is not ending.
                self.show(record)
        except InputError as error:
            self.refuse(error)
        finally:
            self.running = False

    def tell(self, stage: str) -> None:
        """Note what the identification is at; called from its thread."""
        self.stage, self.stages_done = stage, self.stages_done + 1

    def show_progress(self) -> None:
        """Show how far it is."""
        from insitu.identification.search import STAGES

        self.progress.set_visibility(self.running)
        self.status.set_content(html.escape(f" {self.stage} …" if self.running else ""))
        if self.running and self.progress.props.get("value") != self.stages_done / STAGES:
            self.progress.props["value"] = min(1.0, self.stages_done / STAGES)
            self.progress.update()

    def read(self, text: str) -> None:
        """Show a record from a file."""
        try:
            self.show(read_record(text))
        except InputError as error:
            self.refuse(error)

    def show(self, record: Record) -> None:
        """Show a record."""
        self.notice.set_content("")
        self.result.set_content("".join(record_parts(record)))

    def refuse(self, error: InputError) -> None:
        """Say why there is nothing to show."""
        self.result.set_content("")
        self.notice.set_content(html.escape(str(error)))


INTRODUCTION = (
    "Which learning algorithm does a model run in its context? It answers diagnostic prompts; learners are fitted to "
    "half of the answers and scored on the other half. A verdict names a learner, a mixture, the closest one, or none."
)


def identification_record(
    model: str, dim: str, tell: Callable[[str], None], count: int | None = None
) -> dict[str, Any]:
    """The record of a model's identification, as ``insitu identify --json`` prints it.

    Args:
        model: The folder of a checkpoint, a learner as it prints, or a language model.
        dim: The dimension of an input; the usual one where empty: a network's own, 10, of a language model 1.
        tell: Called with what is being tried.
        count: Prompts of each diagnostic at each length; the usual number where none is given.

    Raises:
        InputError: If the model is none of these, or the dimension no whole number.
    """
    from insitu.front_door import load
    from insitu.identification.black_box import identify_model
    from insitu.identification.diagnostics import Plan
    from insitu.language.numbers import NumberPlan, identify_language_model
    from insitu.predictor import Predictor

    if not model.strip() or (dim and not dim.isdigit()):
        raise InputError(
            f"explore: a model such as {MODEL} and a dimension of at least 1 are needed; got {model!r} and {dim!r}."
        )
    given = load(model)
    how = {"dim": int(dim)} if dim else {}
    how |= {"count": count} if count else {}
    if isinstance(given, Predictor):
        return identify_model(given, Plan(**{"dim": 10, **how}), Seed(0), tell=tell).as_json()  # type: ignore[arg-type]
    return identify_language_model(given, NumberPlan(**how), Seed(0), tell).as_json()  # type: ignore[arg-type]
