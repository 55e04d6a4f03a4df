"""Worker processes: one thread each, and they end with the process that started them."""

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
# What a worker frees it keeps for its next step: the system would clear the same gigabytes again, for a sixth of the
# time of fine-tuning. Other allocators than glibc's pass over it.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_MMAP_THRESHOLD_": str(2**32)}


def start_server(*modules: str) -> None:
    """Start the server that forks worker processes, if the platform has one; it loads modules in the background.

    The first call sets the modules; later calls change nothing. Workers ignore Ctrl-C: the main process handles it and
    ends them.
    """
    if START == "forkserver":
        multiprocessing.get_context(START).set_forkserver_preload(list(modules))
        # Otherwise the server starts the tracker, which unblocks interrupts.
        resource_tracker.ensure_running()
        with one_thread_each(), interrupts_held():
            multiprocessing.forkserver.ensure_running()


def process_context(*modules: str) -> multiprocessing.context.BaseContext:
    """The multiprocessing context for processes that use these modules, preloaded if a server forks them."""
    start_server(*modules)
    return multiprocessing.get_context(START)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """A context in which started processes ignore Ctrl-C; the current process receives it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker(deadline: float) -> None:
    """Set up a worker: one torch thread, a deadline on the monotonic clock, and an end with its parent process."""
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
    """A context in which started processes use one thread for linear algebra, and keep the memory that they free."""
    wanted = {**KEPT_MEMORY, **ONE_THREAD}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
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
