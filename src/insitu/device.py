"""The device to compute on."""

import math
import os
from typing import Literal, get_args

import torch

from insitu.errors import InputError

__all__ = ["DeviceName", "available_cores", "describe_device", "memory", "pick_device"]

DeviceName = Literal["cpu", "cuda", "auto"]


def pick_device(name: str) -> torch.device:
    """The device of this name; *auto* is the GPU if there is one.

    Raises:
        InputError: If the name is unknown, or it is *cuda* and there is no GPU.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name not in get_args(DeviceName):
        raise InputError(f"no device is called {name!r}; there are: {', '.join(get_args(DeviceName))}.")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            "--device cuda: this PyTorch finds no GPU. Use --device cpu (or auto), or install a "
            "CUDA build of PyTorch on a machine with one."
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def describe_device(device: torch.device) -> str:
    """The device as a record names it."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "cpu"


def available_cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(device: torch.device) -> float:
    """The free memory of a GPU, or the whole memory of the machine, in bytes; infinite if unknown.

    Example:
        >>> memory(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf
