"""The pages of ``insitu lm``: pure functions of records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.claims import Figure, Line, Panel, line
from insitu.language.measure.compare import ICL, READINGS, estimates
from insitu.language.measure.sparsity import CONSTRUCTED
from insitu.metrics import Estimate
from insitu.report.numbers import number
from insitu.report.sections import Section, Table, counted, write_page

__all__ = ["compare_page", "order_page", "summary_of_compare", "summary_of_order", "weights_page"]

Records = Sequence[Mapping[str, Any]]
SHOWN = (
    "accuracy",
    "restricted accuracy",
    "label mass",
    "token overlap",
    "overlap cosine (guarded)",
    "KL from reading",
    "KL from the start",
    "calibration error",
)
REFERENCES = ("another order", "other demonstrations", "zero-shot", "untrained")


def values(records: Records, shots: int, arm: str, name: str) -> list[Estimate]:
    return estimates([dict(r) for r in records], shots, arm, name)


def arms_of(records: Records) -> list[str]:
    """Readings first, then descents, each in the order of the records."""
    found = dict.fromkeys(str(r["arm"]) for r in records)
    return [a for a in READINGS if a in found] + [a for a in found if a not in READINGS]


def shots_of(records: Records) -> list[int]:
    return sorted({int(r["shots"]) for r in records})


def epochs_of(records: Records, arm: str) -> list[int]:
    return next(list(r.get("epochs", [0])) for r in records if r["arm"] == arm)


def with_error(estimate: Estimate) -> str:
    # Sets that differ by rounding alone do not differ.
    spread = estimate.error > 1e-9 * abs(estimate.value)
    return number(estimate.value, 3) + (f" ± {number(estimate.error, 2)}" if spread else "")


def summary_of_compare(records: Records) -> list[dict[str, Any]]:
    """A row for every number of demonstrations and arm: its measures at every epoch, and the errors over sets."""
    rows = []
    for shots in shots_of(records):
        for arm in arms_of(records):
            found = {name: values(records, shots, arm, name) for name in measures_of(records, arm)}
            rows.append(
                {
                    "shots": shots,
                    "arm": arm,
                    "epochs": epochs_of(records, arm),
                    "measures": {name: [e.value for e in own] for name, own in found.items()},
                    "errors": {name: [e.error for e in own] for name, own in found.items()},
                }
            )
    return rows


def measures_of(records: Records, arm: str) -> list[str]:
    return list(next(r for r in records if r["arm"] == arm)["measures"])


def compare_page(records: Records, folder: Path) -> Path:
    """The page of ``insitu lm compare``."""
    first = records[0]
    sets, items = len({r["set"] for r in records}), len(first["items"])
    lead = (
        f"{first['model']} on {first['data']}: what it answers after reading demonstrations, and what it answers "
        f"without them after training on them. {counted(sets, 'demonstration set')}, {counted(items, 'question')}; "
        f"labels of the demonstrations: {first['labels']}. Errors are standard errors over demonstration sets."
    )
    sections = [
        Section(counted(shots, "demonstration"), (EXPLAINED,) if i == 0 else (), arms_table(records, shots))
        for i, shots in enumerate(shots_of(records))
    ]
    pictures = [epochs_figure(records, part) for part in parts_of(records)]
    if pictures:
        words = "Every epoch, with the largest number of demonstrations; the tables below show the last one."
        sections.insert(0, Section("Along training", (words,), None, tuple(pictures)))
        sections.append(Section("Best in hindsight", (HINDSIGHT,), best_table(records)))
    inner = [name for r in records for name in r["measures"] if name.startswith("Sim")]
    if inner:
        sections.append(Section("Hidden states", (INNER,), hidden_table(records, list(dict.fromkeys(inner)))))
    if len(shots_of(records)) > 1:
        sections.insert(0, Section("Against the number of demonstrations", (), None, (shots_figure(records),)))
    return write_page(folder, "compare", "Reading demonstrations against training on them", lead, sections)


EXPLAINED = (
    "Accuracy asks for the right word among the whole vocabulary, restricted accuracy among the label words alone; "
    "label mass is the probability of all label words. Overlaps and KL compare with reading the same demonstrations in "
    "the order drawn; 'another order' is the reference line of the paper."
)
HINDSIGHT = (
    "The rate, the optimiser and the epoch at which training comes nearest to reading, chosen by looking at the "
    "answers: an upper bound, most favourable to the hypothesis that reading is descent, and no estimate of what would "
    "be chosen without them."
)


INNER = (
    "SimAOU: cosine of how reading and training move the output of attention at the last token, beside what a random "
    "change gives. SimAM: cosine of attention scores on the question's own tokens, which is high without any training; "
    "of their changes it is not. Means over layers, heads and questions, at the last epoch."
)


def hidden_table(records: Records, names: Sequence[str]) -> Table:
    most = shots_of(records)[-1]
    rows = [(arm, *(with_error(values(records, most, arm, n)[-1]) for n in names)) for arm in descents_of(records)]
    return Table((f"training, {most} demonstrations", *names), tuple(rows))


def arms_table(records: Records, shots: int) -> Table:
    rows = [(arm, *(with_error(values(records, shots, arm, name)[-1]) for name in SHOWN)) for arm in arms_of(records)]
    return Table(("arm", *SHOWN), tuple(rows))


def descents_of(records: Records) -> list[str]:
    return [arm for arm in arms_of(records) if arm not in READINGS]


def parts_of(records: Records) -> list[str]:
    return list(dict.fromkeys(str(r["how"]["part"]) for r in records if "how" in r))


def best_table(records: Records) -> Table:
    rows = []
    for shots in shots_of(records):
        for name in ("token overlap", "accuracy"):
            looks = [
                (estimate.value, arm, epoch, estimate)
                for arm in descents_of(records)
                for epoch, estimate in zip(epochs_of(records, arm), values(records, shots, arm, name), strict=True)
            ]
            _, arm, epoch, best = max(looks, key=lambda look: look[0])
            reference = {"token overlap": "another order", "accuracy": ICL}[name]
            told = (with_error(best), arm, str(epoch), with_error(values(records, shots, reference, name)[0]))
            rows.append((f"{name}, {counted(shots, 'demonstration')}", *told))
    return Table(("measure", "best of training", "by", "epoch", "reading"), tuple(rows))


def level(records: Records, shots: int, arm: str, name: str, epochs: Sequence[int], **how: Any) -> Line:
    return line(arm, epochs, [values(records, shots, arm, name)[0].value] * len(epochs), **how)


def epochs_figure(records: Records, part: str) -> Figure:
    """Three measures along training, a curve for every way of training one part: the form of the paper's Figure 5."""
    shots = shots_of(records)[-1]
    arms = [a for a in descents_of(records) if any(r["arm"] == a and r["how"]["part"] == part for r in records)]
    epochs = epochs_of(records, arms[0])
    references = [a for a in REFERENCES if a in arms_of(records)]
    panels = []
    for name in ("accuracy", "token overlap", "overlap cosine (guarded)"):
        curves = [curve(arm, epochs, values(records, shots, arm, name), i) for i, arm in enumerate(arms)]
        known = [ICL, "zero-shot"] if name == "accuracy" else references
        levels = [
            level(records, shots, a, name, epochs, look="dashed" if a == known[0] else "dotted", colour=-1)
            for a in known
        ]
        panels.append(Panel("epochs", name, (*curves, *levels)))
    what = "the whole model" if part == "all" else f"the value matrix ({part}) alone"
    return Figure(
        tuple(panels),
        f"Training {what} on {shots} demonstrations, answered without them, against reading them. Horizontal lines: "
        "reading, and its references.",
        f"Accuracy, token overlap and overlap cosine against epochs, for {len(arms)} ways of training {what}.",
    )


