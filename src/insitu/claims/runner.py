"""Runs claims in processes, one torch thread each, and writes a record for every one."""

import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, final

import torch

from insitu.budget import OutOfTimeError, budget
from insitu.claims.claim import Claim, Paper, Run, Scale, Study
from insitu.claims.record import (
    Record,
    claim_name,
    claim_record,
    make_record,
    read_records,
    run_key,
    work_key,
    write_record,
)
from insitu.claims.schedule import Pace, Schedule, shares, timetable
from insitu.errors import InputError
from insitu.processes import prepare_worker, process_context
from insitu.records import Damage, find_record, record_path
from insitu.seed import Seed
from insitu.storage import StorageError

__all__ = ["Finished", "Job", "Planned", "Started", "plan", "run_jobs", "shard"]

# Below a run's folder: the state of long work, removed when its record is written.
UNFINISHED = "unfinished"
# Seconds between two looks at the budget, and those that workers get to store what they have when it is spent.
POLL = 0.5
GRACE = 8.0


@final
@dataclass(frozen=True)
class Job:
    """One claim to run: where, how, and into which folder its record goes."""

    claim: Claim
    paper: Paper
    scale: Scale
    seed: int
    device: str
    folder: Path

    @property
    def run(self) -> Run:
        """The run that is passed to the claim's measurement."""
        # Each claim draws below its own name, so no claim's numbers depend on which others run.
        return self.below(self.claim.id)

    @property
    def preparation(self) -> "Preparation | None":
        """The claim's study in this job's setting; jobs with the same one share what it makes."""
        study = self.claim.study
        if study is None:
            return None
        return Preparation(study, self.below(study.name))

    def below(self, name: str) -> Run:
        """A run with its random streams below a name, and a folder for states that survive an interruption."""
        run = Run(self.claim.setting(self.scale), Seed(self.seed, (name,)), torch.device(self.device))
        return dataclasses.replace(run, folder=self.folder / UNFINISHED / f"{name}-{work_key(run)[:12]}")

    def forget(self) -> None:
        """Remove the states of unfinished work."""
        for run in (self.run, self.preparation.run if self.preparation else self.run):
            if run.folder is not None:
                shutil.rmtree(run.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / UNFINISHED).rmdir()


@final
@dataclass(frozen=True)
class Preparation:
    """A study, and the run to pass to it."""

    study: Study
    run: Run


@final
@dataclass(frozen=True)
class Started:
    """A claim has started; ``left`` is the predicted number of seconds until all are done."""

    job: Job
    left: float = 0.0


@final
@dataclass(frozen=True)
class Finished:
    """A claim is done; ``resumed`` if an earlier run made its record; ``damage`` if that record was unusable."""

    job: Job
    record: Record
    resumed: bool = False
    damage: Damage | None = None
    left: float = 0.0


def run_jobs(jobs: Sequence[Job], *, workers: int, resume: bool) -> Iterator[Started | Finished]:
    """Run claims, ``workers`` at a time, and yield an event when one starts or ends.

    Results depend neither on the number of workers nor on the order: every claim runs in a process of its own kind with
    one torch thread and its own random streams. A claim that raises, or whose process dies, gets a record with the
    verdict *error*; the others go on.

    Raises:
        OutOfTimeError: If the :func:`~insitu.budget.budget` of the process is spent before the last claim has its
            record; trainings under way have stored their state.
        StorageError: If a record cannot be written; earlier ones remain.
    """
    damages: dict[str, Damage] = {}
    waiting = []
    for job in jobs:
        record = earlier(job) if resume else None
        if isinstance(record, Record):
            yield Finished(job, record, resumed=True)
            continue
        if record is not None:
            damages[job.claim.id] = record
        if not resume:
            job.forget()
        waiting.append(job)
    finished = len(jobs) - len(waiting)
    for event in Dispatcher(waiting, workers).run():
        if isinstance(event, Finished):
            finished += 1
            event = dataclasses.replace(event, damage=damages.get(event.job.claim.id))
        yield event
    if finished < len(jobs):
        raise OutOfTimeError(
            f"the time is over: {finished} of {len(jobs)} claims have their records, and running ones are stored. The "
            "same command with --resume continues from there."
        )


