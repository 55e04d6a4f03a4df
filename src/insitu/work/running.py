"""Runs a list of jobs: what is done is read off the folder, and an engine does the rest."""

import dataclasses
from collections.abc import Iterator, Sequence

from insitu.budget import OutOfTimeError
from insitu.records import Damage
from insitu.work.dispatcher import Dispatcher
from insitu.work.events import Engine, Finished, Started
from insitu.work.job import Job

__all__ = ["run_jobs"]


def run_jobs(
    jobs: Sequence[Job], *, workers: int, resume: bool, engine: Engine | None = None
) -> Iterator[Started | Finished]:
    """Run jobs, ``workers`` at a time, and yield an event when one starts or ends.

    Results depend neither on the number of workers nor on the order: every job runs in a process with one torch thread
    and has its own random streams. A job that raises, or whose process dies, gets a record with an error; the others
    go on.

    Args:
        jobs: The list.
        workers: How many run at the same time.
        resume: Whether records of earlier runs count, and states of unfinished work are taken up.
        engine: Who does them (default: processes of this machine).

    Raises:
        OutOfTimeError: If the :func:`~insitu.budget.budget` of the process is spent before the last job has its
            record; trainings under way have stored their state.
        StorageError: If a record cannot be written; earlier ones remain.
    """
    damages: dict[str, Damage] = {}
    waiting = []
    for job in jobs:
        record = job.earlier() if resume else None
        if record is not None and not isinstance(record, Damage):
            yield Finished(job, record, resumed=True)
            continue
        if record is not None:
            damages[job.key] = record
        if not resume:
            job.forget()
        waiting.append(job)
    earlier = finished = len(jobs) - len(waiting)
    forget_finished(jobs, waiting)
    for event in engine(waiting) if engine else Dispatcher(waiting, workers).run():
        if isinstance(event, Finished):
            finished += 1
            event = dataclasses.replace(event, damage=damages.get(event.job.key))
        yield event
    if finished < len(jobs):
        none = " None was finished in this sitting: what trains nothing starts anew, and may need a longer one."
        raise OutOfTimeError(
            f"the time is over: {finished} of {len(jobs)} have their records, and trainings under way are stored."
            f"{none if finished == earlier else ''} The same command with --resume or --budget continues from there."
        )


def forget_finished(jobs: Sequence[Job], waiting: Sequence[Job]) -> None:
    """Remove what a kill between the record of a job and the removal of its states left."""
    needed = {state for job in waiting for state in job.states()}
    for job in jobs:
        if needed.isdisjoint(job.states()):
            job.forget()
