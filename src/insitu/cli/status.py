"""``insitu status``: what of a list of claims is done, and what is left."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.options import Quiet
from insitu.cli.terminal import duration, print_json
from insitu.errors import InputError

if TYPE_CHECKING:
    from insitu.claims.record import Record

__all__ = ["status"]


def status(
    options: Quiet,
    folder: Annotated[Path, typer.Argument(help="A folder that `insitu reproduce` or `insitu sweep` writes into.")],
) -> None:
    """Show what is done in a folder of claims or of a sweep, what failed, what is left, and the time for it.

    Example: insitu status results/quick
    """
    from insitu.claims.record import read_records
    from insitu.sweeps.plan_file import PLAN

    if (folder / PLAN).exists():
        show_sweep(folder, folder / PLAN, options.as_json)
        return

    records, damaged = read_records(folder)
    if not records:
        raise InputError(f"{folder} holds no records of claims; expected a folder of `insitu reproduce --out`.")
    rows = [row_of(scale, seed, records, folder) for scale, seed in sorted({(r.scale, r.seed) for r in records})]
    if options.as_json:
        print_json({"runs": rows, "damaged": [str(damage.path) for damage in damaged]})
        return
    for row in rows:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in row["verdicts"].items())
        left = f"{len(row['left'])} left, about {duration(row['seconds_left'])}" if row["left"] else "nothing left"
        typer.echo(f"{row['scale']}, seed {row['seed']}: {verdicts}; {left}")
    for damage in damaged:
        typer.echo(f"damaged: {damage.path} ({damage.reason})")


def row_of(scale: str, seed: int, records: "list[Record]", folder: Path) -> dict[str, Any]:
    """The claims of one scale and seed: the newest verdict of each, and those that have none."""
    from insitu.claims.job import ClaimJob
    from insitu.device import available_cores
    from insitu.papers import PAPERS, claims
    from insitu.work import plan

    matching = sorted((r for r in records if (r.scale, r.seed) == (scale, seed)), key=lambda r: r.finished)
    newest = {record.claim: record.verdict for record in matching}
    pending = [claim for claim in claims().values() if newest.get(claim.id, "error") == "error"]
    jobs = [ClaimJob(claim, PAPERS[claim.paper], scale, seed, "cpu", folder) for claim in pending]  # type: ignore[arg-type]
    planned = plan(jobs, workers=available_cores(), resume=False) if jobs else []
    return {
        "scale": scale,
        "seed": seed,
        "verdicts": dict(Counter(newest.values())),
        "left": [claim.id for claim in pending],
        "seconds_left": max((item.end for item in planned), default=0.0),
    }


def show_sweep(folder: Path, plan_file: Path, as_json: bool) -> None:
    """The jobs of a sweep: done, failed, left, and the predicted time."""
    from insitu.device import available_cores, pick_device
    from insitu.records import read_folder
    from insitu.sweeps import read_sweep
    from insitu.work import plan

    jobs = read_sweep(plan_file).jobs(folder, pick_device("auto").type)
    contents, damaged = read_folder(folder)
    keys = {str(record["key"]) for record in contents.values() if record.get("error")}
    planned = plan(jobs, workers=available_cores(), resume=True)
    row: dict[str, Any] = {
        "jobs": len(jobs),
        "done": sum(item.record is not None for item in planned),
        "failed": [job.name for job in jobs if job.key in keys],
        "left": [item.job.name for item in planned if item.record is None],
        "seconds_left": max((item.end for item in planned if item.record is None), default=0.0),
        "damaged": [str(damage.path) for damage in damaged],
    }
    if as_json:
        print_json(row)
        return
    left = f"{len(row['left'])} left, about {duration(row['seconds_left'])}" if row["left"] else "nothing left"
    typer.echo(f"{row['done']} of {row['jobs']} jobs done, {len(row['failed'])} failed; {left}")
    for damage in damaged:
        typer.echo(f"damaged: {damage.path} ({damage.reason})")
