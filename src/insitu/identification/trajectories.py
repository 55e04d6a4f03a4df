"""Which algorithm when: the checkpoints of a training, identified one after the other on the same prompts."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from insitu.budget import budget
from insitu.errors import InputError
from insitu.figure import Figure, Line, Panel, line
from insitu.identification.black_box import ask, plan_for
from insitu.identification.diagnostics import Plan, diagnostic_prompts
from insitu.identification.directions import between
from insitu.identification.evidence import Answered, gather
from insitu.identification.interval import Interval
from insitu.identification.result import Identification, plain
from insitu.identification.sentences import expression
from insitu.identification.verdicts import identify
from insitu.predictor import Predictor
from insitu.records import find_record, key_of, store_record
from insitu.seed import Seed

__all__ = ["KIND", "Moment", "Trajectory", "identify_training"]

KIND = "identify step"
"""The kind of the records of checkpoints."""

# Kinds of learners whose distances are drawn, and gains at so many moments.
KINDS, CURVES = 6, 4
# Where smaller and larger distances are drawn: rounding, and what is worse than no answer, would press the others flat.
LEAST, MOST = 1e-6, 10.0


@final
@dataclass(frozen=True)
class Moment:
    """One checkpoint, as plain values: what is stored of it is all that pages and figures show.

    Args:
        step: The step of the training.
        content: The verdict, the best candidate and what else :meth:`Identification.as_json` says, the ``distances`` of
            the nearest candidate of every kind, and the ``share`` of the way from the first of two reference learners
            to the second that its answers lie.
    """

    step: int
    content: Mapping[str, Any]

    @classmethod
    def of(cls, step: int, identification: Identification, share: Interval | None) -> "Moment":
        """The checkpoint of an identification."""
        kinds: dict[str, float] = {}
        for candidate in identification.ranking:
            kind = type(candidate.learner).__name__
            kinds[kind] = min(candidate.score.distance, kinds.get(kind, math.inf))
        kept = ("verdict", "reason", "mixture", "best", "gains", "properties", "shift")
        values = identification.as_json()
        ends = None if share is None else {"value": share.value, "low": share.low, "high": share.high}
        distances = {kind: plain(distance) for kind, distance in kinds.items()}
        return cls(step, {**{k: values[k] for k in kept if k in values}, "distances": distances, "share": ends})

    @property
    def distances(self) -> dict[str, float]:
        """The distance of the nearest candidate of every kind."""
        return {kind: float(distance) for kind, distance in self.content["distances"].items()}

    @property
    def weights(self) -> dict[str, float]:
        """The weights of a mixture by the kind of learner; empty where none is named."""
        return {kind_in(part["learner"]): part["weight"] for part in self.content["mixture"] or ()}

    @property
    def name(self) -> str:
        """The kind of the learner that is named, or *none*."""
        return "none" if self.content["verdict"] == "none" else kind_in(self.content["best"]["learner"])

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"step": self.step, **self.content}


def kind_in(expression: str) -> str:
    """The kind of a learner in its expression.

    Example:
        >>> kind_in("Ridge(penalty=0.25)")
        'Ridge'
    """
    return expression.partition("(")[0]


@final
@dataclass(frozen=True)
class Trajectory:
    """What a training runs at every checkpoint.

    Args:
        moments: The checkpoints, the earliest first.
        references: The two learners between which its answers are placed, as they print; none where not asked.
    """

    moments: tuple[Moment, ...]
    references: tuple[str, ...] | None

    def __repr__(self) -> str:
        steps = [moment.step for moment in self.moments]
        return f"Trajectory({len(steps)} checkpoints, steps {steps[0]} to {steps[-1]}; {' > '.join(self.phases)})"

    def __str__(self) -> str:
        rows = [f"{'step':>8}  {'distance':>9}  {'verdict':<17}  nearest"]
        for moment in self.moments:
            best = moment.content["best"]
            distance, name = float(best["distance"]), expression(best["learner"])
            rows.append(f"{moment.step:>8}  {distance:>9.3g}  {moment.content['verdict']:<17}  {name}")
        return "\n".join([" > ".join(self.phases), "", *rows])

    @property
    def phases(self) -> tuple[str, ...]:
        """The kinds that are named, in their order; a kind that comes back is named again."""
        named = [moment.name for moment in self.moments]
        return tuple(kind for i, kind in enumerate(named) if i == 0 or kind != named[i - 1])

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "phases": list(self.phases),
            "references": self.references and list(self.references),
            "checkpoints": [moment.as_json() for moment in self.moments],
        }

    def figure(self) -> Figure:
        """Distances, the place between two references, and gain curves, over steps."""
        panels = [self.distance_panel()]
        if any(moment.weights for moment in self.moments):
            panels.append(self.mixture_panel())
        if self.references is not None:
            panels.append(self.share_panel())
        if any(moment.content["gains"] for moment in self.moments):
            panels.append(self.gain_panel())
        return Figure(
            tuple(panels),
            "Checkpoints of one training on the same diagnostic prompts: the distance of the nearest learner of each "
            "kind (1 is that of answering zero; below 10⁻⁶ and above 10 it is drawn there), and what is named: "
            f"{', then '.join(self.phases)}.",
            "Distances that fall and rise over steps; gain curves at several steps.",
        )

    def distance_panel(self) -> Panel:
        """The nearest learner of each kind over the steps at which there is one."""
        kinds = sorted(
            {kind for moment in self.moments for kind in moment.distances},
            key=lambda kind: min(m.distances.get(kind, float("inf")) for m in self.moments),
        )[:KINDS]
        lines = []
        for colour, kind in enumerate(kinds):
            rows = [(m.step, min(max(m.distances[kind], LEAST), MOST)) for m in self.moments if kind in m.distances]
            steps, distances = zip(*rows, strict=True)
            lines.append(line(kind, steps, distances, colour=colour))
        return Panel("step", "distance of the nearest learner", tuple(lines), x_scale="log", y_scale="log")

    def mixture_panel(self) -> Panel:
        """The weights of mixtures over steps, by the kind of learner; none where no mixture is named."""
        weights = [moment.weights for moment in self.moments]
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
        placed = [(m.step, m.content["share"]) for m in self.moments if m.content["share"] is not None]
        ends = {end: [share[end] for _, share in placed] for end in ("low", "high")}
        curve = line("", [step for step, _ in placed], [share["value"] for _, share in placed], **ends)
        near, far = (expression(learner) for learner in self.references)
        return Panel("step", "share of the way", (curve,), x_scale="log", title=f"from {near} to {far}")

    def gain_panel(self) -> Panel:
        """Gain curves of the longest context at a few checkpoints."""
        chosen = [self.moments[round(i * (len(self.moments) - 1) / max(CURVES - 1, 1))] for i in range(CURVES)]
        lines: list[Line] = []
        for step, gains in {moment.step: moment.content["gains"] for moment in chosen}.items():
            if gains:
                sizes, factors = ([row[name] for row in gains[-1]["curve"]] for name in ("size", "gain"))
                lines.append(line(f"step {step}", sizes, factors, colour=len(lines)))
        return Panel("size of a direction of the examples", "gain", tuple(lines), title="gain curves")


def identify_training(
    checkpoints: Sequence[tuple[int, Predictor]],
    plan: Plan,
    seed: Seed,
    *,
    references: tuple[Predictor, Predictor] | None = None,
    folder: Path | None = None,
    resume: bool = False,
    tell: Callable[[str], None] = lambda what: None,
) -> Trajectory:
    """Identify the checkpoints of one training, all on the same prompts.

    Args:
        checkpoints: Steps, each with the network as it was then.
        plan: The diagnostic prompts.
        seed: Where they are drawn.
        references: Two learners between which the answers are placed, such as one that memorises the tasks of the
            training and one that generalises (Wurgaft et al., 2025).
        folder: Where a record of every checkpoint is written; nowhere if none.
        resume: Whether to take records of the same answers that the folder holds.
        tell: Called with the step that is being identified.

    Raises:
        InputError: If there is no checkpoint.
        StorageError: If a record cannot be written.
    """
    if not checkpoints:
        raise InputError("identify: there is no checkpoint; expected at least one step of a training.")
    ordered = sorted(checkpoints, key=lambda entry: entry[0])
    prompts = diagnostic_prompts(plan_for(ordered[0][1], plan), seed)

    def moment(step: int, answered: Sequence[Answered]) -> Moment:
        share = None if references is None else between(gather(answered), *references)
        return Moment.of(step, identify(answered, seed=seed / "identify"), share)

    names = references and tuple(repr(learner) for learner in references)
    moments: list[Moment] = []
    for step, model in ordered:
        tell(f"step {step}")
        answered = ask(model, prompts)
        content = {"kind": KIND, "step": step, "answers": digest_of(answered), "seed": str(seed), "references": names}
        record = kept(content, folder, resume)
        moments.append(moment(step, answered) if record is None else Moment(step, record["found"]))
        if folder is not None and record is None:
            store_record(folder, KIND, key_of(content), {**content, "found": moments[-1].content})
        budget().stored = f"{len(moments)} of {len(ordered)} checkpoints are stored"
    return Trajectory(tuple(moments), names)


def kept(content: Mapping[str, Any], folder: Path | None, resume: bool) -> dict[str, Any] | None:
    """The record of an earlier run, if there is an intact one."""
    record = find_record(folder, KIND, key_of(content)) if folder is not None and resume else None
    return record if isinstance(record, dict) else None


def digest_of(answered: Sequence[Answered]) -> str:
    """A digest of prompts and answers, which are all that an identification depends on."""
    digest = hashlib.sha256()
    for part in answered:
        for tensor in (part.prompt.xs, part.prompt.ys, part.prompt.queries, part.answers):
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.detach().cpu().numpy().tobytes())
        digest.update(repr(part.names).encode())
    return digest.hexdigest()
