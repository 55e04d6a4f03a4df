"""Claims: a statement of a paper, what measures it, and the rule that decides it, written before the run."""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import torch

from insitu.errors import InputError
from insitu.figure import Figure
from insitu.metrics import Estimate
from insitu.seed import Seed

__all__ = ["Check", "Claim", "Measurement", "Paper", "Rule", "Run", "Scale", "Study", "Verdict"]

Scale = Literal["quick", "full"]


class Verdict(enum.StrEnum):
    """The verdict on a claim in our setting."""

    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"
    ERROR = "error"


@final
@dataclass(frozen=True)
class Rule:
    """Decides one quantity: its interval must lie between two bounds (both included).

    Args:
        quantity: The name of the estimate that it decides.
        low: The lower bound.
        high: The upper bound.
        printed: The value in the paper, as text; empty if it has none.

    Example:
        >>> rule = Rule("gap", low=0.0)
        >>> print(rule)
        gap >= 0
        >>> [str(rule.decide(Estimate(v, error=0.1))) for v in (1.0, -1.0, 0.1)]
        ['holds', 'fails', 'undecided']
    """

    quantity: str
    low: float = -math.inf
    high: float = math.inf
    printed: str = ""

    def decide(self, estimate: Estimate) -> Verdict:
        """*Holds* if the whole interval lies inside the bounds, *fails* if all of it lies outside."""
        low, high = estimate.interval()
        if self.low <= low and high <= self.high:
            return Verdict.HOLDS
        return Verdict.FAILS if high < self.low or low > self.high else Verdict.UNDECIDED

    @property
    def bound(self) -> str:
        """The bounds as text."""
        if self.low == self.high:
            return f"= {self.low:.6g}"
        if math.isinf(self.low) or math.isinf(self.high):
            return f"<= {self.high:.6g}" if math.isinf(self.low) else f">= {self.low:.6g}"
        return f"in [{self.low:.6g}, {self.high:.6g}]"

    def __str__(self) -> str:
        return f"{self.quantity} {self.bound}"


@final
@dataclass(frozen=True)
class Run:
    """The setting, random streams and device of a measurement.

    Args:
        setting: The claim's numbers at the scale that was asked for, a frozen dataclass.
        seed: The seed of all randomness.
        device: The device to compute on.
        study: The result of the claim's study; none if it has no study.
        folder: The folder for states of long work, from which an interrupted run resumes; none to store nothing.
    """

    setting: Any
    seed: Seed
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    study: Any = None
    folder: Path | None = None


@final
@dataclass(frozen=True)
class Study:
    """Work that several claims share and that is done once for all of them, such as training networks.

    Args:
        name: ``paper.short-name``; its random streams lie below it, so that no number depends on where code lives.
        make: Makes it from a run of its own, whose setting is that of the claim.
    """

    name: str
    make: Callable[["Run"], Any]

    def __call__(self, run: "Run") -> Any:
        """The result that the claims share."""
        return self.make(run)


@final
@dataclass(frozen=True)
class Measurement:
    """The result of a run: an estimate for every rule, a figure, and notes."""

    estimates: Mapping[str, Estimate]
    figure: Figure | None = None
    notes: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Check:
    """One rule applied to one estimate."""

    rule: Rule
    estimate: Estimate

    @property
    def verdict(self) -> Verdict:
        """The verdict of the rule."""
        return self.rule.decide(self.estimate)


def nothing(setting: Any) -> str:
    """The default of ``missing``: nothing prevents a run."""
    return ""


@final
@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    Args:
        id: ``paper.short-name``.
        statement: The statement, in our words.
        source: Its place in the paper.
        rules: The decision rules; the claim holds if all of them hold.
        measure: The measurement. Its keyword arguments, all with defaults, are the parts of the method that a
            test may replace by wrong ones.
        quick: The setting at quick scale.
        full: The setting at full scale.
        quick_seconds: The cost of quick scale on one CPU core, as measured; the study that claims share counts to the
            first of them.
        quick_gigabytes: The memory of quick scale beyond that of a process with PyTorch, as measured; 0 for little.
        full_hours: The cost of full scale: training on a graphics card by their operations (see
            :func:`~insitu.training.training_hours`), all else on one CPU core by how much larger the setting is.
        reduced: The reductions of quick scale against the paper; empty for the paper's own setting.
        study: The work that it shares with other claims; its result is ``run.study``.
        version: Raised whenever the measurement changes, so that old numbers are never compared with new ones.
        missing: A requirement of a setting that this machine lacks, such as a model, with the way to get it; empty
            where nothing is missing. Such a claim is left out of a run.
    """

    id: str
    statement: str
    source: str
    rules: tuple[Rule, ...]
    measure: Callable[..., Measurement]
    quick: Any
    full: Any
    quick_seconds: float
    full_hours: float
    quick_gigabytes: float = 0.0
    reduced: str = ""
    study: Study | None = None
    version: int = 1
    missing: Callable[[Any], str] = nothing

    @property
    def paper(self) -> str:
        """The paper's short name."""
        return self.id.partition(".")[0]

    def setting(self, scale: Scale) -> Any:
        """The numbers at a scale."""
        return self.quick if scale == "quick" else self.full

    def judge(self, measurement: Measurement) -> tuple[Check, ...]:
        """Apply every rule.

        Raises:
            InputError: If a rule's quantity was not measured.
        """
        missing = {r.quantity for r in self.rules} - set(measurement.estimates)
        if missing:
            raise InputError(f"{self.id}: no estimate was measured for {', '.join(sorted(missing))}.")
        return tuple(Check(rule, measurement.estimates[rule.quantity]) for rule in self.rules)


def overall(checks: tuple[Check, ...]) -> tuple[Verdict, Check]:
    """The verdict of several checks together, and the check that decided it: the first that is worst."""
    for verdict in (Verdict.FAILS, Verdict.UNDECIDED):
        for check in checks:
            if check.verdict is verdict:
                return verdict, check
    return Verdict.HOLDS, checks[0]


@final
@dataclass(frozen=True)
class Paper:
    """A paper and its claims.

    Args:
        id: Its short name.
        title: Its title.
        authors: Their names.
        venue: Where and when it appeared.
        claims: Its claims, in the paper's order.
        headline: The short name of the claim whose figure stands for the paper; the first with a figure if empty.

    Raises:
        InputError: If no claim has the name that ``headline`` gives.
    """

    id: str
    title: str
    authors: str
    venue: str
    claims: tuple[Claim, ...]
    headline: str = ""

    def __post_init__(self) -> None:
        names = [claim.id.partition(".")[2] for claim in self.claims]
        if self.headline and self.headline not in names:
            raise InputError(
                f"{self.id}: headline is {self.headline!r}; expected one of its claims {', '.join(names)}."
            )
