"""The page of ``insitu identify RUN``: one figure over the steps of a training, and what is named at each of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.identification.sentences import expression
from insitu.identification.trajectories import Moment, Trajectory
from insitu.report.document import document, write_drawing
from insitu.report.figures import draw
from insitu.report.identify_page import figure_element, section
from insitu.report.markup import Html, element
from insitu.report.numbers import number
from insitu.report.tables import cells, stacked_table
from insitu.storage import require_folder, write_atomically

__all__ = ["page_of_steps", "write_training_page"]

NAME = "along-training"


def write_training_page(folder: Path, trajectory: Trajectory) -> Path:
    """Write ``training.html``, its figure and its numbers (``along-training.json``) into a folder.

    Raises:
        StorageError: If a file cannot be written.
    """
    require_folder(folder)
    figure = trajectory.figure()
    drawing = draw(figure)
    write_drawing(folder, NAME, drawing)
    write_atomically(folder / f"{NAME}.json", (json.dumps(trajectory.as_json(), indent=1) + "\n").encode())
    opening = element(
        "header",
        element("p", "insitu identify", class_="kicker"),
        element("h1", "Which learner, when?"),
        element("p", f"{' → '.join(trajectory.phases)}.", class_="lead"),
    )
    path = folder / "training.html"
    write_atomically(
        path, document("training", opening, figure_element(NAME, figure, drawing), steps_table(trajectory))
    )
    return path


def steps_table(trajectory: Trajectory) -> Html:
    """What is named at every step, in distribution and under shift."""
    columns = ("Step", "In distribution", "Nearest", "Leaves", "Under shift", "Nearest there", "Leaves there")
    shifted = any("shift" in moment.content for moment in trajectory.moments)
    body = [
        element("tr", *cells(columns[: 7 if shifted else 4], row(moment)), role="row") for moment in trajectory.moments
    ]
    table = stacked_table(columns[: 7 if shifted else 4], [element("tbody", *body, role="rowgroup")], "checks")
    return section("Steps", table)


def row(moment: Moment) -> tuple[str, ...]:
    """One step."""
    parts = [moment.content, *([moment.content["shift"]] if "shift" in moment.content else [])]
    shown: list[str] = [str(moment.step)]
    for part in parts:
        best = part["best"]
        shown += [part["verdict"], element("code", expression(best["learner"])), number(float(best["distance"]), 3)]
    return tuple(shown)


def page_of_steps(records: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """The page of the records of one training."""
    ordered = sorted(records, key=lambda record: int(record["step"]))
    references = ordered[0]["references"]
    moments = tuple(Moment(record["step"], record["found"]) for record in ordered)
    return write_training_page(folder, Trajectory(moments, references and tuple(references)))
