"""The command line: words to library calls, and errors to one paragraph."""

import itertools
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import insitu
from insitu.cli.lm import lm
from insitu.cli.terminal import (
    DeviceChoice,
    DeviceOption,
    JsonOption,
    SeedOption,
    escaped,
    print_json,
    progress_bar,
    told,
)
from insitu.errors import InputError, StepSizeWarning, shortened

if TYPE_CHECKING:
    from insitu.claims.record import Record
    from insitu.claims.runner import Finished, Job
    from insitu.predictor import Predictor
    from insitu.prompt import Prompt

__all__ = ["app", "main"]

# What typer raises for words that no command takes; it has no public name of its own.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="insitu",
    help="A laboratory for in-context learning: claims of papers run again, and reference learners for your prompts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lm, name="lm")

# Prompts that `predict` answers at a time at most, the numbers that one chunk may need (256 MB), and the seconds
# after which it shows how far it is.
CHUNK = 4096
NUMBERS = 2**25
PATIENCE = 2.0
MARKS = {"holds": "green", "fails": "red", "undecided": "yellow", "error": "bold red"}


class ScaleName(StrEnum):
    """The two scales, as the command line spells them."""

    quick = "quick"
    full = "full"


def main() -> None:
    """Run the command line; wrong input ends in one paragraph and exit code 2."""
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        refuse(error.format_message())  # type: ignore[attr-defined]
    except InputError as error:
        refuse(str(error))
    except BrokenPipeError:
        # Whoever read our output has left; nothing is wrong. Python would complain once more while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        refuse(f"the system refused a file or stream{place}: {error.strerror or error}.")
    except (KeyboardInterrupt, typer.Abort):
        told.print("interrupted; what was finished is kept, and the same command with --resume goes on from there.")
        sys.exit(130)


def refuse(message: str) -> None:
    told.print(f"[bold red]error:[/] {escaped(' '.join(message.split()))}", soft_wrap=True)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Options of the program itself."""
    if show:
        typer.echo(insitu.__version__)
        raise typer.Exit


@app.command()
def reproduce(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID ...]", help="Papers or claims; all if none.")] = None,
    scale: Annotated[ScaleName, typer.Option(help="quick: 2 CPU cores, minutes. full: the paper's setting.")] = (
        ScaleName.quick
    ),
    out: Annotated[
        Path | None, typer.Option(help="Folder for records, figures and report; results/SCALE if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what this configuration has done already.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Claims at a time; one per core if not given.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 unless every claim holds.")] = False,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Run claims, print their verdicts, and write records, figures and a report.

    Example: insitu reproduce ding2024 --scale quick --out results/quick
    """
    from insitu.claims.runner import Job
    from insitu.device import available_cores, pick_device
    from insitu.papers import PAPERS, select
    from insitu.storage import require_folder

    chosen = select(ids or [])
    place = pick_device(device.value).type
    folder = out or Path("results") / scale.value
    require_folder(folder)
    jobs = [Job(claim, PAPERS[claim.paper], scale.value, seed, place, folder) for claim in chosen]
    records = run_with_progress(jobs, workers or available_cores(), resume)
    with told.status("drawing figures"):
        page = write_report(folder)
    if as_json:
        print_json([record.summary() for record in records])
    else:
        show_verdicts(records)
        typer.echo(f"The report is {page}.")
    verdicts = {record.verdict for record in records}
    if "error" in verdicts or (strict and verdicts != {"holds"}):
        raise typer.Exit(1)


def run_with_progress(jobs: "list[Job]", workers: int, resume: bool) -> "list[Record]":
    """Run jobs with a live bar (a line per claim where there is no terminal); records in the order of the jobs."""
    from insitu.claims.runner import Started, run_jobs

    records: dict[str, Record] = {}
    under_way: list[str] = []
    with progress_bar("claims", len(jobs)) as bar:
        for event in run_jobs(jobs, workers=workers, resume=resume):
            name = event.job.claim.id
            if isinstance(event, Started):
                under_way.append(name)
            else:
                under_way = [other for other in under_way if other != name]
                records[name] = event.record
                bar.advance(bar.task_ids[0])
                tell_finished(event)
            bar.update(bar.task_ids[0], description=escaped(", ".join(under_way)) or "claims")
    return [records[job.claim.id] for job in jobs]


