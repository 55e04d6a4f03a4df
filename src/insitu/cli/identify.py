"""``insitu identify``: which learning algorithm a model runs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.identify_lm import NumberOptions, identify_numbers
from insitu.cli.identify_run import identify_run, plan_of_run
from insitu.cli.options import KeptOptions, Where
from insitu.cli.predict import answer_in_chunks
from insitu.cli.terminal import print_json, print_result, progress_by_stage

if TYPE_CHECKING:
    from insitu.identification.diagnostics import Plan
    from insitu.seed import Seed

__all__ = ["identify"]


def identify(
    where: Where,
    kept: KeptOptions,
    numbers: NumberOptions,
    run: Annotated[
        Path | None, typer.Argument(help="A training's folder: which algorithm its network runs, step by step.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The folder of a checkpoint, or a learner such as 'Ridge(penalty=0.25)'.")
    ] = None,
    prompts: Annotated[
        list[Path] | None, typer.Option(help="P.npz, one for each context length, in the order of --answers.")
    ] = None,
    answers: Annotated[list[Path] | None, typer.Option(help="A.npz with the model's answers to --prompts.")] = None,
    emit_prompts: Annotated[Path | None, typer.Option(help="Write diagnostic prompts to P.npz, and stop.")] = None,
    dim: Annotated[
        int | None,
        typer.Option(min=1, help="Dimension of diagnostic prompts.", show_default="the model's, or 10; of numbers 1"),
    ] = None,
    points: Annotated[list[int] | None, typer.Option(min=1, help="Context lengths of diagnostic prompts.")] = None,
    count: Annotated[
        int | None,
        typer.Option(min=8, help="Prompts of each diagnostic at each length.", show_default="100; of numbers 16"),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Diagnostic prompts with this many classes.")] = None,
    sequence: Annotated[bool, typer.Option("--sequence", help="Diagnostic prompts that are sequences.")] = False,
    candidate: Annotated[list[str] | None, typer.Option(help="A further learner to compare with, as it is.")] = None,
) -> None:
    """Name the learning algorithm behind a model's answers, or say that it is none of the known ones.

    Example: insitu identify --model results/network --out results/identify
    Example: insitu identify --emit-prompts P.npz --dim 10
    Example: insitu identify --prompts P.npz --answers A.npz --json
    Example: insitu identify results/training --out results/development
    Example: insitu identify --lm smollm2 --out results/numbers
    """
    from insitu.exchange import load_prompts
    from insitu.identification.black_box import answered_in_files, ask, model_named, plan_for
    from insitu.identification.diagnostics import Plan, diagnostic_prompts
    from insitu.models import named_predictor
    from insitu.report.identify_page import as_text, write_page
    from insitu.seed import Seed
    from insitu.training.history import load_past

    kept.require_out()
    if numbers.lm is not None:
        identify_numbers(numbers.lm, numbers.plan(dim, points or (), count), where, kept)
        return
    if run is not None:
        identify_run(run, plan_of_run(run, dim, points or (), count), where, kept)
        return
    kind: Any = "classes" if classes else "sequence" if sequence else "regression"
    plan = Plan(dim or 10, tuple(points or ()), count or 100, kind, classes or 1)
    seed = Seed(where.seed)
    if emit_prompts is not None:
        write_prompts(emit_prompts, plan, seed, as_json=where.as_json)
        return
    candidates = [named_predictor(text) for text in candidate or ()]
    network = None if model is None else model_named(model)
    past = None if network is None else load_past(Path(model or ""))
    if past is not None:
        plan = replace(plan, task=past.task, trained=(past.points,))
    if network is None:
        answered = answered_in_files(prompts or [], answers or [])
    else:
        device = where.place
        questions = (
            [load_prompts(path) for path in prompts] if prompts else diagnostic_prompts(plan_for(network, plan), seed)
        )
        answered = ask(network, questions, lambda m, p: answer_in_chunks(m, p, device))
    result = identified(answered, candidates, seed)
    page = None if kept.out is None else write_page(kept.out, result, answered, network)
    print_result(result, as_text(result), page, as_json=where.as_json)


def write_prompts(path: Path, plan: "Plan", seed: "Seed", *, as_json: bool) -> None:
    """Write diagnostic prompts for a model in another framework, and say what to do with them."""
    from insitu.identification.black_box import emit

    manifest = emit(path, plan, seed)
    if as_json:
        print_json(manifest)
        return
    names = [str(path.with_name(row["file"])) for row in manifest["files"]]
    typer.echo(f"Answer the prompts in {', '.join(names)}; {path.with_suffix('.json')} says what each is for.")


def identified(answered: Any, candidates: Any, seed: "Seed") -> Any:
    """Identify, with a progress bar."""
    from insitu.identification import identify as name_learner
    from insitu.identification.search import STAGES

    with progress_by_stage("candidates", STAGES) as tell:
        return name_learner(answered, candidates=candidates, seed=seed / "identify", tell=tell)
