"""Jobs: pieces of work with a key of their content and one record each."""

import contextlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from insitu.processes import return_memory
from insitu.records import Damage

__all__ = ["UNFINISHED", "Job", "Outcome", "run_job"]

# Below a folder of records: the states of long work, removed when its record is written.
UNFINISHED = "unfinished"


@runtime_checkable
class Outcome(Protocol):
    """The record of a job, as far as handing out work looks at it."""

    @property
    def seconds(self) -> float:
        """The time that the job took."""

    @property
    def error(self) -> str:
        """Why there is no result; empty if there is one."""


class Job(ABC):
    """A piece of work that ends with one record in a folder.

    Jobs are values: they go to worker processes, and the same content has the same key everywhere.
    """

    folder: Path

    @property
    @abstractmethod
    def name(self) -> str:
        """What a person calls it."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The key of its content: what is run, its setting, seed and device, and the versions of all code."""

    @property
    @abstractmethod
    def stated_seconds(self) -> float:
        """The predicted cost, from the content alone."""

    @property
    def expected_seconds(self) -> float:
        """The predicted cost on this machine; what is stated, where nothing is known of it."""
        return self.stated_seconds

    @property
    def operations(self) -> int | None:
        """Floating-point operations, where they are counted."""
        return None

    @property
    def bytes_needed(self) -> int | None:
        """The least memory beyond what PyTorch takes, where it is known; a job without room beside others waits."""
        return None

    @property
    def together(self) -> Hashable:
        """Jobs with the same value share work: one worker does them, one after the other."""
        return self.key

    @property
    def modules(self) -> Iterable[str]:
        """Modules that a worker needs for it."""
        return ()

    @abstractmethod
    def run(self) -> Outcome:
        """Do the work and write its record.

        Raises:
            OutOfTimeError: If the time of this process was over before; states are stored, and no record is written.
            StorageError: If the record cannot be written.
        """

    @abstractmethod
    def failed(self, reason: str) -> Outcome:
        """Write the record of a job that could not be done."""

    @abstractmethod
    def stored(self) -> Outcome | Damage | None:
        """Its record in the folder, or why it cannot be used; none if there is none."""

    def earlier(self) -> Any:
        """The result of an earlier run of the same content, or why it cannot be used; an error is no result."""
        record = self.stored()
        return record if record is None or isinstance(record, Damage) or not record.error else None

    @abstractmethod
    def resembles(self, record: Mapping[str, Any]) -> bool:
        """Whether the seconds of a stored record predict those of this job."""

    def states(self) -> Iterable[Path]:
        """The folders of its unfinished states."""
        return ()

    def forget(self) -> None:
        """Remove the states of unfinished work."""
        for folder in self.states():
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.folder / UNFINISHED).rmdir()


def run_job(job: Job) -> Any:
    """Do a job in this process; its record. Memory that it freed goes back to the system."""
    try:
        return job.run()
    finally:
        return_memory()
