"""What a panel shows of a state: its curves, the picture, and one sentence that says what is seen."""

import abc
import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

from insitu.errors import StepSizeWarning
from insitu.explorer.drawing import Curves, Matrix, curves_svg, matrix_svg
from insitu.explorer.state import State
from insitu.report.markup import Html

__all__ = ["COLOUR", "Panel", "View"]

# One colour for one thing in all panels.
COLOUR = {
    "prefix": 0,
    "gradient descent": 0,
    "causal": 1,
    "causal descent": 1,
    "ridge": 2,
    "least squares": 3,
    "Kaczmarz pass": 4,
    "online descent": 7,
    "one trained layer": 6,
    "network": -1,
}


@final
@dataclass(frozen=True)
class View:
    """One panel of one state.

    Args:
        shown: The curves or the matrix.
        sentence: What is seen, in a sentence.
        source: What of it is exact, by which function, and what is measured on how much.
    """

    shown: Curves | Matrix
    sentence: str
    source: str

    @property
    def curves(self) -> dict[str, tuple[float, ...]]:
        """The heights of the lines by their labels; the rows of a matrix by their names, NaN where it is empty."""
        if isinstance(self.shown, Matrix):
            rows = ([math.nan if v is None else v for v in row] for row in self.shown.values)
            return dict(zip(self.shown.rows, map(tuple, rows), strict=True))
        return {line.label: line.y for line in self.shown.lines if line.label}


class Panel(abc.ABC):
    """A question about a state, with the picture that answers it and the code that draws it again."""

    name: ClassVar[str]
    title: ClassVar[str]
    ignores: ClassVar[tuple[str, ...]]
    """The controls that do not matter here."""

    @final
    def view(self, state: State) -> View:
        """The curves and the sentence."""
        return cached_view(self, state.without(*self.ignores))

    @abc.abstractmethod
    def look(self, state: State) -> View:
        """The view, computed anew."""

    @abc.abstractmethod
    def code(self, state: State) -> str:
        """Python that computes the same numbers with the library alone, as a dictionary ``curves``."""

    @final
    def svg(self, view: View) -> Html:
        """The picture."""
        if isinstance(view.shown, Matrix):
            return matrix_svg(view.shown, f"{self.title} {view.sentence}")
        return curves_svg(view.shown, self.name, f"{self.title} {view.sentence}")


@lru_cache(maxsize=64)
def cached_view(panel: Panel, state: State) -> View:
    # That a rate lies beyond its limit is what the picture shows.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        return panel.look(state)