def shard(jobs: Sequence[Job], number: int, count: int) -> list[Job]:
    """One of ``count`` shares of a list of jobs, counted from 1, in the order of the list.

    Jobs that share a study stay together. Shares depend on the list alone, by what claims state of their cost and not
    by what they took before: shards begin at different times and must agree.

    Raises:
        InputError: If there is no share of this number.
    """
    if not 1 <= number <= count:
        raise InputError(f"shard {number}/{count}: the number must be from 1 to {count}.")
    queues = queued(jobs)
    pieces = shares([sum(map(stated_seconds, queue)) for queue in queues], count)[number - 1]
    chosen = {job.claim.id for piece in pieces for job in queues[piece]}
    return [job for job in jobs if job.claim.id in chosen]


@final
class Work:
    """Jobs with their predicted costs, in queues for one worker each, and the order of the queues."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.costs = predicted_seconds(jobs)
        self.queues = queued(jobs)
        self.workers = max(1, min(workers, len(self.queues)))
        seconds = [sum(self.costs[job.claim.id] for job in queue) for queue in self.queues]
        self.schedule = Schedule(seconds, self.workers)


@final
@dataclass(frozen=True)
class Planned:
    """A job with the predicted seconds at which it starts and ends; ``record`` if an earlier run had done it."""

    job: Job
    start: float = 0.0
    end: float = 0.0
    record: Record | None = None


def plan(jobs: Sequence[Job], *, workers: int, resume: bool) -> list[Planned]:
    """The predicted timetable of :func:`run_jobs`, in the order of the starts; nothing is run."""
    records = {job.claim.id: earlier(job) for job in jobs} if resume else {}
    done = {name: record for name, record in records.items() if isinstance(record, Record)}
    work = Work([job for job in jobs if job.claim.id not in done], workers)
    planned = [Planned(job, record=done[job.claim.id]) for job in jobs if job.claim.id in done]
    for entry in timetable(work.schedule, [0.0] * work.workers):
        start = entry.start
        for job in work.queues[entry.piece]:
            planned.append(Planned(job, start, start + work.costs[job.claim.id]))
            start = planned[-1].end
    return sorted(planned, key=lambda item: (item.record is None, item.start))


@final
class Dispatcher:
    """Runs jobs in worker processes; jobs that share a study in one of them, one after the other."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.work = Work(jobs, workers)
        modules = sorted({job.claim.measure.__module__ for job in jobs})
        self.slots = [Slot(number, [__name__, *modules]) for number in range(self.work.workers)]
        self.under_way: dict[Future[Record], tuple[Slot, Job]] = {}
        self.pace = Pace()

    def run(self) -> Iterator[Started | Finished]:
        """Hand out jobs until all are done or the time is over."""
        try:
            while not budget().spent:
                yield from self.hand_out()
                if not self.under_way:
                    return
                yield from self.collect(POLL)
            yield from self.wind_up()
        finally:
            for slot in self.slots:
                slot.close()

    def hand_out(self) -> Iterator[Started]:
        """Start a job in every slot that has none."""
        for slot in self.slots:
            job = None if slot.job else self.next_job(slot)
            if job is not None:
                self.under_way[slot.submit(job)] = (slot, job)
                yield Started(job, self.left())

    def next_job(self, slot: "Slot") -> Job | None:
        """The next job of a slot's queue, or of the next free queue."""
        if not slot.queue:
            piece = self.work.schedule.take(slot.number)
            slot.queue = [] if piece is None else list(self.work.queues[piece])
        return slot.queue.pop(0) if slot.queue else None

    def collect(self, seconds: float) -> Iterator[Finished]:
        """Wait for claims to end, for so long at most."""
        done, _ = wait(self.under_way, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            slot, job = self.under_way.pop(future)
            slot.job = None
            record = slot.result(future, job)
            if record is None:
                continue
            self.pace.add(self.work.costs[job.claim.id], record.seconds)
            if not slot.queue and record.verdict != "error":
                job.forget()
            yield Finished(job, record, left=self.left())

    def wind_up(self) -> Iterator[Finished]:
        """Let running claims store their states; those without a state are given up."""
        for slot in self.slots:
            slot.end_time()
        end = time.monotonic() + GRACE
        while self.under_way and time.monotonic() < end:
            yield from self.collect(POLL)

    def left(self) -> float:
        """The predicted seconds until all is done."""
        return self.pace.left(self.work.schedule, [slot.progress(self.work.costs) for slot in self.slots])


def queued(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in queues for one worker each: jobs that share a study share a queue, every other job has its own."""
    together: dict[object, list[Job]] = {}
    for job in jobs:
        together.setdefault(job.preparation or job.claim.id, []).append(job)
    return list(together.values())


def predicted_seconds(jobs: Sequence[Job]) -> dict[str, float]:
    """The predicted seconds of each claim: those of its last record in the folder, or else those that it states."""
    measured: dict[tuple[str, str], float] = {}
    for folder in {job.folder for job in jobs}:
        for record in sorted(read_records(folder)[0], key=lambda record: record.finished):
            if record.verdict != "error":
                measured[record.claim, record.scale] = record.seconds
    return {job.claim.id: measured.get((job.claim.id, job.scale), stated_seconds(job)) for job in jobs}


def stated_seconds(job: Job) -> float:
    return job.claim.quick_seconds if job.scale == "quick" else 3600 * job.claim.full_hours


def earlier(job: Job) -> Record | Damage | None:
    """The record of an earlier run of the same configuration, or why it cannot be used."""
    name, key = claim_name(job.claim.id, job.scale), run_key(job.claim, job.scale, job.run)
    stored = find_record(job.folder, name, key)
    if stored is None or isinstance(stored, Damage):
        return stored
    try:
        record = claim_record(stored)
    except InputError as error:
        return Damage(record_path(job.folder, name, key), str(error))
    return None if record.verdict == "error" else record


@final
class Slot:
    """One worker process, replaced when it dies, the job that it does, and those that wait for it and no other."""

    def __init__(self, number: int, modules: Sequence[str]) -> None:
        self.number, self.modules = number, modules
        self.pool = self._open()
        self.queue: list[Job] = []
        self.job: Job | None = None
        self.begun = 0.0

    def submit(self, job: Job) -> "Future[Record]":
        """Start a job in the process."""
        self.job, self.begun = job, time.monotonic()
        try:
            return self.pool.submit(run_job, job)
        except BrokenProcessPool:
            self.pool = self._open()
            return self.pool.submit(run_job, job)

    def result(self, future: "Future[Record]", job: Job) -> Record | None:
        """The record; an error record if the process died; none if the time was over."""
        try:
            return future.result()
        except OutOfTimeError:
            # A signal to the worker alone ends the whole sitting.
            budget().end()
            return None
        except BrokenProcessPool:
            self.close()
            if budget().spent:
                return None
            self.pool = self._open()
            reason = "The worker process died while this claim ran: killed, or out of memory."
            record = make_record(job.claim, job.paper, job.scale, job.run, measurement=None, error=reason, seconds=0.0)
            write_record(record, job.folder)
            return record

    def progress(self, costs: Mapping[str, float]) -> tuple[float, float]:
        """The predicted seconds of the job and of those that wait for this slot, and for how long it has run."""
        if self.job is None:
            return 0.0, 0.0
        return sum(costs[job.claim.id] for job in (self.job, *self.queue)), time.monotonic() - self.begun

    def end_time(self) -> None:
        """Tell the process that its time is over."""
        for process in self._processes():
            if process.pid is not None and hasattr(signal, "SIGUSR1"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGUSR1)

    def close(self) -> None:
        """End the process without waiting for a claim under way."""
        processes = self._processes()
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()

    def _processes(self) -> list[BaseProcess]:
        return list((self.pool._processes or {}).values())

    def _open(self) -> ProcessPoolExecutor:
        context = process_context(*self.modules)
        return ProcessPoolExecutor(1, context, initializer=prepare_worker, initargs=(budget().deadline,))


@functools.lru_cache(maxsize=1)
def prepared(preparation: Preparation | None) -> Any:
    """The result of a study, cached for the next claim of the same worker."""
    return preparation and preparation.study(preparation.run)


def run_job(job: Job) -> Record:
    """Measure one claim, judge it and write its record.

    Raises:
        OutOfTimeError: If the time of this process was over before; nothing is written.
        StorageError: If the record cannot be written.
    """
    started = time.perf_counter()
    measurement, error = None, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measurement = job.claim.measure(dataclasses.replace(job.run, study=prepared(job.preparation)))
        job.claim.judge(measurement)
    except (StorageError, OutOfTimeError):
        raise
    except Exception:
        measurement, error = None, traceback.format_exc()
    seconds = time.perf_counter() - started
    record = make_record(
        job.claim, job.paper, job.scale, job.run, measurement=measurement, error=error, seconds=seconds
    )
    write_record(record, job.folder)
    return record
