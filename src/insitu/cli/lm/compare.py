"""``insitu lm compare``: in-context learning against fine-tuning on the same demonstrations."""

from typing import Annotated

import typer

from insitu.cli.lm.options import (
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
)
from insitu.cli.lm.progress import follow
from insitu.cli.options import Where
from insitu.cli.terminal import console, print_json

__all__ = ["compare"]

EPOCHS = [1, 2, 5, 10]
SHOTS = [1, 2, 4, 8]
RATES = [1e-3, 5e-3]


def compare(
    model: ModelOptions,
    texts: TextOptions,
    shown: Demonstrations,
    results: Results,
    where: Where,
    training: DescentOptions = DescentOptions(["gd"], RATES, ["all"]),  # noqa: B008, a frozen value
    data: DataOption = "subj",
    template: TemplateOption = "",
    other_template: Annotated[str, typer.Option(help="The template of a reference line.", show_default="none")] = "",
    shots: Annotated[list[int], typer.Option(help="Numbers of demonstrations.")] = SHOTS,
    sets: SetsOption = 3,
    orders: Annotated[int, typer.Option(min=1, help="Orders that 'orders averaged' averages over.")] = 4,
    epochs: EpochsOption = EPOCHS,
    labels: Annotated[str, typer.Option(help="Labels of demonstrations: gold, flipped or random.")] = "gold",
    hidden: Annotated[bool, typer.Option("--hidden", help="Also compare hidden states: SimAOU and SimAM.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many top tokens overlaps compare.")] = 10,
) -> None:
    """Compare in-context learning with fine-tuning on the same demonstrations; writes records, a page and figures.

    Example: insitu lm compare --data subj --shots 1 4 --rates 0.001 0.005 --epochs 1 5 --out results/compare
    """
    from insitu.language import load_template
    from insitu.language.measure.compare import Comparison
    from insitu.language.measure.compare import compare as measured
    from insitu.report.lm_pages import compare_page, summary_of_compare
    from insitu.storage import require_folder

    counts = tuple(sorted(set([len(shown.pinned)] if shown.pinned and shots == SHOTS else shots)))
    bench = bench_of(model, data, template, where, max(counts), texts, shown, labels)
    setting = Comparison(
        counts,
        1 if bench.pinned else sets,
        orders,
        training.descents,
        tuple(sorted(set(epochs))),
        top,
        load_template(other_template) if other_template else None,
        hidden,
    )
    events = measured(bench, setting, results.out, resume=results.resume)
    # Made only after all input has been checked.
    require_folder(results.out)
    records = follow(events)
    with console.status("drawing figures"):
        page = compare_page(records, results.out)
    if where.as_json:
        print_json({"page": str(page), "arms": summary_of_compare(records)})
    else:
        typer.echo(f"The page is {page}.")
