"""What a list of jobs takes, who does which, and when."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import psutil

from insitu.errors import InputError
from insitu.records import Damage, read_folder
from insitu.work.job import Job
from insitu.work.schedule import Schedule, shares, timetable

__all__ = ["Planned", "Work", "memory_room", "plan", "predicted_seconds", "queued", "shard"]

AnyJob = TypeVar("AnyJob", bound=Job)

# The memory for the jobs of a worker, beyond what PyTorch takes.
ROOM = 1.6e9


def shard(jobs: Sequence[AnyJob], number: int, count: int) -> list[AnyJob]:
    """One of ``count`` shares of a list of jobs, counted from 1, in the order of the list.

    Jobs that share work stay together. Shares depend on the list alone, by what jobs state of their cost and not by
    what they took before: shards begin at different times and must agree.

    Raises:
        InputError: If there is no share of this number.
    """
    if not 1 <= number <= count:
        raise InputError(f"shard {number}/{count}: the number must be from 1 to {count}.")
    queues = queued(jobs)
    pieces = shares([sum(job.stated_seconds for job in queue) for queue in queues], count)[number - 1]
    chosen = {job.key for piece in pieces for job in queues[piece]}
    return [job for job in jobs if job.key in chosen]


@final
class Work:
    """Jobs with their predicted costs, in queues for one worker each, and the order of the queues.

    Args:
        jobs: The jobs.
        workers: How many there are to do them.
        room: The bytes that all under way may need together.
    """

    def __init__(self, jobs: Sequence[Job], workers: int, room: float = math.inf) -> None:
        self.costs = predicted_seconds(jobs)
        self.queues = queued(jobs)
        self.workers = max(1, min(workers, len(self.queues)))
        seconds = [sum(self.costs[job.key] for job in queue) for queue in self.queues]
        needs = [max(float(job.bytes_needed or 0) for job in queue) for queue in self.queues]
        self.schedule = Schedule(seconds, self.workers, needs, room)


def memory_room(workers: int) -> float:
    """The bytes that jobs of so many workers may need together; no more than are free."""
    return min(workers * ROOM, float(psutil.virtual_memory().available))


@final
@dataclass(frozen=True)
class Planned:
    """A job with the predicted seconds at which it starts and ends; ``record`` if an earlier run had done it."""

    job: Job
    start: float = 0.0
    end: float = 0.0
    record: Any = None


def plan(jobs: Sequence[Job], *, workers: int, resume: bool) -> list[Planned]:
    """The predicted timetable of :func:`run_jobs`, in the order of the starts; nothing is run."""
    records = {job.key: job.earlier() for job in jobs} if resume else {}
    done = {key: record for key, record in records.items() if record is not None and not isinstance(record, Damage)}
    work = Work([job for job in jobs if job.key not in done], workers, memory_room(workers))
    planned = [Planned(job, record=done[job.key]) for job in jobs if job.key in done]
    for placed in timetable(work.schedule, [0.0] * work.workers):
        start = placed.start
        for job in work.queues[placed.piece]:
            planned.append(Planned(job, start, start + work.costs[job.key]))
            start = planned[-1].end
    return sorted(planned, key=lambda item: (item.record is None, item.start))


def queued(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in queues for one worker each: jobs that share work share a queue, every other job has its own."""
    together: dict[object, list[Job]] = {}
    for job in jobs:
        together.setdefault(job.together, []).append(job)
    return list(together.values())


def predicted_seconds(jobs: Sequence[Job]) -> dict[str, float]:
    """The predicted seconds of each job by its key: those of its last such record, or those it expects."""
    stored = {folder: newest_first(folder) for folder in {job.folder for job in jobs}}
    return {job.key: measured(job, stored[job.folder]) for job in jobs}


def newest_first(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder that tell how long something took."""
    records = [r for r in read_folder(folder)[0].values() if isinstance(r.get("seconds"), int | float)]
    return sorted((r for r in records if not r.get("error")), key=lambda r: str(r.get("finished")), reverse=True)


def measured(job: Job, records: Sequence[Mapping[str, Any]]) -> float:
    """The seconds of the first record that resembles a job, or those that it expects."""
    found = next((float(r["seconds"]) for r in records if job.resembles(r)), None)
    return job.expected_seconds if found is None else found
