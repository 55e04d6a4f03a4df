"""Worker processes: how they start, one thread each, and an end with whoever asked for the work."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterator

import torch

__all__ = ["one_thread", "one_thread_each", "prepare_worker", "process_context"]

# A server that has imported torch and started no thread forks quickly and safely; where there is none, spawn.
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def process_context(module: str) -> multiprocessing.context.BaseContext:
    """How processes start that use a module; where a server forks them, it has the module loaded."""
    context = multiprocessing.get_context(START)
    if START == "forkserver":
        context.set_forkserver_preload([module])
    return context


def prepare_worker() -> None:
    """One torch thread; and an end with the process that asked for the work, however that ends."""
    torch.set_num_threads(1)
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
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
