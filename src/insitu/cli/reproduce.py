"""``insitu reproduce``: run claims and show their verdicts."""

import re
import sys
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from insitu.cli.options import BudgetOption, ResumeOption, Where, folder_or, seconds_of
from insitu.cli.report import write_report
from insitu.cli.terminal import console, duration, escaped, print_json, progress_bar, warn
from insitu.errors import InputError

if TYPE_CHECKING:
    from insitu.claims.claim import Claim, Scale
    from insitu.claims.record import Record
    from insitu.claims.runner import Finished, Job

__all__ = ["reproduce"]

# The seconds of a budget that are kept for trainings to store their state, and for the report.
RESERVE = 20.0
MARKS = {"holds": "green", "fails": "red", "undecided": "yellow", "error": "bold red"}


class ScaleName(StrEnum):
    """The two scales, as the command line spells them."""

    quick = "quick"
    full = "full"


def reproduce(
    where: Where,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID ...]", help="Papers or claims (default: all).")
    ] = None,
    scale: Annotated[ScaleName, typer.Option(help="quick: 2 CPU cores, minutes. full: the paper's setting.")] = (
        ScaleName.quick
    ),
    out: Annotated[
        Path | None, typer.Option(help="Folder for records, figures and report.", show_default="results/SCALE")
    ] = None,
    resume: ResumeOption = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Claims that run at the same time.", show_default="one per core")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every claim holds.")] = False,
    budget: BudgetOption = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="K/N: one of N shares of the claims, of about the same cost, for one of N machines with one folder.",
            show_default="all claims",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would run and when, and run nothing.")] = False,
) -> None:
    """Run claims, print their verdicts, and write records, figures and a report.

    Example: insitu reproduce ding2024 --scale quick --out results/quick
    """
    from insitu.processes import start_server

    seconds = seconds_of(budget, RESERVE)
    if not plan:
        # It loads what workers need while this process does the same.
        start_server("insitu.papers.registry", "insitu.claims.runner")
    from insitu.budget import OutOfTimeError, limited
    from insitu.claims.runner import Job
    from insitu.claims.runner import shard as share
    from insitu.device import available_cores
    from insitu.papers import PAPERS, select

    chosen = with_all_they_need(select(ids or []), scale.value)
    device = where.place.type
    folder = folder_or(out, Path("results") / scale.value)
    jobs = [Job(claim, PAPERS[claim.paper], scale.value, where.seed, device, folder) for claim in chosen]
    if shard is not None:
        jobs = share(jobs, *parse_shard(shard))
    workers, resume = workers or available_cores(), resume or budget is not None
    if plan:
        show_plan(jobs, workers, resume, where.as_json)
        return
    try:
        with limited(seconds):
            records = run_with_progress(jobs, workers, resume)
    except OutOfTimeError:
        if any((folder / "records").glob("*.json")):
            write_report(folder)
        raise
    conclude(records, folder, where.as_json)
    verdicts = {record.verdict for record in records}
    if "error" in verdicts or (strict and verdicts != {"holds"}):
        raise typer.Exit(1)


def with_all_they_need(claims: "list[Claim]", scale: "Scale") -> "list[Claim]":
    """The claims that can run on this machine; the others are named, each with what it needs and the way to get it.

    Raises:
        InputError: If none can run.
    """
    reasons = {claim.id: reason for claim in claims if (reason := claim.missing(claim.setting(scale)))}
    ready = [claim for claim in claims if claim.id not in reasons]
    if not ready:
        raise InputError(f"nothing can run: {next(iter(reasons.values()))}")
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(name for name, own in reasons.items() if own == reason)
        warn(f"left out: {names}. Reason: {reason}")
    return ready


def conclude(records: "list[Record]", folder: Path, as_json: bool) -> None:
    """Write the report and print the verdicts; a share of the claims may be empty."""
    page = write_report(folder)[0] if records else None
    if as_json:
        print_json([record.summary() for record in records])
    elif records:
        show_verdicts(records)
    if page and not as_json:
        typer.echo(f"The report is {page}.")


def show_plan(jobs: "list[Job]", workers: int, resume: bool, as_json: bool) -> None:
    """Print the timetable of a run."""
    from insitu.claims.runner import plan

    planned = plan(jobs, workers=workers, resume=resume)
    if as_json:
        print_json(
            [
                {"claim": p.job.claim.id, "start": p.start, "end": p.end, "verdict": p.record and p.record.verdict}
                for p in planned
            ]
        )
        return
    for p in planned:
        when = p.record.verdict if p.record else f"from {duration(p.start)} to {duration(p.end)}"
        typer.echo(f"{p.job.claim.id}  {when}")
    pending = [p for p in planned if p.record is None]
    end = max((p.end for p in pending), default=0.0)
    done, claims_left = len(planned) - len(pending), len(pending)
    typer.echo(f"{done} done, {claims_left} left, about {duration(end)} with {workers} at a time.")


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


def run_with_progress(jobs: "list[Job]", workers: int, resume: bool) -> "list[Record]":
    """Run jobs with a live bar (a line per claim where there is no terminal); records in the order of the jobs."""
    from insitu.claims.runner import Started, run_jobs

    records: dict[str, Record] = {}
    running: list[str] = []
    end = time.monotonic()
    with progress_bar("claims", len(jobs), left=lambda: end - time.monotonic()) as bar:
        for event in run_jobs(jobs, workers=workers, resume=resume):
            name = event.job.claim.id
            end = time.monotonic() + event.left
            if isinstance(event, Started):
                running.append(name)
            else:
                running = [other for other in running if other != name]
                records[name] = event.record
                bar.advance(bar.task_ids[0])
                show_finished(event)
            bar.update(bar.task_ids[0], description=escaped(", ".join(running)) or "claims")
    return [records[job.claim.id] for job in jobs]


def show_finished(event: "Finished") -> None:
    """One line for a claim that has its record."""
    record = event.record
    if event.damage is not None:
        warn(f"{event.damage.path} could not be used: {event.damage.reason}; the claim was run again.")
    how = "from an earlier run" if event.resumed else f"{record.seconds:.1f} s, {duration(event.left)} left"
    mark = f"[{MARKS[record.verdict]}]{record.verdict:>9}[/]"
    console.print(f"{mark}  {record.claim}  [dim]{how}[/]", soft_wrap=True, highlight=False)
    if record.verdict == "error":
        console.print(f"           {escaped(record.error.strip().splitlines()[-1])}", soft_wrap=True)


def show_verdicts(records: "Iterable[Record]") -> None:
    """The table of verdicts on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name, justify in (("verdict", "left"), ("claim", "left"), ("value", "right"), ("decided by", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("seconds", justify="right")
    for record in records:
        check = record.decisive
        value = f"{float(check['value']):.4g}" if check else ""
        rule = f"{check['quantity']} {check['bound']}" if check else record.error.strip().splitlines()[-1]
        mark = f"[{MARKS[record.verdict]}]{record.verdict}[/]"
        table.add_row(mark, record.claim, value, escaped(rule), f"{record.seconds:.1f}")
    # A pipe has no width of its own; folding there would break what reads it.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
