"""Which algorithm when: the checkpoints of a training, identified one after the other on the same prompts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from insitu.errors import InputError
from insitu.figure import Figure, Line, Panel, line
from insitu.identification.black_box import ask, plan_for
from insitu.identification.diagnostics import Plan, diagnostic_prompts
from insitu.identification.directions import between
from insitu.identification.evidence import gather
from insitu.identification.interval import Interval
from insitu.identification.result import Identification, plain
from insitu.identification.sentences import expression
from insitu.identification.verdicts import identify
from insitu.predictor import Predictor
from insitu.seed import Seed

__all__ = ["Moment", "Trajectory", "identify_training"]

# Kinds of learners whose distances are drawn, and gains at so many moments.
KINDS, CURVES = 6, 4


@final
@dataclass(frozen=True)
class Moment:
    """One checkpoint.

    Args:
        step: The step of the training.
        found: Its identification.
        share: How far its answers lie from the first of two reference learners to the second.
    """

    step: int
    found: Identification
    share: Interval | None

    @property
    def distances(self) -> dict[str, float]:
        """The distance of the nearest candidate of every kind."""
        kinds: dict[str, float] = {}
        for candidate in self.found.ranking:
            kind = type(candidate.learner).__name__
            kinds[kind] = min(candidate.score.distance, kinds.get(kind, float("inf")))
        return kinds

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        share = (
            None if self.share is None else {"value": self.share.value, "low": self.share.low, "high": self.share.high}
        )
        distances = {kind: plain(distance) for kind, distance in self.distances.items()}
        kept = ("verdict", "reason", "mixture", "best", "gains", "properties", "shift")
        found = self.found.as_json()
        return {"step": self.step, **{k: found[k] for k in kept if k in found}, "distances": distances, "share": share}


@final
@dataclass(frozen=True)
class Trajectory:
    """What a training runs at every checkpoint.

    Args:
        moments: The checkpoints, the earliest first.
        references: The two learners between which its answers are placed; none where not asked.
    """

    moments: tuple[Moment, ...]
    references: tuple[Predictor, Predictor] | None

    def __repr__(self) -> str:
        steps = [moment.step for moment in self.moments]
        return f"Trajectory({len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}; {' > '.join(self.phases)})"

    def __str__(self) -> str:
        rows = [f"{'step':>8}  {'distance':>9}  {'verdict':<17}  nearest"]
        for moment in self.moments:
            best = moment.found.best
            distance, name = best.score.distance, expression(best.learner)
            rows.append(f"{moment.step:>8}  {distance:>9.3g}  {moment.found.verdict:<17}  {name}")
        return "\n".join([" > ".join(self.phases), "", *rows])

    @property
    def phases(self) -> tuple[str, ...]:
        """The kinds that are named, in their order; a kind that comes back is named again."""
        named = ["none" if m.found.verdict == "none" else type(m.found.best.learner).__name__ for m in self.moments]
        return tuple(kind for i, kind in enumerate(named) if i == 0 or kind != named[i - 1])

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "phases": list(self.phases),
            "references": self.references and [repr(learner) for learner in self.references],
            "checkpoints": [moment.as_json() for moment in self.moments],
        }

    def figure(self) -> Figure:
        """Distances, the place between two references, and gain curves, over steps."""
        panels = [self.distance_panel()]
        if any(moment.found.mixture for moment in self.moments):
            panels.append(self.mixture_panel())
        if self.references is not None:
            panels.append(self.share_panel())
        if any(moment.found.gains for moment in self.moments):
            panels.append(self.gain_panel())
        return Figure(
            tuple(panels),
            "Checkpoints of one training on the same diagnostic prompts: the distance of the nearest learner of each "
            f"kind, and what is named: {', then '.join(self.phases)}.",
            "Distances that fall and rise over steps; gain curves at several steps.",
        )

    def distance_panel(self) -> Panel:
        """The nearest learner of each kind over steps."""
        steps = [moment.step for moment in self.moments]
        kinds = sorted(
            {kind for moment in self.moments for kind in moment.distances},
            key=lambda kind: min(m.distances.get(kind, float("inf")) for m in self.moments),
        )[:KINDS]
        lines = [
            line(kind, steps, [min(max(m.distances.get(kind, 1e3), 1e-32), 1e3) for m in self.moments], colour=i)
            for i, kind in enumerate(kinds)
        ]
        return Panel("step", "distance of the nearest", tuple(lines), x_scale="log", y_scale="log")

    def mixture_panel(self) -> Panel:
        """The weights of mixtures over steps, by the kind of learner; none where no mixture is named."""
        weights = [
            {type(p.learner).__name__: p.weight.value for p in m.found.mixture.parts} if m.found.mixture else {}
            for m in self.moments
        ]
        kinds = list(dict.fromkeys(kind for row in weights for kind in row))
        lines = []
        for colour, kind in enumerate(kinds):
            rows = [(m.step, row[kind]) for m, row in zip(self.moments, weights, strict=True) if kind in row]
            steps, shares = zip(*rows, strict=True)
            lines.append(line(kind, steps, shares, look="points", colour=colour))
        return Panel("step", "weight in a mixture", tuple(lines), x_scale="log")

    def share_panel(self) -> Panel:
        """The place between the two references over steps."""
        assert self.references is not None
        placed = [(m.step, m.share) for m in self.moments if m.share is not None]
        ends = {"low": [s.low for _, s in placed], "high": [s.high for _, s in placed]}
        curve = line("", [step for step, _ in placed], [s.value for _, s in placed], **ends)
        near, far = (expression(learner) for learner in self.references)
        return Panel("step", "share of the way", (curve,), x_scale="log", title=f"from {near} to {far}")

    def gain_panel(self) -> Panel:
        """Gain curves of the longest context at a few checkpoints."""
        chosen = [self.moments[round(i * (len(self.moments) - 1) / max(CURVES - 1, 1))] for i in range(CURVES)]
        lines: list[Line] = []
        for moment in dict.fromkeys(chosen):
            if moment.found.gains:
                curve = moment.found.gains[-1]
                lines.append(line(f"step {moment.step}", curve.sizes, curve.gains, colour=len(lines)))
        return Panel("size of a direction of the examples", "gain", tuple(lines), title="gain curves")


def identify_training(
    checkpoints: Sequence[tuple[int, Predictor]],
    plan: Plan,
    seed: Seed,
    *,
    references: tuple[Predictor, Predictor] | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Trajectory:
    """Identify the checkpoints of one training, all on the same prompts.

    Args:
        checkpoints: Steps, each with the network as it was then.
        plan: The diagnostic prompts.
        seed: Where they are drawn.
        references: Two learners between which the answers are placed, such as one that memorises the tasks of the
            training and one that generalises (Wurgaft et al., 2025).
        tell: Is told which step is being identified.

    Raises:
        InputError: If there is no checkpoint.
    """
    if not checkpoints:
        raise InputError("identify: there is no checkpoint; expected at least one step of a training.")
    ordered = sorted(checkpoints, key=lambda entry: entry[0])
    prompts = diagnostic_prompts(plan_for(ordered[0][1], plan), seed)

    def moments() -> Iterator[Moment]:
        for step, model in ordered:
            tell(f"step {step}")
            answered = ask(model, prompts)
            share = None if references is None else between(gather(answered), *references)
            yield Moment(step, identify(answered, seed=seed / "identify"), share)

    return Trajectory(tuple(moments()), references)
