"""What the numbers were measured on."""

import os
import platform
from pathlib import Path

import torch

import insitu

__all__ = ["description"]


def description() -> dict[str, str | int]:
    """The processor, its cores, and the versions that count."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "insitu": insitu.__version__,
    }


def processor() -> str:
    """Its name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
