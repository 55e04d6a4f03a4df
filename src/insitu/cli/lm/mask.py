"""``insitu lm mask``: fine-tuning under the prefix mask against the causal one."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.lm.options import (
    TEMPLATE_DEFAULT,
    ColumnOptions,
    ModelOptions,
    Results,
    TextOptions,
    benches_of,
    show_data,
)
from insitu.cli.lm.progress import show_plan, show_record, stored
from insitu.cli.options import Where
from insitu.cli.terminal import console, escaped, print_json, progress_bar

if TYPE_CHECKING:
    from insitu.language.measure.bench import Bench
    from insitu.language.measure.masks import FineTuning

__all__ = ["mask"]

TRAIN, EVALUATE, SHOTS = ["mr"], ["subj"], [4]


def mask(
    model: ModelOptions,
    texts: TextOptions,
    columns: ColumnOptions,
    results: Results,
    where: Where,
    train_data: Annotated[list[str], typer.Option(help="Data to fine-tune on.")] = TRAIN,
    eval_data: Annotated[list[str], typer.Option(help="Held-out data to evaluate on.")] = EVALUATE,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Names or TOML files; one for all data, or one for each in their order.",
            show_default=TEMPLATE_DEFAULT,
        ),
    ] = None,
    shots: Annotated[list[int], typer.Option(help="Numbers of demonstrations.")] = SHOTS,
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tuning runs under each mask.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of a fine-tuning run.")] = 200,
    episodes: Annotated[int, typer.Option(help="Few-shot episodes in a step.")] = 8,
    rate: Annotated[float, typer.Option(help="Peak learning rate of AdamW.")] = 3e-4,
) -> None:
    """Fine-tune a model under the prefix mask and under the causal one, and compare them on held-out data.

    Example: insitu lm mask --train-data mr --eval-data subj --shots 4 8 --seeds 3 --out results/mask
    """
    from insitu.language.measure.forecast import forecast_of_masks
    from insitu.language.measure.masks import FineTuning
    from insitu.report.lm_mask_page import mask_page, summary_of_mask
    from insitu.storage import require_folder

    setting = FineTuning(tuple(sorted(set(shots))), seeds, steps, episodes, rate)
    benches = benches_of(model, [*train_data, *eval_data], template or (), where, max(setting.shots), texts, columns)
    if results.plan:
        expected = forecast_of_masks(benches[: len(train_data)], benches[len(train_data) :], setting)
        return show_plan(expected, as_json=where.as_json)
    require_folder(results.out)
    records = measured(benches, len(train_data), setting, results)
    with console.status("drawing figures"):
        page = mask_page(records, results.out)
    if where.as_json:
        print_json({"page": str(page), **summary_of_mask(records)})
    else:
        typer.echo(f"The page is {page}.")
    return None


def measured(benches: "list[Bench]", training: int, setting: "FineTuning", results: Results) -> list[dict[str, Any]]:
    """Fine-tune on the first benches and evaluate on the others, with a bar over the steps of each fine-tuning."""
    from insitu.language.measure.masks import mask as fine_tuned

    records = []
    with progress_bar("fine-tuning", setting.steps) as bar:

        def tell(arm: str, step: int) -> None:
            bar.update(bar.task_ids[0], completed=step, description=escaped(arm))

        events = fine_tuned(
            benches[:training], benches[training:], setting, results.out, resume=results.resumes, tell=tell
        )
        show_data(benches)
        for done, total, record in stored(events):
            show_record(done, total, f"seed {record['set']}: {record['arm']}", record)
            records.append(record)
    return records
