"""Hands jobs to processes of this machine."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, final

from insitu.budget import OutOfTimeError, budget
from insitu.processes import prepare_worker, process_context
from insitu.work.events import Finished, Started
from insitu.work.job import Job, run_job
from insitu.work.planning import Work, memory_room
from insitu.work.schedule import WorkPace

__all__ = ["Dispatcher"]

# Seconds between two looks at the budget, and those that workers get to store what they have when it is spent.
POLL = 0.5
GRACE = 8.0


@final
class Dispatcher:
    """Runs jobs in worker processes; jobs that share work in one of them, one after the other."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.work = Work(jobs, workers, memory_room(workers))
        modules = sorted({module for job in jobs for module in (type(job).__module__, *job.modules)})
        self.slots = [Slot(number, [__name__, *modules]) for number in range(self.work.workers)]
        self.under_way: dict[Future[Any], tuple[Slot, Job]] = {}
        self.pace = WorkPace()

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
        """Wait for jobs to end, for so long at most."""
        done, _ = wait(self.under_way, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            slot, job = self.under_way.pop(future)
            slot.job = None
            record = slot.result(future, job)
            if record is None:
                continue
            self.pace.add(self.work.costs[job.key], record.seconds)
            if not slot.queue and not record.error:
                job.forget()
            yield Finished(job, record, left=self.left())

    def wind_up(self) -> Iterator[Finished]:
        """Let running jobs store their states; those without a state are given up."""
        for slot in self.slots:
            slot.end_time()
        end = time.monotonic() + GRACE
        while self.under_way and time.monotonic() < end:
            yield from self.collect(POLL)

    def left(self) -> float:
        """The predicted seconds until all is done."""
        return self.pace.left(self.work.schedule, [slot.progress(self.work.costs) for slot in self.slots])


@final
class Slot:
    """One worker process, replaced when it dies, the job that it does, and those that wait for it and no other."""

    def __init__(self, number: int, modules: Sequence[str]) -> None:
        self.number, self.modules = number, modules
        self.pool = self._open()
        self.queue: list[Job] = []
        self.job: Job | None = None
        self.begun = 0.0

    def submit(self, job: Job) -> "Future[Any]":
        """Start a job in the process."""
        self.job, self.begun = job, time.monotonic()
        try:
            return self.pool.submit(run_job, job)
        except BrokenProcessPool:
            self.pool = self._open()
            return self.pool.submit(run_job, job)

    def result(self, future: "Future[Any]", job: Job) -> Any:
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
            return job.failed("The worker process died while this ran: killed, or out of memory.")

    def progress(self, costs: Mapping[str, float]) -> tuple[float, float]:
        """The predicted seconds of the job and of those that wait for this slot, and for how long it has run."""
        if self.job is None:
            return 0.0, 0.0
        return sum(costs[job.key] for job in (self.job, *self.queue)), time.monotonic() - self.begun

    def end_time(self) -> None:
        """Tell the process that its time is over."""
        for process in self._processes():
            if process.pid is not None and hasattr(signal, "SIGUSR1"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGUSR1)

    def close(self) -> None:
        """End the process without waiting for a job under way."""
        processes = self._processes()
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()

    def _processes(self) -> list[BaseProcess]:
        return list((self.pool._processes or {}).values())

    def _open(self) -> ProcessPoolExecutor:
        context = process_context(*self.modules)
        return ProcessPoolExecutor(1, context, initializer=prepare_worker, initargs=(budget().deadline,))
