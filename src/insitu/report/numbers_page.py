"""The page of ``insitu identify --lm``: answers on a line first, then the identification."""

from pathlib import Path

import torch

from insitu.figure import Figure, Panel, line
from insitu.language.numbers import NumberIdentification
from insitu.language.numbers.identify import RIVAL, Illustration, Reading
from insitu.report.identify_page import write_page

__all__ = ["lengths_figure", "line_figure", "write_numbers_page"]

# Places at which learners are drawn between two queries of the model.
PLACES = 60


def write_numbers_page(path: Path, identification: NumberIdentification) -> Path:
    """Write the page with its figures.

    Args:
        path: A folder, in which the page is ``identification.html``, or the name of the page.
        identification: What was identification.

    Raises:
        StorageError: If a file cannot be written.
    """
    front = {"answers-on-a-line": line_figure(identification)} if identification.pictures else {}
    front["error-by-length"] = lengths_figure(identification)
    return write_page(
        path, identification.found, identification.found.answered, front=front, lead=identification.summary()
    )


def line_figure(identification: NumberIdentification) -> Figure:
    """One prompt of each of two lengths: its examples, and what the model and two learners answer along the range."""
    return Figure(
        tuple(line_panel(picture) for picture in identification.pictures),
        f"One prompt of each length. Points: its examples, whole numbers in lines of text. Line with a band: the mean "
        f"of {identification.model}'s distribution over the numbers of the range and one standard deviation around it, "
        f"at {identification.pictures[0].reading.episode.whole.queries.shape[1]} inputs. Dashed: least squares, and "
        "the average of the labels near the input at the bandwidth nearest to the model over all prompts.",
        "Examples as points, the model's answers as a line with a band, least squares and a smoother as dashed lines.",
    )


def line_panel(picture: Illustration) -> Panel:
    """One prompt."""
    reading, lines = picture.reading, picture.reading.lines
    whole, answers = reading.episode.whole, reading.answers
    along, mean, spread = whole.queries[0, :, 0], answers.mean[0], answers.spread[0]
    places = torch.linspace(lines.low, lines.high, PLACES, dtype=torch.float64)[None, :, None]
    dense = Reading(
        type(reading.episode)(type(whole)(whole.xs, whole.ys, places), places[..., 0], reading.episode.names),
        answers,
        lines,
    )
    drawn = (
        line("examples", whole.xs[0, :, 0], whole.ys[0, :, 0], look="points", colour=-1),
        line("the model", along, mean, low=mean - spread, high=mean + spread, colour=0),
        line("least squares", places[0, :, 0], dense.by(RIVAL)[0], look="dashed", colour=1),
        line("kernel smoother", places[0, :, 0], dense.by(picture.smoother)[0], look="dashed", colour=2),
    )
    return Panel("input", "output", drawn, title=f"{reading.points} examples")


def lengths_figure(identification: NumberIdentification) -> Figure:
    """How far answers are from the truth, by context length."""
    rows = [reading.as_json() for reading in reversed(identification.readings)]
    lengths = [row["points"] for row in rows]
    lines = [
        line(name, lengths, [row["root mean squared error"][name] for row in rows], look=look, colour=colour)
        for colour, (name, look) in enumerate(
            (("model", "solid"), ("least squares", "dashed"), ("mean label", "dashed"))
        )
    ]
    panel = Panel("examples in the context", "distance from the truth", tuple(lines))
    return Figure(
        (panel,),
        "Root mean squared distance of answers from the function behind the examples, in whole numbers, beside those "
        "of least squares and of the mean label.",
        "Three lines over the number of examples.",
    )
