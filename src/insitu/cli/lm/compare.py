"""``insitu lm compare``: in-context learning against fine-tuning on the same demonstrations."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.lm.options import (
    ColumnOptions,
    DataOption,
    Demonstrations,
    DescentOptions,
    EpochsOption,
    ModelOptions,
    Results,
    SetsOption,
    TemplateOption,
    TextOptions,
    bench_of,
    show_data,
)
from insitu.cli.lm.progress import follow, measured_forecast, show_plan
from insitu.cli.options import Where
from insitu.cli.terminal import console, print_json

if TYPE_CHECKING:
    from insitu.language import Template
    from insitu.language.measure.bench import Bench
    from insitu.language.measure.forecast import Forecast

__all__ = ["compare"]

# Sized for a model of some hundred million parameters on a laptop.
EPOCHS = [1, 2, 4]
SHOTS: list[int] = []
LEAST_SHOTS = 4
USUAL = "4 or more, so that every label is shown as often"
RATES = [1e-3, 5e-3]
ITEMS = 50


def compare(
    model: ModelOptions,
    columns: ColumnOptions,
    shown: Demonstrations,
    results: Results,
    where: Where,
    texts: TextOptions = TextOptions(items=ITEMS),  # noqa: B008, a frozen value
    training: DescentOptions = DescentOptions(["gd"], RATES, ["all"]),  # noqa: B008, a frozen value
    data: DataOption = "subj",
    template: TemplateOption = "",
    other_template: Annotated[str, typer.Option(help="A second template, as a reference.", show_default="none")] = "",
    shots: Annotated[list[int], typer.Option(help="Numbers of demonstrations.", show_default=USUAL)] = SHOTS,
    sets: SetsOption = 4,
    orders: Annotated[int, typer.Option(min=1, help="Orders of each demonstration set.")] = 2,
    epochs: EpochsOption = EPOCHS,
    development: Annotated[
        int, typer.Option(min=0, help="Train rows for choosing rate and epochs; 0 for no choice.")
    ] = 16,
    every_epoch: Annotated[
        bool, typer.Option("--every-epoch", help="The paper's comparison: measure after every epoch, with controls.")
    ] = False,
    labels: Annotated[str, typer.Option(help="Labels of demonstrations: gold, flipped or random.")] = "gold",
    hidden: Annotated[bool, typer.Option("--hidden", help="Also compare hidden states: SimAOU and SimAM.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Number of top tokens that the overlaps compare.")] = 10,
    show: Annotated[bool, typer.Option("--show", help="Also print the demonstrations of each text.")] = False,
) -> None:
    """Prompt or fine-tune? Compare both on the same demonstrations; writes records, a page and figures.

    Example: insitu lm compare --data subj --shots 1 4 --rates 0.001 0.005 --epochs 1 5 --out results/compare
    """
    from insitu.language.measure.compare import Comparison
    from insitu.language.measure.compare import compare as measured
    from insitu.language.measure.forecast import forecast
    from insitu.storage import require_folder

    counts = tuple(sorted(set(shots or [usual_shots(shown, columns, data, where)])))
    bench = bench_of(model, data, template, where, max(counts), texts, columns, shown, labels)
    setting = Comparison(
        counts,
        1 if bench.pinned else sets,
        orders,
        training.descents,
        tuple(sorted(set(epochs))),
        top,
        reference_template(other_template, bench, chat=texts.chat) if other_template else None,
        hidden,
        development,
        every_epoch or not development,
    )
    events = measured(bench, setting, results.out, resume=results.resumes)
    show_data([bench])
    expected = measured_forecast(results, lambda: forecast(bench, setting))
    if results.plan and expected is not None:
        return show_plan(expected, as_json=where.as_json)
    # Made only after all input has been checked.
    require_folder(results.out)
    records = follow(events, expected)
    return show_results(records, results.out, expected, show=show, as_json=where.as_json)


def reference_template(name: str, bench: "Bench", *, chat: bool) -> "Template":
    """The template of the reference line, in turns where the other one is."""
    from insitu.language import load_template
    from insitu.language.texts.chat import in_turns

    other = load_template(name)
    return in_turns(other, bench.model.tokenizer) if chat else other


def usual_shots(shown: Demonstrations, columns: ColumnOptions, data: str, where: Where) -> int:
    """The number of named demonstrations, or the fewest from four on with every label equally often."""
    from insitu.seed import Seed

    labels = len(columns.load(data, Seed(where.seed)).labels)
    return len(shown.pinned) or labels * math.ceil(LEAST_SHOTS / labels)


def show_results(
    records: list[dict[str, Any]], folder: Path, expected: "Forecast | None", *, show: bool, as_json: bool
) -> None:
    """The conclusion, and the path of the page."""
    from insitu.records import plain
    from insitu.report.compare_page import (
        compare_page,
        conclusions,
        decisions_as_json,
        demonstrations,
        summary_of_compare,
    )

    with console.status("drawing figures"):
        page = compare_page(records, folder)
    sentences = conclusions(records)
    if as_json:
        words = {"page": str(page), "conclusions": sentences, "predicted_seconds": expected and expected.seconds}
        numbers = {"decisions": decisions_as_json(records), "arms": summary_of_compare(records)}
        print_json(plain({**words, **numbers}))
    else:
        typer.echo("\n\n".join([*sentences, *(demonstrations(records) if show else ()), f"The page is {page}."]))