def tell_finished(event: "Finished") -> None:
    record = event.record
    if event.damage is not None:
        reason = f"{event.damage.path} could not be used: {event.damage.reason}; the claim was run again."
        told.print(f"[yellow]warning:[/] {escaped(reason)}", soft_wrap=True)
    how = "done before" if event.resumed else f"{record.seconds:.1f} s"
    mark = f"[{MARKS[record.verdict]}]{record.verdict:>9}[/]"
    told.print(f"{mark}  {record.claim}  [dim]{how}[/]", soft_wrap=True, highlight=False)
    if record.verdict == "error":
        told.print(f"           {escaped(record.error.strip().splitlines()[-1])}", soft_wrap=True)


def show_verdicts(records: "Iterable[Record]") -> None:
    """The table of verdicts on standard output."""
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


def write_report(folder: Path) -> Path:
    from insitu.report import build_report

    report = build_report(folder)
    for damage in report.damaged:
        reason = f"{damage.path} was left out of the report: {damage.reason}."
        told.print(f"[yellow]warning:[/] {escaped(reason)}", soft_wrap=True)
    return report.page


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that `insitu reproduce` wrote.")],
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the report and its figures from the records alone, running nothing (seed and device play no part).

    Example: insitu report results/quick
    """
    from insitu.storage import require_folder

    if not folder.exists():
        raise InputError(f"{folder} does not exist; expected a folder that `insitu reproduce --out` wrote.")
    require_folder(folder)
    with told.status("drawing figures"):
        page = write_report(folder)
    if as_json:
        print_json({"report": str(page)})
    else:
        typer.echo(f"The report is {page}.")


@app.command()
def claims(
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """List every claim: its paper, statement, place, rule and cost (seed and device play no part).

    Example: insitu claims --json
    """
    from insitu.papers import claims as known

    if as_json:
        rows = [
            {
                "claim": claim.id,
                "paper": claim.paper,
                "statement": claim.statement,
                "source": claim.source,
                "rule": "; ".join(map(str, claim.rules)),
                "quick_seconds": claim.quick_seconds,
                "full_hours": claim.full_hours,
            }
            for claim in known().values()
        ]
        print_json(rows)
        return
    for claim in known().values():
        cost = f"quick {claim.quick_seconds:g} s, full {claim.full_hours:g} h"
        typer.echo(f"{claim.id}  ({claim.source}; {cost})\n    {claim.statement}\n")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file with the sections task, network and training.")],
    out: Annotated[Path | None, typer.Option(help="Folder to train in; runs/NAME for NAME.toml if not given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the state in the folder.")] = False,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of PyTorch on a CPU; for small networks one is the fastest.")
    ] = 1,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Train networks on a task; writes checkpoints, metrics as JSON lines and learning curves.

    Example: insitu train regression.toml --out runs/regression
    """
    import torch

    from insitu.device import pick_device
    from insitu.seed import Seed
    from insitu.storage import require_folder
    from insitu.training.config import read_training
    from insitu.training.session import read_metrics, run_training

    training = read_training(config)
    torch.set_num_threads(threads)
    folder = out or Path("runs") / config.stem
    require_folder(folder)
    with progress_bar("steps", training.recipe.steps) as bar:
        for step in run_training(training, Seed(seed), folder, pick_device(device.value), resume=resume):
            told_loss = f"loss {min(step.losses):.4g}"
            if len(step.losses) > 1:
                told_loss += f" to {max(step.losses):.4g}"
            bar.update(bar.task_ids[0], completed=step.index + 1, description=told_loss)
    metrics = read_metrics(folder)
    with told.status("drawing the learning curves"):
        write_curves(folder, metrics)
    last = [row["loss"] for row in metrics[-len(training.networks) :]]
    networks = [str(folder / name) for name in training.networks]
    if as_json:
        print_json({"folder": str(folder), "steps": training.recipe.steps, "losses": last, "networks": networks})
    else:
        typer.echo(f"The last losses are {', '.join(f'{loss:.4g}' for loss in last)}; the networks are in {folder}.")