def curve(label: str, x: Sequence[float], found: Sequence[Estimate], colour: int, **how: Any) -> Line:
    low, high = zip(*((e.value - e.error, e.value + e.error) for e in found), strict=True)
    spread = {"low": low, "high": high} if any(e.error for e in found) else {}
    return line(label, x, [e.value for e in found], colour=colour, **spread, **how)


def shots_figure(records: Records) -> Figure:
    """Accuracy and overlap against the number of demonstrations."""
    shots = shots_of(records)
    panels = []
    for name in ("accuracy", "restricted accuracy", "token overlap"):
        arms = (ICL, "zero-shot") if "accuracy" in name else ("another order", "zero-shot")
        lines = [curve(arm, shots, [values(records, s, arm, name)[0] for s in shots], i) for i, arm in enumerate(arms)]
        if descents_of(records):
            best = [max(e.value for a in descents_of(records) for e in values(records, s, a, name)) for s in shots]
            lines.append(line("training, best in hindsight", shots, best, colour=2))
        panels.append(Panel("demonstrations", name, tuple(lines)))
    caption = "Reading and training against the number of demonstrations; bands are standard errors over sets."
    return Figure(tuple(panels), caption, "Accuracy, restricted accuracy and token overlap against demonstrations.")


def summary_of_order(records: Records) -> list[dict[str, Any]]:
    """A row for every arm: its measures at every epoch as means over demonstration sets, and its replay floor."""
    rows = []
    for arm in dict.fromkeys(str(r["arm"]) for r in records):
        own = [r for r in records if r["arm"] == arm]
        found = {name: values(own, own[0]["shots"], arm, name) for name in own[0]["measures"]}
        rows.append(
            {
                "arm": arm,
                "epochs": epochs_of(own, arm),
                "measures": {name: [e.value for e in looks] for name, looks in found.items()},
                "errors": {name: [e.error for e in looks] for name, looks in found.items()},
                "replay floor": max(float(r["replay floor"]) for r in own),
            }
        )
    return rows


def order_page(records: Records, folder: Path) -> Path:
    """The page of ``insitu lm order``."""
    rows, first, sets = summary_of_order(records), records[0], len({r["set"] for r in records})
    names = list(rows[0]["measures"])
    table = Table(
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
        "it stands beside the divergence from the start. Theorem 1: an algorithm equivalent to reading has difference "
        "0 and cosine 1; one that depends on no order has 1 and 0.",
    )
    sections = [Section("Order sensitivity", words, table, (order_figure(rows),) if len(rows) > 1 else ())]
    return write_page(folder, "order", "Order sensitivity of reading and of training", lead, sections)


def order_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    reading, *trained = rows
    epochs = trained[0]["epochs"]
    panels = []
    for name, scale in (("Sen", "log"), ("KL from the start", "linear"), ("accuracy", "linear")):
        lines = [line(reading["arm"], epochs, [reading["measures"][name][0]] * len(epochs), look="dashed", colour=-1)]
        for i, row in enumerate(trained):
            kept = [(e, v) for e, v in zip(epochs, row["measures"][name], strict=True) if scale == "linear" or v > 0]
            if kept:
                lines.append(line(row["arm"], *zip(*kept, strict=True), colour=i))
        panels.append(Panel("epochs", name, tuple(lines), y_scale=scale))  # type: ignore[arg-type]
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
    sections = [Section("Sparsity", (), Table(columns, rows), (picture,))]
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
    return Section("Drift along pretraining", (), Table(("checkpoint", *names), rows), (picture,))
