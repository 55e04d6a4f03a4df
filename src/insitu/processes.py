"""Worker processes: how they start, one thread each, and an end with whoever asked for the work."""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker

from insitu.budget import Budget, end_on_signals

__all__ = ["one_thread", "one_thread_each", "prepare_worker", "process_context", "start_server"]

# A server that has imported torch and started no thread forks quickly and safely; where there is none, spawn.
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start_server(*modules: str) -> None:
    """Start what forks worker processes, where there is such a thing; it loads modules while the caller goes on.

    Whoever starts it first says which; later calls change nothing. Workers do not see Ctrl-C, which is for the process
    that asked for the work and ends them.
    """
    if START == "forkserver":
        multiprocessing.get_context(START).set_forkserver_preload(list(modules))
        # The server starts it otherwise, and it lets interrupts through again.
        resource_tracker.ensure_running()
        with one_thread_each(), interrupts_held():
            multiprocessing.forkserver.ensure_running()


def process_context(*modules: str) -> multiprocessing.context.BaseContext:
    """How processes start that use these modules; where a server forks them, it has the modules loaded."""
    start_server(*modules)
    return multiprocessing.get_context(START)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Processes started inside never get Ctrl-C, and this one gets it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker(deadline: float) -> None:
    """One torch thread, a budget up to a time on the monotonic clock, and an end with the process that asked for the
    work, however that ends.
    """
    import torch

    torch.set_num_threads(1)
    end_on_signals(Budget(deadline - time.monotonic()))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=leave_with, args=(parent.sentinel,), daemon=True).start()


def leave_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started inside use one thread for linear algebra."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes inside with one thread: for many small products several threads only wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
