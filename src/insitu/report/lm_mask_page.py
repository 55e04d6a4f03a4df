"""The page of ``insitu lm mask``: a pure function of its records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from insitu.claims import Figure, Panel, line
from insitu.language.measure.masks import TUNED, advantage
from insitu.metrics import Estimate
from insitu.report.lm_records import fallback_of
from insitu.report.numbers import number
from insitu.report.sections import PageTable, Section, counted, write_page

__all__ = ["mask_page", "summary_of_mask"]

Records = Sequence[Mapping[str, Any]]
UNTUNED = ("prefix, as it was", "causal, as it was")


def arms_of(records: Records) -> list[str]:
    return list(dict.fromkeys(str(r["arm"]) for r in records))


def data_of(records: Records) -> list[str]:
    return [evaluation["data"] for evaluation in records[0]["asked"]]


def shots_of(records: Records) -> list[str]:
    return list(records[0]["asked"][0]["right"])


def accuracy(records: Records, arm: str, data: str, shots: str) -> Estimate:
    """The accuracy of an arm on a data set, its error over seeds; over questions where there is one seed."""
    rows = [a["right"][shots] for r in records if r["arm"] == arm for a in r["asked"] if a["data"] == data]
    values = torch.tensor(rows, dtype=torch.float64)
    return Estimate.mean(values.mean(1) if len(values) > 1 else values[0])


def summary_of_mask(records: Records) -> dict[str, Any]:
    """Accuracies by arm, data and number of demonstrations, and what the prefix mask is ahead by."""
    rows = [
        {
            "arm": arm,
            "data": data,
            "shots": int(shots),
            "accuracy": (estimate := accuracy(records, arm, data, shots)).value,
            "error": estimate.error,
        }
        for arm in arms_of(records)
        for data in data_of(records)
        for shots in shots_of(records)
    ]
    return {"arms": rows, "prefix minus causal": {name: in_numbers(e) for name, e in advantages(records).items()}}


def in_numbers(estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval()
    return {"value": estimate.value, "low": low, "high": high}


def advantages(records: Records) -> dict[str, Estimate]:
    """What the prefix mask is ahead by, fine-tuned and as the model was."""
    own = [dict(r) for r in records]
    pairs = {"fine-tuned": (TUNED["prefix"].name, TUNED["causal"].name), "as it was": UNTUNED}
    return {name: advantage(own, *pair) for name, pair in pairs.items()}


def mask_page(records: Records, folder: Path) -> Path:
    """Write the page."""
    first = records[0]
    seeds = len({r["set"] for r in records})
    trained = ", ".join(b["data"] for b in first["train"])
    lead = (
        f"{first['eval'][0]['model']}, fine-tuned on episodes of {trained} twice: once with demonstrations that see "
        f"each other, once causally. Asked about {', '.join(data_of(records))}, not among them; "
        f"{counted(seeds, 'seed')}, {first['how']['steps']} steps of {first['how']['batch']} episodes."
    )
    columns = ("arm", *(f"{data}, {shots} demonstrations" for data in data_of(records) for shots in shots_of(records)))
    rows = tuple(
        (arm, *(shown(accuracy(records, arm, d, s)) for d in data_of(records) for s in shots_of(records)))
        for arm in arms_of(records)
    )
    gaps = tuple(
        (name, number(e.value, 3), *(number(v, 3) for v in e.interval())) for name, e in advantages(records).items()
    )
    sections = [
        Section(
            "Accuracy on data held out",
            (EXPLAINED, *fallback_of(records)),
            PageTable(columns, rows),
            (picture(records),),
        ),
        Section("Prefix minus causal", (PAIRED,), PageTable(("model", "difference", "low", "high"), gaps)),
    ]
    return write_page(folder, "mask", "Prefix against causal attention", lead, sections)


EXPLAINED = (
    "The share of questions whose right label word is the likeliest of the label words. Errors are standard errors "
    "over seeds; each seed has episodes and demonstrations of its own, the same under both masks."
)
PAIRED = (
    "Over all questions, data sets and numbers of demonstrations, on the same questions after the same demonstrations. "
    "The interval, at 99 %, counts fine-tunings and questions both as samples."
)


def shown(estimate: Estimate) -> str:
    return f"{number(estimate.value, 3)} ± {number(estimate.error, 2)}"


def picture(records: Records) -> Figure:
    """Accuracy against the number of demonstrations, a panel for every data set held out."""
    shots = shots_of(records)
    panels = []
    for data in data_of(records):
        lines = []
        for colour, arm in enumerate(arms_of(records)):
            estimates = [accuracy(records, arm, data, s) for s in shots]
            ends = {"low": [e.value - e.error for e in estimates], "high": [e.value + e.error for e in estimates]}
            look = "solid" if "fine-tuned" in arm else "dashed"
            lines.append(
                line(arm, [int(s) for s in shots], [e.value for e in estimates], colour=colour, look=look, **ends)
            )
        panels.append(Panel("demonstrations", "accuracy", tuple(lines), title=data))
    return Figure(
        tuple(panels),
        "Accuracy on data held out against the number of demonstrations; bands are standard errors over seeds.",
        "Accuracy of five arms against the number of demonstrations.",
    )
