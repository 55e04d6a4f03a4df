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
    folder: Annotated[Path, typer.Argument(help="A folder that `insitu reproduce` writes into.")],
) -> None:
    """Show what is done in a folder of claims, what failed to run, what is left, and the predicted time for it.

    Example: insitu status results/quick
    """
    from insitu.claims.record import read_records

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
    from insitu.claims.runner import Job, plan
    from insitu.device import available_cores
    from insitu.papers import PAPERS, claims

    matching = sorted((r for r in records if (r.scale, r.seed) == (scale, seed)), key=lambda r: r.finished)
    newest = {record.claim: record.verdict for record in matching}
    pending = [claim for claim in claims().values() if newest.get(claim.id, "error") == "error"]
    jobs = [Job(claim, PAPERS[claim.paper], scale, seed, "cpu", folder) for claim in pending]  # type: ignore[arg-type]
    planned = plan(jobs, workers=available_cores(), resume=False) if jobs else []
    return {
        "scale": scale,
        "seed": seed,
        "verdicts": dict(Counter(newest.values())),
        "left": [claim.id for claim in pending],
        "seconds_left": max((item.end for item in planned), default=0.0),
    }
