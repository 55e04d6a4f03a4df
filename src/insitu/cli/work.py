"""What commands on lists of work share: their options, the plan, and the run with its progress."""

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, final

import typer

from insitu.cli.options import PlanOption, Sitting
from insitu.cli.terminal import duration, escaped, print_json, progress_bar
from insitu.errors import InputError

if TYPE_CHECKING:
    from insitu.work import Engine, Finished, Job, Planned

    AnyJob = TypeVar("AnyJob", bound=Job)

__all__ = ["WorkOptions", "line_of", "parse_shard", "row_of", "run_list", "show_plan"]


@final
@dataclasses.dataclass(frozen=True)
class WorkOptions(Sitting):
    """How a list of work is done."""

    # For trainings to store their state, and for the report.
    reserve = 20.0
    grace = 20.0

    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs that run at the same time.", show_default="one per core")
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            help="K/N: one of N shares of the list, of about the same cost, for one of N machines with one folder.",
            show_default="the whole list",
        ),
    ] = None
    ray: Annotated[
        str | None,
        typer.Option(help="auto or HOST:PORT: do the work on an existing Ray cluster.", show_default="this machine"),
    ] = None
    plan: PlanOption = False

    @property
    def at_a_time(self) -> int:
        """How many jobs run at the same time."""
        from insitu.device import available_cores

        return self.workers or available_cores()

    def engine(self, plan: Path, folder: Path, device: str) -> "Engine | None":
        """The cluster that does the work of a plan's file; none for processes of this machine."""
        from insitu.sweeps.cluster import Cluster

        return None if self.ray is None else Cluster(self.ray, plan, folder, device).run

    def share_of(self, jobs: "Sequence[AnyJob]") -> "list[AnyJob]":
        """The jobs of this shard, or all."""
        from insitu.work import shard

        return list(jobs) if self.shard is None else shard(jobs, *parse_shard(self.shard))


def parse_shard(text: str) -> tuple[int, int]:
    """The two numbers of ``K/N``.

    Example:
        >>> parse_shard("3/40")
        (3, 40)
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None:
        raise InputError(f"--shard: expected K/N, such as 3/40; got {text!r}.")
    return int(match[1]), int(match[2])


def show_plan(jobs: "Sequence[Job]", options: WorkOptions, as_json: bool) -> None:
    """Print the timetable of a list, with operations and memory where they are counted."""
    from insitu.work import plan

    planned = plan(jobs, workers=options.at_a_time, resume=options.resumes)
    if as_json:
        print_json([row_of(item) for item in planned])
        return
    for item in planned:
        typer.echo(line_of(item))
    left = [item for item in planned if item.record is None]
    total = sum(item.job.operations or 0 for item in left)
    words = f", {total:.2g} operations" if total else ""
    done, end = len(planned) - len(left), max((item.end for item in left), default=0.0)
    typer.echo(f"{done} done, {len(left)} left{words}, about {duration(end)} with {options.at_a_time} at a time.")


def row_of(item: "Planned") -> dict[str, Any]:
    """An entry of the plan for machines."""
    times = {"start": item.start, "end": item.end, "done": item.record is not None}
    return {"job": item.job.name, **times, "operations": item.job.operations, "bytes": item.job.bytes_needed}


def line_of(item: "Planned") -> str:
    """A line of the plan."""
    job = item.job
    if item.record is not None:
        return f"{job.name}  done"
    words = [f"from {duration(item.start)} to {duration(item.end)}"]
    words += [f"{job.operations:.2g} operations"] if job.operations else []
    words += [f"at least {job.bytes_needed / 1e6:.3g} MB"] if job.bytes_needed else []
    return f"{job.name}  {', '.join(words)}"


def run_list(
    jobs: "Sequence[Job]",
    options: WorkOptions,
    what: str,
    show: "Callable[[Finished], None]",
    engine: "Engine | None" = None,
) -> "dict[str, Any]":
    """Run jobs with a live bar (a line per job where there is no terminal); their records by key."""
    from insitu.work import Started, run_jobs

    records: dict[str, Any] = {}
    running: dict[str, str] = {}
    end = time.monotonic()
    with progress_bar(what, len(jobs), left=lambda: end - time.monotonic()) as bar:
        for event in run_jobs(jobs, workers=options.at_a_time, resume=options.resumes, engine=engine):
            end = time.monotonic() + event.left
            if isinstance(event, Started):
                running[event.job.key] = event.job.name
            else:
                running.pop(event.job.key, None)
                records[event.job.key] = event.record
                bar.advance(bar.task_ids[0])
                show(event)
            bar.update(bar.task_ids[0], description=escaped(", ".join(running.values())) or what)
    return records
