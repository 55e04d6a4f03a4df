"""The pages of ``insitu lm order`` and ``insitu lm weights``: pure functions of records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.claims import Figure, Panel, line
from insitu.figure import AxisScale
from insitu.language.measure.sparsity import CONSTRUCTED
from insitu.report.lm_records import Records, epochs_of, fallback_of, values
from insitu.report.numbers import number
from insitu.report.sections import PageTable, Section, counted, write_page

__all__ = ["order_page", "summary_of_order", "weights_page"]


def summary_of_order(records: Records) -> list[dict[str, Any]]:
    """A row for every arm: its measures at every epoch as means over demonstration sets, and its replay floor."""
    rows = []
    for arm in dict.fromkeys(str(r["arm"]) for r in records):
        own = [r for r in records if r["arm"] == arm]
        estimates = {name: values(own, own[0]["shots"], arm, name) for name in own[0]["measures"]}
        rows.append(
            {
                "arm": arm,
                "epochs": epochs_of(own, arm),
                "measures": {name: [e.value for e in looks] for name, looks in estimates.items()},
                "errors": {name: [e.error for e in looks] for name, looks in estimates.items()},
                "replay floor": max(float(r["replay floor"]) for r in own),
            }
        )
    return rows


def order_page(records: Records, folder: Path) -> Path:
    """The page of ``insitu lm order``."""
    rows, first, sets = summary_of_order(records), records[0], len({r["set"] for r in records})
    names = list(rows[0]["measures"])
    table = PageTable(
        ("arm, at its last epoch", *names, "replay floor"),
        tuple(
            (row["arm"], *(number(row["measures"][n][-1], 3) for n in names), number(row["replay floor"], 2))
            for row in rows
        ),
    )
    lead = (
        f"{first['model']} on {first['data']}: how much its answers depend on the order of the same {first['shots']} "
        f"demonstrations, over {first['orders']} orders and {counted(sets, 'demonstration set')}."
    )
    words = (
        "Sen is the spread over orders of each token's probability, summed over the vocabulary. The replay floor is "
        "Sen between the same order twice: what rounding makes. Sen falls to nothing where training has not moved, so "
        "it stands beside the divergence from the start. Theorem 1: an algorithm equivalent to in-context learning has "
        "difference 0 and cosine 1; one that depends on no order has 1 and 0.",
        *fallback_of(records),
    )
    sections = [Section("Order sensitivity", words, table, (order_figure(rows),) if len(rows) > 1 else ())]
    return write_page(folder, "order", "Order sensitivity of in-context learning and of fine-tuning", lead, sections)


# What is drawn along training: the label of a measure, and its scale.
ORDER_PANELS: dict[str, tuple[str, AxisScale]] = {
    "Sen": ("order sensitivity (Sen)", "log"),
    "KL from the start": ("divergence from the start (KL)", "linear"),
    "accuracy": ("accuracy", "linear"),
}


def order_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    reading, *trained = rows
    epochs = trained[0]["epochs"]
    panels = []
    for name, (label, scale) in ORDER_PANELS.items():
        lines = [line(reading["arm"], epochs, [reading["measures"][name][0]] * len(epochs), look="dashed", colour=-1)]
        for i, row in enumerate(trained):
            kept = [(e, v) for e, v in zip(epochs, row["measures"][name], strict=True) if scale == "linear" or v > 0]
            if kept:
                lines.append(line(row["arm"], *zip(*kept, strict=True), colour=i))
        panels.append(Panel("epochs", label, tuple(lines), y_scale=scale))
    caption = (
        "Sensitivity to the order of the demonstrations along training, beside the distance travelled and accuracy."
    )
    return Figure(tuple(panels), caption, "Sen, the divergence from the start and accuracy against epochs, by arm.")


def weights_page(record: Mapping[str, Any], folder: Path) -> Path:
    """The page of ``insitu lm weights``."""
    thresholds = record["thresholds"]
    panels = []
    for kind, needed in CONSTRUCTED.items():
        own = [m for m in record["matrices"] if m["kind"] == kind]
        mean = [sum(m["shares"][i] for m in own) / len(own) for i in range(len(thresholds))]
        gaussian = [sum(m["gaussian"][i] for m in own) / len(own) for i in range(len(thresholds))]
        layers = [line("", thresholds, m["shares"], colour=0, look="points") for m in own]
        lines = [
            *layers,
            line("mean over layers", thresholds, mean, colour=0),
            line("Gaussian of the same spread", thresholds, gaussian, look="dashed", colour=1),
            line("constructed for descent", thresholds, [needed] * len(thresholds), look="dotted", colour=-1),
        ]
        panels.append(Panel("threshold", f"share of smaller entries, {kind}", tuple(lines), x_scale="log"))
    picture = Figure(
        tuple(panels),
        "The share of entries smaller than a threshold in the matrices of queries, keys and values of "
        f"{record['model']}; points are layers.",
        "Three panels, the sparsity of queries, keys and values against the threshold, with its Gaussian reference.",
    )
    columns = ("layer", "matrix", "entries", "spread", *(f"|w| < {t:g}" for t in thresholds))
    rows = tuple(
        (str(m["layer"]), m["kind"], str(m["size"]), number(m["spread"], 3), *(number(s, 3) for s in m["shares"]))
        for m in record["matrices"]
    )
    sections = [Section("Sparsity", (), PageTable(columns, rows), (picture,))]
    if record["drift"]:
        sections.append(drift_section(record["drift"]))
    lead = (
        "Weights that were constructed to run gradient descent are almost all zero. Are pretrained ones? The share of "
        "small entries is read from the files, matrix by matrix, beside what Gaussian entries would give."
    )
    return write_page(folder, "weights", f"Weights of {record['model']}", lead, sections)


def drift_section(drift: Sequence[Mapping[str, Any]]) -> Section:
    names = [n for n, value in drift[0].items() if isinstance(value, float)]
    rows = tuple((str(row["checkpoint"]), *(number(row[n], 4) for n in names)) for row in drift)
    places = list(range(1, len(drift) + 1))
    panels = tuple(Panel("checkpoint", n, (line("", places, [float(row[n]) for row in drift]),)) for n in names)
    picture = Figure(panels, "Drift from the first checkpoint.", "Change of weights and accuracy against checkpoints.")
    return Section("Drift along pretraining", (), PageTable(("checkpoint", *names), rows), (picture,))
