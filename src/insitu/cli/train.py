"""``insitu train``: networks on a task, as a TOML file describes it."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, final

import typer

from insitu.cli.options import PlanOption, Sitting, Where, folder_or
from insitu.cli.terminal import console, print_json, progress_bar
from insitu.cli.work import line_of, row_of
from insitu.errors import require_package

if TYPE_CHECKING:
    from insitu.training.config import Training

__all__ = ["train"]


@final
@dataclass(frozen=True)
class TrainOptions(Sitting):
    """How long a training goes on."""

    # For the state, which is stored after the step under way.
    reserve = 3.0
    grace = 12.0

    plan: PlanOption = False


def train(
    where: Where,
    how: TrainOptions,
    config: Annotated[Path, typer.Argument(help="A TOML file with the sections task, network and training.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to train in.", show_default="runs/NAME for NAME.toml")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of PyTorch on a CPU; for small networks one is the fastest.")
    ] = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the metrics for TensorBoard too, below the folder.")
    ] = False,
) -> None:
    """Train networks on a task; writes checkpoints, metrics as JSON lines and learning curves.

    Example: insitu train regression.toml --out runs/regression
    """
    from insitu.processes import prepare_torch
    from insitu.report.curves import write_curves
    from insitu.seed import Seed
    from insitu.training.config import read_training
    from insitu.training.event_files import event_files
    from insitu.training.session import read_metrics, run_training

    if tensorboard:
        rest = ", or leave the option out: metrics.jsonl has the same numbers"
        require_package("train: --tensorboard", "tensorboard", "tensorboard", rest)
    training = read_training(config)
    prepare_torch(threads)
    device, folder = where.place, out or Path("runs") / config.stem
    if how.plan:
        return show_plan(training, where, folder)
    folder_or(out, folder)
    events = event_files(training, folder) if tensorboard else contextlib.nullcontext(lambda _: None)
    with events as add, progress_bar("steps", training.recipe.steps) as bar:
        for step in run_training(training, Seed(where.seed), folder, device, resume=how.resumes):
            add(step)
            loss = f"loss {min(step.losses):.4g}"
            if len(step.losses) > 1:
                loss += f" to {max(step.losses):.4g}"
            bar.update(bar.task_ids[0], completed=step.index + 1, description=loss)
    metrics = read_metrics(folder)
    with console.status("drawing the learning curves"):
        write_curves(metrics, folder)
    last = {row["network"]: row["loss"] for row in metrics[-len(training.networks) :]}
    if where.as_json:
        networks = [str(folder / name) for name in training.networks]
        losses = [last[name] for name in training.networks]
        print_json({"folder": str(folder), "steps": training.recipe.steps, "losses": losses, "networks": networks})
    else:
        losses_by_name = ", ".join(f"{name} {last[name]:.4g}" for name in training.networks)
        typer.echo(f"The last losses are: {losses_by_name}. The networks are in {folder}.")
    return None


def show_plan(training: "Training", where: Where, folder: Path) -> None:
    """The predicted operations, memory and time of a training, all steps together."""
    from insitu.sweeps.training_job import Member, TrainingJob
    from insitu.work import Planned

    job = TrainingJob((Member(training, where.seed, (("steps", training.recipe.steps),)),), 0, where.place.type, folder)
    planned = Planned(job, end=job.expected_seconds)
    if where.as_json:
        print_json(row_of(planned))
    else:
        typer.echo(line_of(planned))
