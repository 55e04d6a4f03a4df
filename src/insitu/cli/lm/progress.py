"""Progress of measurements on language models."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from insitu.budget import budget
from insitu.cli.terminal import console, escaped, print_json, progress_bar, warn

if TYPE_CHECKING:
    from insitu.cli.lm.options import Results
    from insitu.language.measure.forecast import Forecast

__all__ = ["follow", "measured_forecast", "show_plan", "show_record", "stored"]


def measured_forecast(results: "Results", measure: "Callable[[], Forecast]") -> "Forecast | None":
    """The predicted cost of a measurement, which is printed; none within a budget, where it would take the time."""
    if results.budget is not None and not results.plan:
        return None
    with console.status("measuring how long it will take"):
        expected = measure()
    if not results.plan:
        console.print(escaped(str(expected)), highlight=False)
    return expected


def follow(
    events: Iterable[tuple[int, int, dict[str, Any]]], expected: "Forecast | None" = None
) -> list[dict[str, Any]]:
    """Run a measurement with a bar; a line for every record.

    Args:
        events: The number of finished records, of how many, and each record.
        expected: The predicted seconds of the records; they count alike if not given.
    """
    from insitu.report.lm_records import fallback_of

    records: list[dict[str, Any]] = []
    with progress_bar("arms", 1) as bar, warnings_once():
        for done, total, record in stored(events):
            records.append(record)
            place = (done, total) if expected is None else (sum(map(expected.of, records)), expected.seconds)
            bar.update(bar.task_ids[0], completed=place[0], total=place[1], description=escaped(str(record["arm"])))
            show_record(done, total, f"set {record['set']}, {record['shots']} demonstrations: {record['arm']}", record)
    for sentence in fallback_of(records):
        console.print(escaped(sentence), highlight=False, soft_wrap=True)
    return records


def stored(events: Iterable[tuple[int, int, dict[str, Any]]]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The events of a measurement; where its time ends, the budget says how many records are stored."""
    budget().stored = "no record is stored yet"
    for done, total, record in events:
        budget().stored = f"{done} of {total} records are stored"
        yield done, total, record


def show_plan(expected: "Forecast", *, as_json: bool) -> None:
    """The predicted time and memory of a measurement."""
    if as_json:
        print_json({"predicted_seconds": expected.seconds, "bytes": expected.bytes})
    else:
        typer.echo(str(expected))


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
