"""``insitu sweep``: claims or trainings over grids of settings and seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insitu.cli.options import Where, folder_or
from insitu.cli.report import write_report
from insitu.cli.terminal import console, duration, escaped, print_json, warn
from insitu.cli.work import WorkOptions, run_list, show_plan

if TYPE_CHECKING:
    from insitu.sweeps import Sweep
    from insitu.sweeps.sweep import Row
    from insitu.work import Finished, Job, Outcome

__all__ = ["sweep"]


def sweep(
    where: Where,
    work: WorkOptions,
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="What to run, and the grid of its fields.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for records and tables.", show_default="results/NAME for NAME.toml")
    ] = None,
) -> None:
    """Run claims or trainings at every combination of some fields; what is done already is not run again.

    Writes a table (sweep.csv, sweep.parquet), a figure and a page. Example: insitu sweep rates.toml --plan
    """
    from insitu.budget import OutOfTimeError
    from insitu.storage import write_atomically
    from insitu.sweeps import read_sweep
    from insitu.sweeps.plan_file import PLAN

    chosen = read_sweep(plan_file)
    folder = out or Path("results") / plan_file.stem
    jobs: list[Job] = chosen.jobs(folder, where.place.type)
    shared = work.share_of(jobs)
    if work.plan:
        show_plan(shared, work, where.as_json)
        return
    folder_or(out, folder)
    write_atomically(folder / PLAN, plan_file.read_bytes())
    announce(shared, work)
    try:
        run_list(shared, work, "jobs", show_job, work.engine(folder / PLAN, folder, where.place.type))
    except OutOfTimeError:
        tabulate(chosen, jobs, folder)
        raise
    rows = tabulate(chosen, jobs, folder)
    failed = [job for job in shared if outcome(job) is None]
    if where.as_json:
        print_json(rows)
    elif rows:
        typer.echo(f"{len(rows)} rows are in {folder / 'sweep.csv'}; the page is {folder / 'sweep.html'}.")
    if failed:
        raise typer.Exit(1)


def announce(jobs: "Sequence[Job]", work: WorkOptions) -> None:
    """The size of the list and its predicted time, on standard error."""
    from insitu.work import plan

    planned = plan(jobs, workers=work.at_a_time, resume=True)
    end = max((item.end for item in planned if item.record is None), default=0.0)
    done = sum(item.record is not None for item in planned)
    console.print(
        f"{len(jobs)} jobs, {done} done, about {duration(end)} with {work.at_a_time} at a time", highlight=False
    )


def tabulate(chosen: "Sweep", jobs: "Sequence[Job]", folder: Path) -> "list[Row]":
    """Write the table and the page of what is done of a whole list, other shards' work included."""
    from insitu.sweeps.tables import SWEEP, store_table

    done = [(job, record) for job in jobs if (record := outcome(job)) is not None]
    rows = chosen.rows(*zip(*done, strict=True)) if done else []
    if rows:
        store_table(SWEEP, jobs, chosen.fields, rows, folder)
        write_report(folder)
    return rows


def outcome(job: "Job") -> "Outcome | None":
    """The stored result of a job, if it has one."""
    from insitu.records import Damage

    record = job.earlier()
    return None if isinstance(record, Damage) else record


def show_job(event: "Finished") -> None:
    """One line for a job that has its record."""
    if event.damage is not None:
        warn(f"{event.damage.path} could not be used: {event.damage.reason}; the job was run again.")
    how = "from an earlier run" if event.resumed else f"{event.record.seconds:.1f} s, {duration(event.left)} left"
    state = "[bold red]error[/]" if event.record.error else "[green]done[/]"
    console.print(f"{state}  {escaped(event.job.name)}  [dim]{how}[/]", soft_wrap=True, highlight=False)
    if event.record.error:
        console.print(f"       {escaped(event.record.error.strip().splitlines()[-1])}", soft_wrap=True)
