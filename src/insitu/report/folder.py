"""Every page of a folder, from what a command of this package left there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from insitu.claims.record import CLAIM
from insitu.errors import InputError
from insitu.identification.trajectories import KIND
from insitu.records import Damage, read_folder
from insitu.report.compare_page import compare_page
from insitu.report.curves import write_curves
from insitu.report.lm_mask_page import mask_page
from insitu.report.lm_pages import order_page, weights_page
from insitu.report.page import build_report
from insitu.report.sweep_page import seeds_page, sweep_page
from insitu.report.training_page import page_of_steps
from insitu.training.session import METRICS, read_metrics

__all__ = ["Pages", "build_pages"]

Contents = Sequence[Mapping[str, Any]]

PAGES: dict[str, Callable[[Contents, Path], Path]] = {
    "lm compare": compare_page,
    "lm order": order_page,
    "lm mask": mask_page,
    "lm weights": lambda records, folder: weights_page(records[-1], folder),
    "sweep": lambda records, folder: sweep_page(records[-1], folder),
    KIND: page_of_steps,
    "seeds": lambda records, folder: seeds_page(records[-1], folder),
}
"""The function that draws the page of each kind of record; claims share one page."""
# Fields that records of one page share: a folder may contain several models or data sets.
CONFIGURATION = ("model", "weights", "data", "rows", "template", "asked", "seed", "pinned", "balanced", "labels")


@final
@dataclass(frozen=True)
class Pages:
    """The written pages, and the damaged records."""

    pages: tuple[Path, ...]
    damaged: tuple[Damage, ...]


def build_pages(folder: Path) -> Pages:
    """Rebuild all pages and figures of a folder from its records, running nothing.

    Raises:
        InputError: If the folder holds nothing that a command of this package wrote.
        StorageError: If a file cannot be written.
    """
    contents, damaged = read_folder(folder)
    records = sorted(contents.values(), key=lambda record: str(record.get("finished", "")))
    kinds = {str(record["kind"]) for record in records}
    pages: list[Path] = []
    if CLAIM in kinds or not (kinds or (folder / METRICS).exists()):
        report = build_report(folder)
        pages.append(report.page)
        damaged = list(report.damaged)
    pages += [
        draw(newest([r for r in records if r["kind"] == kind]), folder) for kind, draw in PAGES.items() if kind in kinds
    ]
    if (folder / METRICS).exists():
        pages.append(write_curves(read_metrics(folder), folder))
    if not pages:
        raise InputError(f"{folder} holds records of the kind {', '.join(sorted(kinds))} alone, which have no page.")
    return Pages(tuple(pages), tuple(damaged))


def newest(records: Contents) -> Contents:
    """The records that share their configuration with the one finished last."""
    last = [records[-1].get(name) for name in CONFIGURATION]
    return [record for record in records if [record.get(name) for name in CONFIGURATION] == last]
