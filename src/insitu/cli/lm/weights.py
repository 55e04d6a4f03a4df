"""``insitu lm weights``: sparsity of attention weights, and their drift along pretraining."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from insitu.cli.lm.options import (
    ColumnOptions,
    ModelOptions,
    SetsOption,
    TemplateOption,
    TextOptions,
    bench_of,
    show_data,
)
from insitu.cli.options import Where
from insitu.cli.terminal import console, print_json, progress_bar

if TYPE_CHECKING:
    from insitu.language.measure.bench import Bench
    from insitu.language.measure.sparsity import Weights

__all__ = ["weights"]


def weights(
    where: Where,
    columns: ColumnOptions,
    model: Annotated[str, typer.Option(help="A fetched or bundled name, or a folder.", show_default="smollm2")] = "",
    checkpoints: Annotated[
        list[Path] | None, typer.Option(help="Folders of checkpoints along pretraining, for their drift.")
    ] = None,
    data: Annotated[str, typer.Option(help="Also measure each checkpoint's in-context accuracy on this data.")] = "",
    template: TemplateOption = "",
    shots: Annotated[int, typer.Option(min=1, help="Demonstrations for that accuracy.")] = 4,
    sets: SetsOption = 3,
    items: Annotated[int, typer.Option(min=1, help="How many test rows are answered, at most.")] = 100,
    out: Annotated[Path, typer.Option(help="Folder for records, page and figures.")] = Path("results") / "lm",
) -> None:
    """Measure how sparse the matrices of queries, keys and values are, and how weights drift along pretraining.

    Example: insitu lm weights --model stories260K --out results/weights
    """
    from insitu.language import DEFAULT_MODEL
    from insitu.language.measure.sparsity import THRESHOLDS, find_weights
    from insitu.records import key_of, store_record
    from insitu.report.lm_pages import weights_page
    from insitu.storage import require_folder

    weights_found = find_weights(model or (checkpoints[-1] if checkpoints else DEFAULT_MODEL))
    require_folder(out)

    def open_bench(place: Path) -> "Bench":
        bench = bench_of(ModelOptions(str(place)), data, template, where, shots, TextOptions(items=items), columns)
        if checkpoints and place == checkpoints[0]:
            show_data([bench])
        return bench

    matrices = measured_sparsities(weights_found)
    drift = measured_drift(checkpoints or [], open_bench if data else None, shots, sets)
    content = {"kind": "lm weights", "model": weights_found.folder.resolve().name, "thresholds": list(THRESHOLDS)}
    record = store_record(out, "weights", key_of(content), {**content, "matrices": matrices, "drift": drift})
    with console.status("drawing figures"):
        page = weights_page(record, out)
    if where.as_json:
        print_json({"page": str(page), "thresholds": list(THRESHOLDS), "matrices": matrices, "drift": drift})
    else:
        typer.echo(f"The page is {page}.")


def measured_sparsities(weights_found: "Weights") -> list[dict[str, Any]]:
    """The sparsity of every matrix, with a bar."""
    from insitu.language.measure.sparsity import sparsities

    matrices = []
    with progress_bar("matrices", len(list(weights_found.parts()))) as bar:
        for matrix in sparsities(weights_found):
            matrices.append(vars(matrix))
            bar.advance(bar.task_ids[0])
    return matrices


def measured_drift(checkpoints: list[Path], open_bench: Any, shots: int, sets: int) -> list[dict[str, Any]]:
    """The drift of weights from checkpoint to checkpoint, with a bar."""
    from insitu.language.measure.drift import drift_along

    drift = []
    with progress_bar("checkpoints", len(checkpoints)) as bar:
        for row in drift_along(checkpoints, open_bench, shots, sets):
            drift.append(row)
            bar.advance(bar.task_ids[0])
    return drift
