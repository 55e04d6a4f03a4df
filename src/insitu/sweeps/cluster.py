"""The engine of a Ray cluster: paths and keys go to its nodes, never objects, and records come back by the folder."""

import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from insitu.budget import OutOfTimeError, budget, limited
from insitu.errors import InputError, require_package, shortened
from insitu.processes import prepare_torch
from insitu.records import Damage
from insitu.sweeps.plan_file import read_sweep
from insitu.work import Finished, Job
from insitu.work.planning import Work
from insitu.work.schedule import WorkPace, timetable

__all__ = ["Cluster", "do_jobs"]

# Seconds between two looks at the budget, and those that nodes get to store what they have when it is spent.
POLL, GRACE = 0.5, 8.0
# Seconds in which a cluster has to answer.
CONNECT = 30.0
# How often a task is tried again when its node or process is lost.
RETRIES = 3
# What a process needs beside the numbers of its job: PyTorch itself.
PROCESS_BYTES = 600_000_000


def do_jobs(plan: str, folder: str, device: str, keys: Sequence[str], end: float) -> str:
    """Do jobs of a plan in this process, one after the other; runs on a node of the cluster.

    Args:
        plan: The path of the plan.
        folder: The path of the folder of records, which all nodes share.
        device: *cpu* or *cuda*.
        keys: The jobs to do.
        end: When to stop, by the clock of the system.

    Returns:
        The reason why jobs were left; empty if all have their records.
    """
    prepare_torch()
    jobs = {job.key: job for job in read_sweep(Path(plan)).jobs(Path(folder), device)}
    unknown = [key for key in keys if key not in jobs]
    if unknown:
        return f"this node runs other versions or another device: its list has no job {unknown[0][:12]}"
    try:
        with limited(end - time.time()):
            for key in keys:
                jobs[key].run()
            for key in keys:
                jobs[key].forget()
    except OutOfTimeError:
        return "the time is over"
    return ""


@final
@dataclass(frozen=True)
class Cluster:
    """Hands jobs to an existing Ray cluster.

    Args:
        address: *auto* or ``HOST:PORT``.
        plan: The file of the list, in a folder that all nodes share.
        folder: The folder of the records, shared as well.
        device: *cpu* or *cuda*: each task reserves one core, and one GPU.
    """

    address: str
    plan: Path
    folder: Path
    device: str

    def run(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """Do jobs, and yield each that has its record; those that share work in one task.

        A task whose node or process is lost starts again elsewhere; its states and records are in the shared folder.

        Raises:
            InputError: If there is no cluster, or Ray is not installed.
        """
        with connected(self.address) as ray:
            work = Work(jobs, max(1, int(ray.cluster_resources().get("CPU", 1))))
            order = [placed.piece for placed in timetable(work.schedule, [0.0] * work.workers)]
            tasks = {self.submit(ray, work.queues[piece]): work.queues[piece] for piece in order}
            try:
                yield from follow(ray, tasks, work)
            finally:
                for task in tasks:
                    ray.cancel(task, force=True)

    def submit(self, ray: Any, queue: Sequence[Job]) -> Any:
        """Start a task."""
        memory = {"memory": PROCESS_BYTES + max(job.bytes_needed or 0 for job in queue)}
        resources = {"num_cpus": 1, "num_gpus": int(self.device == "cuda"), **memory}
        task = ray.remote(do_jobs).options(**resources, max_retries=RETRIES, name=shortened(queue[0].name))
        paths = str(self.plan.resolve()), str(self.folder.resolve())
        return task.remote(*paths, self.device, [job.key for job in queue], time.time() + budget().left)


def follow(ray: Any, tasks: dict[Any, list[Job]], work: Work) -> Iterator[Finished]:
    """Wait for tasks, which are removed when they end; once the time is over, for a few seconds only."""
    pace = WorkPace()
    while tasks and not budget().spent:
        yield from ended(ray, tasks, work, pace)
    for task in tasks:
        # A budget ends tasks by their own clocks; a signal to this process has to be passed on.
        ray.cancel(task)
    end = time.monotonic() + GRACE
    while tasks and time.monotonic() < end:
        yield from ended(ray, tasks, work, pace)


def ended(ray: Any, tasks: dict[Any, list[Job]], work: Work, pace: WorkPace) -> Iterator[Finished]:
    """The jobs of tasks that have just ended."""
    done, _ = ray.wait(list(tasks), timeout=POLL)
    for task in done:
        queue, reason = tasks.pop(task), reason_of(ray, task)
        records = [(job, record) for job in queue if (record := result(job, reason)) is not None]
        for job, record in records:
            pace.add(work.costs[job.key], record.seconds)
            waiting = sum(work.costs[job.key] for queue in tasks.values() for job in queue)
            yield Finished(job, record, left=pace.factor * waiting / work.workers)


def reason_of(ray: Any, task: Any) -> str:
    """Why jobs of an ended task have no record; empty if they should all have one."""
    try:
        return ray.get(task)
    except Exception as error:
        return f"its task was lost {RETRIES + 1} times: {shortened(str(error), 300)}"


def result(job: Job, reason: str) -> Any:
    """The record of a job whose task has ended; an error record if the task failed; none if the time was over."""
    record = job.stored()
    if record is not None and not isinstance(record, Damage) and not (reason and record.error):
        return record
    return None if budget().spent or reason == "the time is over" else job.failed(reason or "its record is missing")


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster that others started.

    Raises:
        InputError: If Ray is not installed, or there is no cluster.
    """
    require_package("--ray", "ray", "ray")
    import ray

    try:
        require_listener(address)
        # Ray itself looks for a cluster for minutes.
        with limited(min(CONNECT, budget().left), grace=0.0):
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError, OutOfTimeError) as error:
        ray.shutdown()
        reason = f"none answered within {CONNECT:.0f} s" if isinstance(error, OutOfTimeError) else str(error)
        raise InputError(
            f"--ray {address}: there is no cluster ({shortened(reason, 120)}). Start one with: ray start --head"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def require_listener(address: str) -> None:
    """Refuse an address at which nothing listens.

    Raises:
        OSError: If there is nothing.
    """
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT).close()
