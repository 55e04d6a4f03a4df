"""``insitu identify RUN``: which algorithm a network runs at every step of its training that was kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.cli.options import KeptOptions, Where
from insitu.cli.terminal import print_result, progress_by_stage

if TYPE_CHECKING:
    from insitu.identification.diagnostics import Plan

__all__ = ["identify_run", "plan_of_run"]

# Prompts of each diagnostic for each of a dozen networks.
COUNT = 32


def plan_of_run(run: Path, dim: int | None, points: Sequence[int], count: int | None) -> "Plan":
    """The prompts for every step: those of its own task first, where that is stored."""
    from insitu.identification.diagnostics import Plan
    from insitu.training.history import load_past

    pasts = [past for path in sorted(run.glob("**/training.json")) if (past := load_past(path.parent))]
    known = {"task": pasts[0].task, "trained": (pasts[0].points,)} if pasts else {}
    return Plan(dim or 10, tuple(points), count or COUNT, **known)  # type: ignore[arg-type]


def identify_run(run: Path, plan: "Plan", where: Where, kept: KeptOptions) -> None:
    """Identify every step, and print or write what the training went through."""
    from insitu.identification.trajectories import identify_training
    from insitu.report.training_page import write_training_page
    from insitu.seed import Seed
    from insitu.training.history import load_steps

    steps = load_steps(run)
    with progress_by_stage("steps", len(steps)) as tell:
        trajectory = identify_training(steps, plan, Seed(where.seed), folder=kept.out, resume=kept.resumes, tell=tell)
    page = None if kept.out is None else write_training_page(kept.out, trajectory)
    print_result(trajectory, str(trajectory), page, as_json=where.as_json)
