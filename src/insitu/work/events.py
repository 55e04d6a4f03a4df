"""What is reported while a list of jobs is being done."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from insitu.records import Damage
from insitu.work.job import Job

__all__ = ["Engine", "Finished", "Started"]


@final
@dataclass(frozen=True)
class Started:
    """A job has started; ``left`` is the predicted number of seconds until all are done."""

    job: Job
    left: float = 0.0


@final
@dataclass(frozen=True)
class Finished:
    """A job is done; ``resumed`` if an earlier run made its record; ``damage`` if that record was unusable."""

    job: Job
    record: Any
    resumed: bool = False
    damage: Damage | None = None
    left: float = 0.0


Engine = Callable[[Sequence[Job]], Iterator[Started | Finished]]
"""Does jobs, and yields an event when one starts or ends; returns early if the time is over."""
