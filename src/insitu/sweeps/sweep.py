"""Sweeps: claims or trainings at every combination of the values of some fields."""

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from insitu.claims.claim import Claim, Scale
from insitu.claims.job import ClaimJob
from insitu.errors import InputError, near_matches, shortened
from insitu.papers import PAPERS, select
from insitu.sweeps.training_job import Member, TrainingJob, shape_of
from insitu.training.config import training_from
from insitu.training.memory import require_memory
from insitu.work import Job

__all__ = ["ClaimSweep", "Point", "Row", "Sweep", "TrainingSweep", "claim_jobs", "left_out"]

Point = Mapping[str, Any]
"""The value of every field that a sweep varies."""
Row = dict[str, Any]
"""A row of a table: a network, or one quantity of a claim."""


class Sweep(ABC):
    """A list of work over combinations of fields."""

    points: tuple[Point, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that vary."""
        return tuple(dict.fromkeys(name for point in self.points for name in point))

    @abstractmethod
    def jobs(self, folder: Path, device: str) -> list[Any]:
        """The jobs, in the order of the plan.

        Raises:
            InputError: If a field is unknown, a value does not fit, or nothing can run.
        """

    @abstractmethod
    def rows(self, jobs: Sequence[Job], records: Sequence[Any]) -> list[Row]:
        """The rows of the table of these jobs' records."""


def left_out(ids: Sequence[str], scale: Scale) -> dict[str, str]:
    """The claims that cannot run on this machine, each with what it needs and the way to get it."""
    return {claim.id: why for claim in select(ids) if (why := claim.missing(claim.setting(scale)))}


def claim_jobs(
    ids: Sequence[str] = (), scale: Scale = "quick", seeds: Sequence[int] = (0,), *, folder: Path, device: str
) -> list[ClaimJob]:
    """The jobs of claims at several seeds; those that cannot run on this machine are left out, see :func:`left_out`.

    Raises:
        InputError: If an id names neither a paper nor a claim, or none can run.
    """
    return ClaimSweep(tuple(ids), scale, tuple({"seed": seed} for seed in seeds)).jobs(folder, device)


@final
@dataclass(frozen=True)
class ClaimSweep(Sweep):
    """Claims at several seeds and settings.

    Args:
        ids: Papers or claims; all where none is given.
        scale: The scale whose setting is changed.
        points: Values of the seed and of fields of the setting, such as ``"batch"`` or ``"descent.steps"``.
    """

    ids: tuple[str, ...] = ()
    scale: Scale = "quick"
    points: tuple[Point, ...] = ({},)

    def jobs(self, folder: Path, device: str) -> list[ClaimJob]:
        missing = left_out(self.ids, self.scale)
        ready = [claim for claim in select(self.ids) if claim.id not in missing]
        if not ready:
            raise InputError(f"nothing can run: {next(iter(missing.values()))}")
        jobs = [self.job(claim, point, folder, device) for point in self.points for claim in ready]
        return list({job.key: job for job in jobs}.values())

    def job(self, claim: Claim, point: Point, folder: Path, device: str) -> ClaimJob:
        """The job of a claim at one point."""
        setting = claim.setting(self.scale)
        for name, value in point.items():
            if name != "seed":
                setting = changed(setting, name.split("."), value, f"{claim.id}: {name}")
        if setting != claim.setting(self.scale):
            claim = replace(claim, **{self.scale: setting})
        return ClaimJob(claim, PAPERS[claim.paper], self.scale, point.get("seed", 0), device, folder)

    def rows(self, jobs: Sequence[Job], records: Sequence[Any]) -> list[Row]:
        rows = []
        for job, record in zip(jobs, records, strict=True):
            assert isinstance(job, ClaimJob)
            rows += [self.row(job, record, check) for check in record.checks]
        return rows

    def row(self, job: ClaimJob, record: Any, check: Mapping[str, Any]) -> Row:
        """The row of one quantity."""
        setting = job.claim.setting(self.scale)
        names = [name for name in self.fields if name != "seed"]
        point = {name: value_at(setting, name.split(".")) for name in names} | {"seed": record.seed}
        numbers = {name: check[name] for name in ("quantity", "value", "low", "high", "bound", "verdict")}
        return {"claim": record.claim, **point, **numbers, "seconds": record.seconds, "key": record.key}


def value_at(setting: Any, path: Sequence[str]) -> Any:
    """The value of a field inside a setting."""
    for name in path:
        setting = getattr(setting, name)
    return setting


def changed(setting: Any, path: Sequence[str], value: Any, where: str) -> Any:
    """A setting with another value of one field.

    Raises:
        InputError: If there is no such field, or the value is of another type.
    """
    names = [field.name for field in dataclasses.fields(setting)] if dataclasses.is_dataclass(setting) else []
    if path[0] not in names:
        raise InputError(f"{where}: the setting has no field {path[0]!r}; {near_matches(path[0], names)}")
    old = getattr(setting, path[0])
    new = changed(old, path[1:], value, where) if len(path) > 1 else like(old, value, where)
    try:
        return replace(setting, **{path[0]: new})
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {shortened(repr(value))} does not fit: {shortened(str(error), 200)}.") from None


def like(old: Any, value: Any, where: str) -> Any:
    """A value of a file as the type of the one that it replaces: lists as tuples, whole numbers as floats.

    Raises:
        InputError: If it is of another type.
    """
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(like(old[0], item, where) if old else item for item in value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and type(value) is not type(old):
        raise InputError(
            f"{where}: expected a value like {shortened(repr(old))}, a {type(old).__name__}; got "
            f"{shortened(repr(value))}."
        )
    return value


@final
@dataclass(frozen=True)
class TrainingSweep(Sweep):
    """Trainings of networks at several seeds and settings; those of one shape train as one ensemble.

    Args:
        document: The sections ``task``, ``network`` and ``training`` of a training's file.
        points: Values of the seed and of entries of the document, such as ``"training.rate"`` or ``"task.law.dim"``.
        together: The largest number of trainings in an ensemble.
        test: Prompts on which each network is tested.
    """

    document: Mapping[str, Any]
    points: tuple[Point, ...] = ({},)
    together: int = 8
    test: int = 1024

    def jobs(self, folder: Path, device: str) -> list[TrainingJob]:
        alike: dict[Any, list[Member]] = {}
        for point in self.points:
            member = self.member(point)
            alike.setdefault(shape_of(member.training), []).append(member)
        jobs = [
            TrainingJob(tuple(part), self.test, device, folder)
            for members in alike.values()
            for part in in_parts(list(dict.fromkeys(members)), self.together)
        ]
        for job in jobs:
            for member in job.members:
                require_memory(member.training, torch.device(device))
        return jobs

    def member(self, point: Point) -> Member:
        """The training at one point."""
        document = copy.deepcopy(dict(self.document))
        for name, value in point.items():
            if name != "seed":
                set_entry(document, name, value)
        training = training_from(document, "the plan")
        varied = tuple((name, frozen_entry(value)) for name, value in point.items() if name != "seed")
        return Member(training, point.get("seed", 0), varied)

    def rows(self, jobs: Sequence[Job], records: Sequence[Any]) -> list[Row]:
        rows = []
        for job, record in zip(jobs, records, strict=True):
            for row in record.rows:
                numbers = {name: value for name, value in row.items() if name != "point"}
                rows.append({**row["point"], **numbers, "seconds": record.seconds, "key": job.key})
        return rows


def in_parts(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Items in parts of a size; the last may be smaller."""
    return (items[start : start + size] for start in range(0, len(items), size))


def frozen_entry(value: Any) -> Any:
    """A value of a file that can be hashed."""
    return tuple(map(frozen_entry, value)) if isinstance(value, list) else value


def set_entry(document: dict[str, Any], name: str, value: Any) -> None:
    """Set an entry of nested tables.

    Raises:
        InputError: If what should hold it is no table.
    """
    *path, last = name.split(".")
    place: Any = document
    for step in path:
        place = place.get(step) if isinstance(place, dict) else None
    if not path or not isinstance(place, dict):
        tables = ", ".join(key for key, table in document.items() if isinstance(table, dict))
        raise InputError(
            f"the field {name!r} is in no table of the plan; expected seed, or one inside {tables}, such as "
            "training.rate."
        )
    place[last] = value