def write_curves(folder: Path, metrics: list[dict[str, Any]]) -> None:
    """The learning curves as SVG and PDF."""
    from insitu.claims import Figure, Panel, line
    from insitu.report.figures import draw
    from insitu.storage import write_atomically

    lines = []
    for colour, name in enumerate(dict.fromkeys(row["network"] for row in metrics)):
        # A step's loss is that of its few prompts: means over twentieths of a decade show how it falls.
        own = ((row["step"] + 1, row["loss"]) for row in metrics if row["network"] == name)
        parts = [list(part) for _, part in itertools.groupby(own, key=lambda pair: round(20 * math.log10(pair[0])))]
        steps, losses = ([statistics.mean(pair[i] for pair in part) for part in parts] for i in (0, 1))
        lines.append(line(name, steps, losses, colour=colour))
    panel = Panel("step", "loss, mean over steps", tuple(lines), x_scale="log", y_scale="log")
    drawing = draw(Figure((panel,), "Learning curves.", "Loss against the step, one curve per network."), "curves")
    write_atomically(folder / "curves.svg", drawing.svg)
    write_atomically(folder / "curves.pdf", drawing.pdf)


@app.command()
def predict(
    learner: Annotated[str, typer.Argument(help="As it prints: 'Ridge(penalty=0.25)', 'Checkpoint(\"folder\")'.")],
    prompts: Annotated[Path, typer.Option(help="P.npz with xs, ys and queries.")],
    out: Annotated[Path, typer.Option(help="A.npz to write the answers to.")],
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Answer prompts with a reference learner or a checkpoint (no learner draws, so the seed plays no part).

    Example: insitu predict 'GradientDescent(steps=5, rate=0.5)' --prompts P.npz --out A.npz
    """
    from insitu.device import pick_device
    from insitu.exchange import load_prompts, save_answers
    from insitu.models import named_predictor

    predictor = named_predictor(learner)
    place = pick_device(device.value)
    given = load_prompts(prompts)
    if out.is_dir():
        raise InputError(f"{out} is a folder; expected the name of the npz file to write. Choose another --out.")
    if out.exists() and prompts.exists() and out.samefile(prompts):
        raise InputError(f"--out {out} is the prompts themselves; choose another name so that they are not lost.")
    answers = answer_in_chunks(predictor, given.prompt, place)
    save_answers(out, answers, scalar=given.scalar)
    shape = list(answers.shape[: 2 if given.scalar else 3])
    if as_json:
        print_json({"learner": repr(predictor), "answers": str(out), "shape": shape})
    else:
        typer.echo(f"{learner} answered {shape[0]} prompts; the answers {tuple(shape)} are in {out}.")


def answer_in_chunks(predictor: "Predictor", prompt: "Prompt", device: Any) -> Any:
    """Predict chunk by chunk, with a bar once it takes long; warnings are told once."""
    import torch

    from insitu.prompt import Prompt

    if isinstance(predictor, torch.nn.Module):
        predictor.to(device)
    size = prompt.points * prompt.dim * max(prompt.dim, prompt.queries.shape[1], prompt.out)
    chunk = max(1, min(CHUNK, NUMBERS // size))
    parts = list(zip(*(t.split(chunk) for t in (prompt.xs, prompt.ys, prompt.queries)), strict=True))
    cautions: list[StepSizeWarning] = []
    answers, started = [], time.monotonic()
    with torch.no_grad(), progress_bar("prompts", len(parts)) as bar:
        bar.tasks[0].visible = False
        for part in parts:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", StepSizeWarning)
                answers.append(answer(predictor, Prompt(*part).to(device)).cpu())
            cautions += [w.message for w in caught if isinstance(w.message, StepSizeWarning)]
            bar.advance(bar.task_ids[0])
            bar.update(bar.task_ids[0], visible=time.monotonic() - started > PATIENCE)
    if cautions:
        least = min(cautions, key=lambda caution: caution.limit)
        told.print(f"[yellow]warning:[/] {escaped(str(least))}", soft_wrap=True)
    return torch.cat(answers)


def answer(predictor: "Predictor", prompt: "Prompt") -> Any:
    """Predict, and refuse answers that float64 cannot hold."""
    import torch

    try:
        answers = predictor.predict(prompt)
        finite = bool(answers.isfinite().all())
    except (torch.linalg.LinAlgError, OverflowError):  # type: ignore[attr-defined]
        finite = False
    if not finite:
        raise InputError(
            f"{shortened(repr(predictor))}: some answers are not finite. The iteration diverges, the stored weights "
            f"are not finite, or numbers leave the range of float64 (the largest input here is "
            f"{prompt.xs.abs().max().item():.3g}); lower the rate or rescale the prompts."
        )
    return answers


@app.command()
def identify(
    model: Annotated[str | None, typer.Option(help="A checkpoint's folder, or a learner as it prints.")] = None,
    prompts: Annotated[
        list[Path] | None, typer.Option(help="P.npz; once for each context length, in the order of --answers.")
    ] = None,
    answers: Annotated[list[Path] | None, typer.Option(help="A.npz with the model's answers to --prompts.")] = None,
    emit_prompts: Annotated[Path | None, typer.Option(help="Write diagnostic prompts to P.npz, and stop.")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="Dimension of diagnostic prompts; the model's, or 10.")] = None,
    points: Annotated[list[int] | None, typer.Option(min=1, help="A context length of diagnostic prompts.")] = None,
    count: Annotated[int, typer.Option(min=8, help="Prompts of each diagnostic at each length.")] = 100,
    classes: Annotated[int | None, typer.Option(min=2, help="Diagnostic prompts of so many classes.")] = None,
    sequence: Annotated[bool, typer.Option("--sequence", help="Diagnostic prompts that are sequences.")] = False,
    candidate: Annotated[list[str] | None, typer.Option(help="A further candidate, as it prints; not fitted.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for a report page and its figures.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = DeviceChoice.auto,
    as_json: JsonOption = False,
) -> None:
    """Name the learning algorithm behind a model's answers, or say that it is none of those known.

    Example: insitu identify --model results/network --out results/identify
    Example: insitu identify --emit-prompts P.npz --dim 10
    Example: insitu identify --prompts P.npz --answers A.npz --json
    """
    from insitu.device import pick_device
    from insitu.exchange import load_prompts
    from insitu.identification.black_box import answered_by, answered_in_files, emit, model_named, plan_for
    from insitu.identification.diagnostics import Plan, diagnostic_prompts
    from insitu.models import named_predictor
    from insitu.report.identify_page import as_text, write_page
    from insitu.seed import Seed

    kind: Any = "classes" if classes else "sequence" if sequence else "regression"
    plan = Plan(dim or 10, tuple(points or ()), count, kind, classes or 1)
    root = Seed(seed)
    if emit_prompts is not None:
        manifest = emit(emit_prompts, plan, root)
        if as_json:
            print_json(manifest)
        else:
            names = [str(emit_prompts.with_name(row["file"])) for row in manifest["files"]]
            typer.echo(
                f"Answer the prompts in {', '.join(names)}; {emit_prompts.with_suffix('.json')} says what each is for."
            )
        return
    others = [named_predictor(text) for text in candidate or ()]
    network = None if model is None else model_named(model)
    if network is None:
        given = answered_in_files(prompts or [], answers or [])
    else:
        place = pick_device(device.value)
        asked = (
            [load_prompts(path) for path in prompts] if prompts else diagnostic_prompts(plan_for(network, plan), root)
        )
        given = answered_by(network, asked, lambda m, p: answer_in_chunks(m, p, place))
    result = identified(given, others, root)
    page = None if out is None else write_page(out, result, given, network)
    if as_json:
        print_json(result.as_json())
        return
    typer.echo(as_text(result))
    if page is not None:
        typer.echo(f"The report is {page}.")


def identified(given: Any, others: Any, seed: Any) -> Any:
    """Identify, with a bar that says what is being tried."""
    from insitu.identification import identify as name_learner
    from insitu.identification.verdicts import STAGES

    with progress_bar("candidates", STAGES) as bar:

        def tell(what: str) -> None:
            bar.update(bar.task_ids[0], advance=1, description=escaped(what))

        return name_learner(given, candidates=others, seed=seed / "identify", tell=tell)
