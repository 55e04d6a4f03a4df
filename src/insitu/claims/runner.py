"""Runs claims in processes, one torch thread each, and writes a record for every one."""

import contextlib
import dataclasses
import functools
import shutil
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from insitu.claims.claim import Claim, Paper, Run, Scale, Study
from insitu.claims.record import Record, claim_name, claim_record, make_record, run_key, work_key, write_record
from insitu.errors import InputError
from insitu.processes import one_thread_each, prepare_worker, process_context
from insitu.records import Damage, find_record, record_path
from insitu.seed import Seed
from insitu.storage import StorageError

__all__ = ["Finished", "Job", "Started", "run_jobs"]

# Below a run's folder: the state of long work, removed when its record is written.
UNFINISHED = "unfinished"


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
        """The run that the claim's measurement gets."""
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
        """A run whose streams lie below a name, with a folder for what has to outlive an interruption."""
        run = Run(self.claim.setting(self.scale), Seed(self.seed, (name,)), torch.device(self.device))
        return dataclasses.replace(run, folder=self.folder / UNFINISHED / f"{name}-{work_key(run)[:12]}")

    def forget(self) -> None:
        """Remove what unfinished work has left."""
        for run in (self.run, self.preparation.run if self.preparation else self.run):
            if run.folder is not None:
                shutil.rmtree(run.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / UNFINISHED).rmdir()


@final
@dataclass(frozen=True)
class Preparation:
    """A study and the run that it gets."""

    study: Study
    run: Run


@final
@dataclass(frozen=True)
class Started:
    """A claim is under way."""

    job: Job


@final
@dataclass(frozen=True)
class Finished:
    """A claim has its record; ``resumed`` if an earlier run had made it; ``damage`` if that one was unusable."""

    job: Job
    record: Record
    resumed: bool = False
    damage: Damage | None = None


def run_jobs(jobs: Sequence[Job], *, workers: int, resume: bool) -> Iterator[Started | Finished]:
    """Run claims, ``workers`` at a time, and tell what happens as it happens.

    Results do not depend on the number of workers: every claim runs in a process of its own kind with one torch
    thread and its own random streams. A claim that raises, or whose process dies, gets a record with the verdict
    *error*; the others go on.

    Raises:
        StorageError: If a record cannot be written; what was written before stays.
    """
    damages: dict[str, Damage] = {}
    waiting = []
    for job in jobs:
        found = earlier(job) if resume else None
        if isinstance(found, Record):
            yield Finished(job, found, resumed=True)
            continue
        if found is not None:
            damages[job.claim.id] = found
        if not resume:
            job.forget()
        waiting.append(job)
    for event in dispatched(queued(waiting), workers):
        damage = damages.get(event.job.claim.id)
        yield dataclasses.replace(event, damage=damage) if isinstance(event, Finished) else event


def dispatched(queues: list[list[Job]], workers: int) -> Iterator[Started | Finished]:
    """Run queues of jobs in as many slots."""
    slots = [Slot() for _ in range(max(1, min(workers, len(queues))))]
    under_way: dict[Future[Record], tuple[Slot, Job]] = {}
    try:
        while True:
            for slot in tuple(slots):
                ready = slot.next_job(queues)
                if ready is not None:
                    slots.remove(slot)
                    under_way[slot.submit(ready)] = (slot, ready)
                    yield Started(ready)
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                slot, job = under_way.pop(future)
                record = slot.result(future, job)
                slots.append(slot)
                if not slot.queue and record.verdict != "error":
                    job.forget()
                yield Finished(job, record)
    finally:
        for slot in [*slots, *(slot for slot, _ in under_way.values())]:
            slot.close()


def queued(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs in queues, each for one worker: those that share a study stand in one, every other job is its own.

    Long queues come first, so that no worker is left alone with one at the end.
    """
    together: dict[object, list[Job]] = {}
    for job in jobs:
        together.setdefault(job.preparation or job.claim.id, []).append(job)
    return sorted(together.values(), key=lambda queue: -sum(job.claim.quick_seconds for job in queue))


def earlier(job: Job) -> Record | Damage | None:
    """The record that an earlier run of the same configuration left, or why it cannot be used."""
    name, key = claim_name(job.claim.id, job.scale), run_key(job.claim, job.scale, job.run)
    found = find_record(job.folder, name, key)
    if found is None or isinstance(found, Damage):
        return found
    try:
        record = claim_record(found)
    except InputError as error:
        return Damage(record_path(job.folder, name, key), str(error))
    return None if record.verdict == "error" else record


class Slot:
    """One worker process, replaced when it dies, and the jobs that wait for it and no other."""

    def __init__(self) -> None:
        self.pool = self._open()
        self.queue: list[Job] = []

    def next_job(self, queues: list[list[Job]]) -> Job | None:
        """The next job of this slot's queue, or of the next one that nobody has."""
        if not self.queue and queues:
            self.queue = queues.pop(0)
        return self.queue.pop(0) if self.queue else None

    def submit(self, job: Job) -> "Future[Record]":
        """Start a claim in the process."""
        try:
            return self._submit(job)
        except BrokenProcessPool:
            self.pool = self._open()
            return self._submit(job)

    def result(self, future: "Future[Record]", job: Job) -> Record:
        """The record; where the process died, one that says so."""
        try:
            return future.result()
        except BrokenProcessPool:
            self.close()
            self.pool = self._open()
            told = "The worker process died while this claim ran: killed, or out of memory."
            record = make_record(job.claim, job.paper, job.scale, job.run, measurement=None, error=told, seconds=0.0)
            write_record(record, job.folder)
            return record

    def close(self) -> None:
        """End the process without waiting for a claim under way."""
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def _submit(self, job: Job) -> "Future[Record]":
        with one_thread_each():
            return self.pool.submit(run_job, job)

    def _open(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=process_context(__name__), initializer=prepare_worker)


@functools.lru_cache(maxsize=1)
def prepared(preparation: Preparation | None) -> Any:
    """What a study makes, kept for the next claim of the same worker that looks at it."""
    return preparation and preparation.study(preparation.run)


def run_job(job: Job) -> Record:
    """Measure one claim, judge it and write its record.

    Raises:
        StorageError: If the record cannot be written.
    """
    started = time.perf_counter()
    measurement, error = None, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measurement = job.claim.measure(dataclasses.replace(job.run, study=prepared(job.preparation)))
        job.claim.judge(measurement)
    except StorageError:
        raise
    except Exception:
        measurement, error = None, traceback.format_exc()
    seconds = time.perf_counter() - started
    record = make_record(
        job.claim, job.paper, job.scale, job.run, measurement=measurement, error=error, seconds=seconds
    )
    write_record(record, job.folder)
    return record
