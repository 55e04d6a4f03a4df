"""All that is known of one run of a claim: its rules, its figure, its setting and where its numbers come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.claims.claim import Verdict
from insitu.claims.record import Record, claim_name
from insitu.records import record_path
from insitu.report.markup import Html, element, join
from insitu.report.numbers import NONE, bound_text, interval_text, number, tidy
from insitu.report.results import RunResult
from insitu.report.tables import badge, cells, stacked_table, value

__all__ = ["PRINTED", "evidence"]

PRINTED = "Printed in the paper"
CHECK_COLUMNS = ("Verdict", "Quantity", "Value", "Interval", "Bound", PRINTED)


def evidence(run: RunResult, *, titled: bool) -> Html:
    """Everything about one run; its scale and seed as a title where a claim has several."""
    record = run.record
    title = [element("p", element("strong", run.title), class_="run")] if titled else []
    words = [reduction(record), failure(record), checks_table(run), notes(record), files(run), origin(record)]
    few = record.figure is not None and len(record.figure["panels"]) == 1
    both = [*figure(run), element("div", *words)]
    return element("div", *title, element("div", *both, class_="beside" if few else "below"), id=run.name, class_="run")


def reduction(record: Record) -> Html:
    return element("p", element("strong", "Scaled down: "), record.reduced) if record.reduced else Html()


def failure(record: Record) -> Html:
    if not record.error:
        return Html()
    message = record.error.strip().rpartition("\n")[2]
    words = element("p", element("strong", "The measurement stopped: "), message)
    return element("div", words, element("pre", record.error, tabindex="0"), class_="notice error")


def checks_table(run: RunResult) -> Html:
    """Every rule beside what was measured for it; the quantity alone where the row of the claim says the rest."""
    record = run.record
    if not record.checks:
        rules = element("ul", *(element("li", bound_text(rule)) for rule in record.rule.split("; ")))
        return join(element("p", "Rules that would have decided:"), rules)
    if len(record.checks) == 1:
        return element("p", "Quantity: ", record.checks[0]["quantity"], ".")
    body = element("tbody", *map(check_row, record.checks), role="rowgroup")
    table = stacked_table(CHECK_COLUMNS, [body], "checks")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"Rules of {run.name}")


def check_row(check: Mapping[str, Any]) -> Html:
    quantity = element("th", check["quantity"], scope="row", role="rowheader")
    first, *others = cells(
        (CHECK_COLUMNS[0], *CHECK_COLUMNS[2:]),
        (
            badge(Verdict(check["verdict"])),
            value(check, with_quantity=False),
            interval_text(check["low"], check["high"]),
            bound_text(check["bound"]),
            check["printed"] or NONE,
        ),
    )
    return element("tr", first, quantity, *others, role="row")


def notes(record: Record) -> Html:
    if not record.notes:
        return Html()
    return join(element("p", element("strong", "Notes")), element("ul", *(element("li", n) for n in record.notes)))


def figure(run: RunResult) -> list[Html]:
    """The drawing with its caption."""
    if run.drawing is None or run.record.figure is None:
        return []
    return [element("figure", run.drawing.inline, element("figcaption", run.record.figure["caption"]))]


def files(run: RunResult) -> Html:
    """Links to the files of the numbers and of the figure."""
    kinds = ("svg", "pdf") if run.drawing is not None else ()
    paths = {f"figure as {kind.upper()}": f"figures/{run.name}.{kind}" for kind in kinds}
    paths["record with its curves as JSON"] = record_file(run.record)
    links = [element("a", words, href=path, download="") for words, path in paths.items()]
    return element("p", "Download: ", join(*links, by=" · "), class_="files")


def record_file(record: Record) -> str:
    """The file of a record, relative to the page."""
    return record_path(Path(), claim_name(record.claim, record.scale), record.key).as_posix()


def origin(record: Record) -> Html:
    """The setting and the provenance of the numbers, collapsed."""
    source = {
        "seed": record.seed,
        "device": record.device,
        "seconds": record.seconds,
        "finished": record.finished,
        "commit": record.commit,
        "key": record.key,
        "versions": record.versions,
    }
    parts = [element("p", element("strong", "Setting")), definitions(record.setting)]
    parts += [element("p", element("strong", "Produced by")), definitions(source)]
    words = f"Setting and origin ({number(record.seconds, 3)} s)"
    return element("details", element("summary", words), *parts, class_="origin")


def definitions(fields: Mapping[str, Any]) -> Html:
    """Names and values as a list."""
    pairs = [element("div", element("dt", name), element("dd", tidy(v))) for name, v in fields.items()]
    return element("dl", *pairs, class_="pairs")
