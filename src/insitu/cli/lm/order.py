"""``insitu lm order``: how much answers depend on the order of the same demonstrations."""

from typing import Annotated

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

__all__ = ["order"]

EPOCHS = [1, 2, 5]


def order(
    model: ModelOptions,
    columns: ColumnOptions,
    shown: Demonstrations,
    results: Results,
    where: Where,
    texts: TextOptions = TextOptions(items=50),  # noqa: B008, frozen values
    training: DescentOptions = DescentOptions(["gd", "sgd1", "adam"], [1e-3], ["all"]),  # noqa: B008
    data: DataOption = "subj",
    template: TemplateOption = "",
    shots: Annotated[int, typer.Option(min=2, help="Number of demonstrations.")] = 4,
    sets: SetsOption = 3,
    orders: Annotated[int, typer.Option(min=2, help="Orders in which each set is shown and trained on.")] = 10,
    epochs: EpochsOption = EPOCHS,
) -> None:
    """Measure how much answers depend on the order of the same demonstrations, in context and after fine-tuning.

    Example: insitu lm order --shots 4 --orders 5 --optimisers gd sgd1 adam --rates 0.001 --epochs 1 5
    """
    from insitu.language.measure.forecast import forecast_of_orders
    from insitu.language.measure.order import Orders, order_sensitivity
    from insitu.report.lm_pages import order_page, summary_of_order
    from insitu.storage import require_folder

    bench = bench_of(model, data, template, where, shots, texts, columns, shown)
    setting = Orders(shots, 1 if bench.pinned else sets, orders, training.descents, tuple(sorted(set(epochs))))
    events = order_sensitivity(bench, setting, results.out, resume=results.resumes)
    show_data([bench])
    expected = measured_forecast(results, lambda: forecast_of_orders(bench, setting))
    if results.plan and expected is not None:
        return show_plan(expected, as_json=where.as_json)
    # Made only after all input has been checked.
    require_folder(results.out)
    records = follow(events, expected)
    with console.status("drawing figures"):
        page = order_page(records, results.out)
    if where.as_json:
        print_json({"page": str(page), "arms": summary_of_order(records)})
    else:
        typer.echo(f"The page is {page}.")
    return None
