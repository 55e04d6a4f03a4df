"""Progress of measurements on language models."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from insitu.cli.terminal import console, escaped, progress_bar, warn

__all__ = ["follow", "show_record"]


def follow(
    events: Iterable[tuple[int, int, dict[str, Any]]],
    seconds: Callable[[dict[str, Any]], float] | None = None,
    whole: float = 1.0,
) -> list[dict[str, Any]]:
    """Run a measurement with a bar; a line for every record.

    Args:
        events: The number of finished records, of how many, and each record.
        seconds: The predicted seconds of a record, where they are known; records count alike if not.
        whole: The predicted seconds of all.
    """
    from insitu.report.lm_records import fallback_of

    records: list[dict[str, Any]] = []
    with progress_bar("arms", 1) as bar, warnings_once():
        for done, total, record in events:
            records.append(record)
            place = (done, total) if seconds is None else (sum(map(seconds, records)), whole)
            bar.update(bar.task_ids[0], completed=place[0], total=place[1], description=escaped(str(record["arm"])))
            show_record(done, total, f"set {record['set']}, {record['shots']} demonstrations: {record['arm']}", record)
    for sentence in fallback_of(records):
        console.print(escaped(sentence), highlight=False, soft_wrap=True)
    return records


def show_record(done: int, total: int, words: str, record: dict[str, Any]) -> None:
    """One line for a finished record."""
    console.print(f"{done:>4}/{total}  {escaped(words)}  [dim]{record['seconds']:.1f} s[/]", highlight=False)


@contextmanager
def warnings_once() -> Iterator[None]:
    """Warnings of the package as one line each, those of other packages not at all."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    for text in dict.fromkeys(str(w.message) for w in caught if "memory ran out" in str(w.message)):
        warn(text)
