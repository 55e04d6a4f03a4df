"""``insitu reproduce``: run claims and show their verdicts."""

import json
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.options import Where, folder_or
from insitu.cli.report import write_report
from insitu.cli.terminal import console, duration, escaped, print_json, warn
from insitu.cli.work import WorkOptions, run_list, show_plan

if TYPE_CHECKING:
    from insitu.claims.claim import Scale
    from insitu.claims.job import ClaimJob
    from insitu.claims.record import Record
    from insitu.work import Finished

__all__ = ["reproduce"]

MARKS = {"holds": "green", "fails": "red", "undecided": "yellow", "error": "bold red"}


class ScaleName(StrEnum):
    """The two scales, as the command line spells them."""

    quick = "quick"
    full = "full"


def reproduce(
    where: Where,
    work: WorkOptions,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID ...]", help="Papers or claims (default: all).")
    ] = None,
    scale: Annotated[ScaleName, typer.Option(help="quick: 2 CPU cores, minutes. full: the paper's setting.")] = (
        ScaleName.quick
    ),
    out: Annotated[
        Path | None, typer.Option(help="Folder for records, figures and report.", show_default="results/SCALE")
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Several seeds: verdicts and intervals over trainings.", show_default="--seed alone"),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every claim holds.")] = False,
) -> None:
    """Run claims, print their verdicts, and write records, figures and a report.

    Example: insitu reproduce ding2024 --scale quick --out results/quick
    """
    from insitu.papers.index import claim_rows
    from insitu.papers.names import require_known
    from insitu.processes import start_server

    if ids:
        # Before anything large is imported.
        rows = claim_rows()
        require_known(ids, (row["paper"] for row in rows), (row["claim"] for row in rows))
    if not work.plan:
        # It loads what workers need while this process does the same.
        start_server("insitu.papers.registry", "insitu.claims.job", "insitu.work.dispatcher")
    from insitu.budget import OutOfTimeError
    from insitu.sweeps import claim_jobs

    folder, device = out or Path("results") / scale.value, where.place.type
    jobs = claim_jobs(ids or (), scale.value, seeds or (where.seed,), folder=folder, device=device)
    name_left_out(ids or [], scale.value)
    shared = work.share_of(jobs)
    if work.plan:
        show_plan(shared, work, where.as_json)
        return
    folder_or(out, folder)
    engine = None
    if work.ray is not None:
        engine = work.engine(write_plan(jobs, scale.value, folder), folder, device)
    try:
        records = run_list(shared, work, "claims", show_finished, engine)
    except OutOfTimeError:
        if any((folder / "records").glob("*.json")):
            write_report(folder)
        raise
    conclude(shared, [records[job.key] for job in shared], folder, where.as_json)
    verdicts = {record.verdict for record in records.values()}
    if "error" in verdicts or (strict and verdicts != {"holds"}):
        raise typer.Exit(1)


def write_plan(jobs: "Sequence[ClaimJob]", scale: str, folder: Path) -> Path:
    """Write the list as the plan of a sweep, which the nodes of a cluster read; its path."""
    from insitu.storage import write_atomically

    ids, seeds = ([*dict.fromkeys(names)] for names in ((job.claim.id for job in jobs), (job.seed for job in jobs)))
    path = folder / "reproduce.toml"
    # Lists of names and of whole numbers are the same in JSON and in TOML.
    text = f"claims = {json.dumps(ids)}\nscale = {json.dumps(scale)}\n\n[grid]\nseed = {json.dumps(seeds)}\n"
    write_atomically(path, text.encode())
    return path


def name_left_out(ids: "Sequence[str]", scale: "Scale") -> None:
    """Name the claims that cannot run on this machine, with what they need."""
    from insitu.sweeps import left_out

    reasons = left_out(ids, scale)
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(name for name, own in reasons.items() if own == reason)
        warn(f"left out: {names}. Reason: {reason}")


def conclude(jobs: "Sequence[ClaimJob]", records: "Sequence[Record]", folder: Path, as_json: bool) -> None:
    """Write the tables and the report and print the verdicts; a share of the claims may be empty."""
    from insitu.sweeps.tables import SEEDS, seed_rows, store_table

    rows = seed_rows(jobs, records)
    if rows:
        store_table(SEEDS, jobs, ("seed",), rows, folder)
    page = write_report(folder)[0] if records else None
    if as_json:
        print_json([record.summary() for record in records])
    elif records:
        show_verdicts(records)
        show_seeds(rows)
    if page and not as_json:
        typer.echo(f"The report is {page}.")


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


def show_seeds(rows: "Sequence[dict[str, Any]]") -> None:
    """The verdict of each claim over its seeds, on standard output."""
    for claim in dict.fromkeys(row["claim"] for row in rows):
        own = next(row for row in rows if row["claim"] == claim)
        alone = ", ".join(f"{own[name]} {name}" for name in ("holds", "fails", "undecided") if own[name])
        typer.echo(f"{own['verdict']:>9}  {claim}  over {own['seeds']} seeds (alone: {alone})")
