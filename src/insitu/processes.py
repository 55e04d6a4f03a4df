"""Worker processes: one thread each, and they end with the process that started them."""

import atexit
import contextlib
import ctypes
import functools
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.util
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

from insitu.budget import Budget, end_on_signals

__all__ = [
    "choose_products",
    "main_hidden",
    "one_thread",
    "prepare_torch",
    "prepare_worker",
    "process_context",
    "product_speed",
    "return_memory",
    "start_server",
]

# A server that has imported torch and started no thread forks quickly and safely; where there is none, spawn.
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(START)
# Tells the server where its socket lies: the process that made the folder may be killed, and then the server, which
# ends with it, removes it.
SOCKET_FOLDER = "INSITU_SOCKET_FOLDER"
if SOCKET_FOLDER in os.environ:
    atexit.register(shutil.rmtree, os.environ.pop(SOCKET_FOLDER), ignore_errors=True)
# What a worker frees it keeps for the next step of its job: the system would clear the same gigabytes again, for a
# sixth of the time of fine-tuning. Blocks above 32 MB go back at once, since others would not fit between them. Other
# allocators than glibc's pass over it.
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
WORKER_VARIABLES = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | KEPT_MEMORY


def start_server(*modules: str) -> None:
    """Start the server that forks worker processes, if the platform has one; it loads modules in the background.

    The first call sets the modules; later calls change nothing. Workers ignore Ctrl-C: the main process handles it and
    ends them.
    """
    if START == "forkserver":
        CONTEXT.set_forkserver_preload(list(modules))
        # Otherwise the server starts the tracker, which unblocks interrupts.
        resource_tracker.ensure_running()
        with variables({**WORKER_VARIABLES, SOCKET_FOLDER: multiprocessing.util.get_temp_dir()}), interrupts_held():
            multiprocessing.forkserver.ensure_running()


def process_context(*modules: str) -> multiprocessing.context.BaseContext:
    """The multiprocessing context for processes that use these modules, preloaded if a server forks them.

    Where the main module is none of them, the processes do not import it, so that a script needs no
    ``if __name__ == "__main__"`` around what starts them.
    """
    start_server(*modules)
    return CONTEXT if "__main__" in modules else WithoutMain()


class Worker(CONTEXT.Process):  # type: ignore[name-defined]
    """A process that does not import the main module."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with main_hidden():
            return CONTEXT.Process._Popen(process_obj)  # type: ignore[attr-defined]


class WithoutMain(type(CONTEXT)):  # type: ignore[misc]
    """The context of such processes."""

    Process = Worker


@contextlib.contextmanager
def main_hidden() -> Iterator[None]:
    """A context in which started processes do not find out where the main module lies."""
    main = sys.modules["__main__"].__dict__
    before: dict[str, Any] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(before)


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
    """Set up a worker: how it computes, a deadline on the monotonic clock, and an end with its parent process."""
    prepare_torch()
    end_on_signals(Budget(deadline - time.monotonic()))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=leave_with, args=(parent.sentinel,), daemon=True).start()


def prepare_torch(threads: int = 1) -> None:
    """Compute in this process as every worker does, so that no result depends on who has a job."""
    import torch

    torch.set_num_threads(threads)
    choose_products()


def choose_products() -> bool:
    """Multiply matrices in single precision by oneDNN, if its products are in single precision on this processor.

    PyTorch multiplies by MKL, which takes vectors of half the width on processors that are not Intel's, and asks oneDNN
    only where products may be rounded to bfloat16. A processor without units for matrices of that type computes them
    in single precision all the same, twice as fast as MKL there.

    Returns:
        Whether oneDNN is used.
    """
    products = settable_products()
    if products is None:
        return False
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    if products_are_exact():
        return True
    products.fp32_precision = before
    return False


def settable_products() -> Any:
    """Where PyTorch, from 2.9 on, is told how oneDNN multiplies; None where it cannot be told."""
    from torch.backends import mkldnn

    return getattr(mkldnn, "matmul", None) if mkldnn.is_available() else None


def products_are_exact() -> bool:
    """Whether products with the identity give numbers of single precision back to the last bit."""
    import torch

    for rows, size in ((32, 32), (30, 576), (256, 256)):
        numbers, identity = (torch.arange(1, 1 + rows * size) / 3).view(rows, size), torch.eye(size)
        whole, batch = numbers @ identity, numbers.expand(4, -1, -1) @ identity.expand(4, -1, -1)
        if not (torch.equal(whole, numbers) and all(torch.equal(own, numbers) for own in batch)):
            return False
    return True


def return_memory() -> None:
    """Give memory that was freed back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def leave_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """A context with variables of the environment, for processes that are started in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
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
    """Torch computes inside as workers do. For many small products several threads only wait for one another."""
    import torch

    products = settable_products()
    before = torch.get_num_threads(), products and products.fp32_precision
    torch.set_num_threads(1)
    choose_products()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        if products:
            products.fp32_precision = before[1]


@functools.cache
def product_speed(size: int = 512, repeats: int = 5) -> float:
    """Floating-point operations in a second of this machine, in a product of large matrices as workers compute it.

    Example:
        >>> product_speed() > 1e8
        True
    """
    import torch

    taken = []
    with one_thread():
        side = torch.ones(size, size)
        for _ in range(repeats):
            start = time.perf_counter()
            side @ side
            taken.append(time.perf_counter() - start)
    return 2 * size**3 / min(taken)
