"""What an identification finds: candidates with scores, a mixture, a verdict, and how they are written."""

import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from insitu.identification import sentences
from insitu.identification.combinations import Mapped, Way
from insitu.identification.evidence import Answered, Kind
from insitu.identification.gains import GainCurve
from insitu.identification.interval import Interval
from insitu.identification.properties import Property
from insitu.identification.scoring import Departure, Score
from insitu.predictor import Predictor

__all__ = ["Candidate", "Identification", "Mixture", "MixturePart", "Name", "plain"]

Name = Literal["indistinguishable", "mixture", "closest", "none"]
# How far from 0 and 1 the weights of a switch may be.
SWITCH = 0.02


@final
@dataclass(frozen=True, eq=False)
class Candidate:
    """A fitted candidate with its score.

    Args:
        score: Its distances on the held-out prompts.
        parameters: Its free numbers with their intervals, where they were determined.
    """

    score: Score
    parameters: tuple[Interval, ...] = ()

    @property
    def learner(self) -> Predictor:
        """The learner; without the factor and the offset of one that is mapped."""
        return self.score.learner.learner if isinstance(self.score.learner, Mapped) else self.score.learner

    def as_json(self) -> dict[str, Any]:
        """Plain values, those that are not finite as text."""
        found: dict[str, Any] = {
            "learner": repr(self.learner),
            "distance": plain(self.score.distance),
            "low": plain(self.score.low),
            "high": plain(self.score.high),
            "correlation": self.score.correlation,
            "weights": self.score.weights
            and dict(zip(("distance", "low", "high"), map(plain, self.score.weights), strict=True)),
            "parameters": [parameter_json(p) for p in self.parameters],
        }
        if isinstance(self.score.learner, Mapped):
            found["factor"] = self.score.learner.factor
            found["offset"] = list(self.score.learner.offset)
        return found


def parameter_json(given: Interval) -> dict[str, Any]:
    """A number with its interval."""
    return {"name": given.name, "value": given.value, "low": plain(given.low), "high": plain(given.high)}


@final
@dataclass(frozen=True)
class MixturePart:
    """A learner that takes part in a mixture.

    Args:
        learner: The learner.
        weight: Its weight, with its interval; the mean over context lengths where it depends on them.
        parameters: Its numbers with their intervals.
        by_length: Its weight at every context length.
    """

    learner: Predictor
    weight: Interval
    parameters: tuple[Interval, ...]
    by_length: dict[int, Interval]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "learner": repr(self.learner),
            "weight": self.weight.value,
            "low": self.weight.low,
            "high": self.weight.high,
            "parameters": [parameter_json(p) for p in self.parameters],
            "by_length": {str(n): [w.value, w.low, w.high] for n, w in self.by_length.items()},
        }


@final
@dataclass(frozen=True, eq=False)
class Mixture:
    """Several learners that together are the model's answers.

    Args:
        parts: The learners, the heaviest first.
        way: Whether their answers are averaged, by weights that may depend on the context length, or each prompt
            gets one of them.
        score: The mixture on the held-out prompts.
    """

    parts: tuple[MixturePart, ...]
    way: Way
    score: Score

    @property
    def switches(self) -> bool:
        """Whether one learner at a time answers: each prompt, or each context length, has one."""
        ends = [abs(w.value - round(w.value)) for p in self.parts for w in p.by_length.values()]
        return self.way == "by prompt" or (self.way == "by length" and max(ends) <= SWITCH)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Identification:
    """What a model's answers are.

    Args:
        verdict: *indistinguishable* from the best candidate, a *mixture*, *closest* to it, or *none* of them.
        reason: The verdict in a sentence.
        ranking: The candidates, the nearest first; but the one that the verdict names stands first.
        agreeing: Other candidates that the answers do not tell from the best.
        mixture: The learners of a mixture; none unless this is the verdict.
        properties: Symmetries of the answers, which hold or fail whatever they are named.
        gains: By which factor directions of the examples are fitted, for each context length.
        kind: What the prompts are.
        prompts: How many there are.
        noise: The share of the answers that repeated prompts show to be noise; zero where none is repeated.
        remarks: What was not tried, what these prompts cannot show, and what the answers show besides.
        shift: The identification of the answers under shift, where it is known what the model was trained on; the
            verdict is about its answers in distribution then.
        answered: The prompts and answers.
    """

    verdict: Name
    reason: str
    ranking: tuple[Candidate, ...]
    agreeing: tuple[Candidate, ...]
    mixture: Mixture | None
    properties: tuple[Property, ...]
    gains: tuple[GainCurve, ...]
    kind: Kind
    prompts: int
    noise: float
    remarks: tuple[str, ...]
    shift: "Identification | None" = None
    answered: tuple[Answered, ...] = ()

    @property
    def best(self) -> Candidate:
        """The candidate that the verdict is about; of a mixture the nearest single learner."""
        return self.ranking[0]

    @property
    def diagnostics(self) -> tuple[Departure, ...]:
        """How far what the verdict names is on every diagnostic."""
        return (self.mixture or self.best).score.departures

    def __repr__(self) -> str:
        return (
            f"Identification({self.verdict}, {sentences.expression(self.best.learner)}, "
            f"distance={self.best.score.distance:.3g}, prompts={self.prompts})"
        )

    def __str__(self) -> str:
        return page_of().as_text(self)

    def _repr_html_(self) -> str:
        return page_of().as_html(self)

    def save_page(self, path: Path | str, model: Predictor | None = None) -> Path:
        """Write the page with its figures.

        Args:
            path: A folder, or the name of the page where it ends in ``.html``; figures lie beside it.
            model: The model, if the page is to show its gradients and, of a network, its layers.

        Returns:
            The page.

        Raises:
            StorageError: If a file cannot be written.
        """
        return page_of().write_page(Path(path), self, self.answered, model)

    def as_json(self) -> dict[str, Any]:
        """What ``insitu identify --json`` prints."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "mixture": None if self.mixture is None else [part.as_json() for part in self.mixture.parts],
            "way": None if self.mixture is None else self.mixture.way,
            "best": self.best.as_json(),
            "ranking": [candidate.as_json() for candidate in self.ranking],
            "agreeing": [repr(candidate.learner) for candidate in self.agreeing],
            "properties": [given.as_json() for given in self.properties],
            "gains": [curve.as_json() for curve in self.gains],
            "diagnostics": [departure_json(d) for d in self.diagnostics],
            "prompts": self.prompts,
            "kind": self.kind,
            "noise": self.noise,
            "remarks": list(self.remarks),
        } | ({} if self.shift is None else {"shift": self.shift.as_json()})


def departure_json(given: Departure) -> dict[str, Any]:
    """A diagnostic with its distance."""
    return {
        "name": given.name,
        "points": given.points,
        "distance": plain(given.distance),
        "low": plain(given.low),
        "high": plain(given.high),
        "floor": plain(given.floor + given.noise),
        "most": plain(given.most),
        "departs": given.departs,
        "within": given.within,
    }


def plain(value: float) -> float | str:
    """A number as JSON takes it."""
    return value if math.isfinite(value) else str(value)


def page_of() -> Any:
    """What draws the page: it stands above this module and is imported when a result is shown."""
    return importlib.import_module("insitu.report.identify_page")
