"""How long the package and its commands take to start, in CPU time beyond what they stand on."""

import resource
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.timing import Row, row_of

# What is started, beside what it cannot be quicker than.
TORCH = [sys.executable, "-c", "import torch"]
PYTHON = [sys.executable, "-c", "pass"]
WORK = {
    "import insitu": ([sys.executable, "-c", "import insitu"], TORCH),
    "insitu --help": ([sys.executable, "-m", "insitu", "--help"], PYTHON),
    "insitu claims": ([sys.executable, "-m", "insitu", "claims"], PYTHON),
}


def child_seconds(command: list[str]) -> float:
    """CPU time of a command, in user and system mode."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rows(rounds: int) -> Iterator[Row]:
    """A row for every command; its ratio is the share that what it stands on has of its time."""
    for name, (command, floor) in WORK.items():
        taken = [[child_seconds(command), child_seconds(floor)] for _ in range(rounds)]
        yield row_of("start", name, 1, taken)
