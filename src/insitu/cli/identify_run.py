"""``insitu identify RUN``: which algorithm a network runs at every step of its training that was kept."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from insitu.cli.options import Where
from insitu.cli.terminal import escaped, print_json, progress_bar

if TYPE_CHECKING:
    from insitu.identification.diagnostics import Plan

__all__ = ["identify_run", "plan_of_run"]

# Prompts of each diagnostic for each of a dozen networks.
COUNT = 32


def plan_of_run(run: Path, dim: int | None, points: Sequence[int], count: int | None) -> "Plan":
    """The prompts that every step is asked: those of its own task first, where that is stored."""
    from insitu.identification.diagnostics import Plan
    from insitu.training.history import load_past

    pasts = [past for path in sorted(run.glob("**/training.json")) if (past := load_past(path.parent))]
    known = {"task": pasts[0].task, "trained": (pasts[0].points,)} if pasts else {}
    return Plan(dim or 10, tuple(points), count or COUNT, **known)  # type: ignore[arg-type]


def identify_run(run: Path, plan: "Plan", where: Where, out: Path | None) -> None:
    """Identify every step, and print or write what the training went through."""
    from insitu.identification.trajectories import identify_training
    from insitu.report.training_page import write_training_page
    from insitu.seed import Seed
    from insitu.storage import write_atomically
    from insitu.training.history import load_steps

    steps = load_steps(run)
    with progress_bar("steps", len(steps)) as bar:

        def tell(what: str) -> None:
            bar.update(bar.task_ids[0], advance=1, description=escaped(what))

        found = identify_training(steps, plan, Seed(where.seed), tell=tell)
    page = None if out is None else write_training_page(out, found)
    if out is not None:
        write_atomically(out / "along-training.json", (json.dumps(found.as_json(), indent=1) + "\n").encode())
    if where.as_json:
        print_json(found.as_json())
        return
    typer.echo(str(found))
    if page is not None:
        typer.echo(f"The report is {page}.")
