"""The report page: verdicts first, then the evidence for each. It reads records and runs nothing."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from insitu.claims.claim import Verdict
from insitu.claims.record import Record, read_records
from insitu.errors import InputError
from insitu.metrics.estimate import CONFIDENCE
from insitu.records import Damage
from insitu.report.document import document, write_drawing
from insitu.report.figures import Drawing, draw_all
from insitu.report.markup import Html, element, join
from insitu.report.numbers import NONE, bound_text, interval_text, number, tidy
from insitu.storage import write_atomically

__all__ = ["Report", "build_report", "verdict_table"]

SIGNS = {Verdict.HOLDS: "✓", Verdict.FAILS: "✕", Verdict.UNDECIDED: "○", Verdict.ERROR: "!"}
MEANINGS = {
    Verdict.HOLDS: "the whole interval lies inside the bound",
    Verdict.FAILS: "the whole interval lies outside the bound",
    Verdict.UNDECIDED: "the interval contains the bound, so the numbers do not decide",
    Verdict.ERROR: "the measurement failed; there is no number",
}


@final
@dataclass(frozen=True)
class Report:
    """The files of a report.

    Args:
        page: The page.
        figures: The figures beside it, as SVG and PDF.
        records: The number of records in it.
        older: The number of records omitted because a newer one measures the same.
        damaged: The files among the records that could not be used.
    """

    page: Path
    figures: tuple[Path, ...]
    records: int
    older: int
    damaged: tuple[Damage, ...]


@final
@dataclass(frozen=True)
class Entry:
    """A record on the page: under which name, and with which drawing."""

    record: Record
    name: str
    drawing: Drawing | None

    @property
    def verdict(self) -> Verdict:
        """The verdict of the record."""
        return Verdict(self.record.verdict)


def build_report(folder: Path) -> Report:
    """Write ``report.html`` and the figures of a folder from its records.

    Raises:
        InputError: If the folder holds no intact record.
        StorageError: If a file cannot be written.
    """
    records, damaged = read_records(folder)
    if not records:
        raise InputError(no_records(folder, damaged))
    newest = newest_of_each(records)
    older = len(records) - len(newest)
    entries = make_entries(named(newest))
    drawings = [(entry.name, entry.drawing) for entry in entries if entry.drawing is not None]
    figures = [path for name, drawing in drawings for path in write_drawing(folder, name, drawing)]
    path = folder / "report.html"
    write_atomically(path, page(entries, older, damaged))
    return Report(path, tuple(figures), len(entries), older, tuple(damaged))


def no_records(folder: Path, damaged: Sequence[Damage]) -> str:
    message = f"there is no intact record in {folder / 'records'}, so there is nothing to report."
    if damaged:
        message += " Damaged: " + "; ".join(f"{d.path.name}: {d.reason}" for d in damaged) + "."
    return message + f" Make records with: insitu reproduce --scale quick --out {folder}"


def newest_of_each(records: Sequence[Record]) -> list[Record]:
    """Of the records that measure the same, the one finished last; in the order of papers and claims."""
    newest = {same(record): record for record in sorted(records, key=lambda r: (r.finished, r.key))}
    return sorted(newest.values(), key=place)


def same(record: Record) -> tuple[str, str, int, str]:
    return record.claim, record.scale, record.seed, record.device


def place(record: Record) -> tuple[Any, ...]:
    """The sort key of a record: its paper, its position in the paper, then its setting."""
    return record.paper, record.position, record.claim, record.scale, record.seed, record.device


def named(records: Sequence[Record]) -> list[tuple[Record, str]]:
    """Records with their names: claim and scale, with seed and device where several are present."""
    runs = defaultdict(list)
    for record in records:
        runs[record.claim, record.scale].append(record)
    return [(record, name_of(record, runs[record.claim, record.scale])) for record in records]


def name_of(record: Record, runs: Sequence[Record]) -> str:
    words = [record.claim, record.scale]
    if len({r.seed for r in runs}) > 1:
        words.append(f"seed-{record.seed}")
    if len({r.device for r in runs}) > 1:
        words.append(record.device)
    # The name becomes that of a file and of an anchor.
    return re.sub(r"[^\w.-]+", "-", ".".join(words)).strip("-")


def make_entries(records: Sequence[tuple[Record, str]]) -> list[Entry]:
    stored = {name: record.figure for record, name in records if record.figure}
    drawings = dict(zip(stored, draw_all(list(stored.values()), list(stored)), strict=True))
    return [Entry(record, name, drawings.get(name)) for record, name in records]


def page(entries: Sequence[Entry], older: int, damaged: Sequence[Damage]) -> bytes:
    """The whole page."""
    first = (opening(entries), notices(entries, older, damaged), summary(entries), verdicts(entries))
    return document(headline(entries), *first, *sections(entries))


def headline(entries: Sequence[Entry]) -> str:
    holding = sum(entry.verdict is Verdict.HOLDS for entry in entries)
    return f"{holding} of {len(entries)} claims hold"


def opening(entries: Sequence[Entry]) -> Html:
    percent = f"{CONFIDENCE:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    lead = (
        "Each row below is one statement of a paper, in our words, with a rule that was written before the run: a "
        f"bound on a measured quantity. The verdict compares the {percent} confidence interval of the measurement with "
        "that bound; an exact number has no interval and is compared directly. A verdict is about the stated setting, "
        "and a claim that fails is a result like any other."
    )
    meanings = [
        element("div", element("dt", badge(verdict)), element("dd", words)) for verdict, words in MEANINGS.items()
    ]
    return element(
        "header",
        element("p", "insitu · claims of papers, run again", class_="kicker"),
        element("h1", headline(entries)),
        element("p", lead, class_="lead"),
        element("dl", *meanings, class_="meanings"),
    )


def badge(verdict: Verdict) -> Html:
    """A verdict as a sign and a word, readable without colour."""
    sign = element("span", SIGNS[verdict], aria_hidden="true", class_="sign")
    return element("span", sign, str(verdict), class_=f"verdict {verdict}")


def notices(entries: Sequence[Entry], older: int, damaged: Sequence[Damage]) -> Html:
    """Warnings above the results: errors, damaged files, omitted records."""
    broken = [entry for entry in entries if entry.verdict is Verdict.ERROR]
    parts = []
    if broken:
        links = join(*(link(entry, entry.record.claim) for entry in broken), by=", ")
        words = f"{count(len(broken), 'measurement')} stopped with an error and gave no number: "
        parts.append(element("p", element("strong", words), links, ".", class_="notice error"))
    if damaged:
        files = [element("li", element("code", d.path.name), f": {d.reason}") for d in damaged]
        words = f"{count(len(damaged), 'damaged file')} among the records left out:"
        parts.append(element("div", element("p", element("strong", words)), element("ul", *files), class_="notice"))
    if older:
        words = f"{count(older, 'older record')} of the same claim, scale, seed and device left out."
        parts.append(element("p", words, class_="notice"))
    return join(*parts)


def count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}" + ("" if number_of == 1 else "s")


def link(entry: Entry, text: str) -> Html:
    return element("a", text, href=f"#{entry.name}")


def by_paper(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    papers: dict[str, list[Entry]] = {}
    for entry in entries:
        papers.setdefault(entry.record.paper, []).append(entry)
    return papers


def paper_name(paper: str) -> str:
    """A paper's identifier as its citation.

    Example:
        >>> paper_name("ding2024"), paper_name("folklore")
        ('Ding et al. 2024', 'Folklore')
    """
    match = re.fullmatch(r"([^\W\d]+)(\d{4}\w?)", paper)
    return f"{match[1].capitalize()} et al. {match[2]}" if match else paper.capitalize()


def summary(entries: Sequence[Entry]) -> Html:
    """How many claims of each paper have which verdict."""
    rows = [summary_row(paper_name(paper), own) for paper, own in by_paper(entries).items()]
    titles = [element("th", "Paper", scope="col"), *(element("th", badge(v), scope="col") for v in Verdict)]
    parts = [element("thead", element("tr", *titles)), element("tbody", *rows)]
    if len(rows) > 1:
        parts.append(element("tfoot", summary_row("All", entries)))
    table = element("table", *parts, class_="summary")
    return element("section", element("h2", "Summary"), element("div", table, class_="scroll"))


def summary_row(title: str, entries: Sequence[Entry]) -> Html:
    counts = Counter(entry.verdict for entry in entries)
    cells = [element("td", str(counts[v]), class_="number" if counts[v] else "number none") for v in Verdict]
    return element("tr", element("th", title, scope="row"), *cells)


def stacked_table(columns: Sequence[str], groups: Iterable[Html], class_: str) -> Html:
    """A table whose rows become cards where the screen is narrow.

    The roles say again what the elements mean, since browsers forget it when a style sheet lays a table out anew.
    """
    titles = [element("th", title, scope="col", role="columnheader") for title in columns]
    head = element("thead", element("tr", *titles, role="row"), role="rowgroup")
    return element("table", head, *groups, class_=f"stack {class_}", role="table")


def cells(columns: Sequence[str], contents: Sequence[str]) -> list[Html]:
    """Cells that know the titles of their columns."""
    pairs = zip(columns, contents, strict=True)
    return [
        element("td", element("div", text), data_label=title, role="cell", class_="none" if text == NONE else "some")
        for title, text in pairs
    ]


def verdict_table(records: Sequence[Record]) -> Html:
    """Verdict, claim, value and interval of records, as plain HTML that a notebook shows."""
    titles = element("tr", *(element("th", title) for title in ("Verdict", "Claim", "Value", "Interval")))
    rows = [
        element(
            "tr",
            element("td", badge(Verdict(record.verdict))),
            element("td", element("code", record.claim), element("br"), record.statement),
            element("td", value(record.decisive, with_quantity=False)),
            element("td", interval_text(record.low, record.high)),
        )
        for record in records
    ]
    return element("table", element("thead", titles), element("tbody", *rows))


VERDICT_COLUMNS = ("Verdict", "Claim", "Place", "Value", "Interval", "Bound", "Printed", "Setting", "Seconds")


def verdicts(entries: Sequence[Entry]) -> Html:
    """The table of verdicts, a group of rows for each paper."""
    groups = [verdict_group(paper, own) for paper, own in by_paper(entries).items()]
    table = stacked_table(VERDICT_COLUMNS, groups, "verdicts")
    return element("section", element("h2", "Verdicts", id="verdicts"), element("div", table, class_="scroll"))


def paper_line(entries: Sequence[Entry]) -> Html:
    """The paper as its records name it."""
    record = entries[0].record
    title = record.paper_title if record.paper_title.endswith("?") else f"{record.paper_title}."
    return element("span", f"{title} {record.paper_authors}; {record.paper_venue}", class_="small")


def verdict_group(paper: str, entries: Sequence[Entry]) -> Html:
    width = str(len(VERDICT_COLUMNS))
    title = element(
        "th", join(paper_name(paper), paper_line(entries)), scope="rowgroup", colspan=width, role="rowheader"
    )
    rows = [element("tr", title, class_="paper", role="row"), *map(verdict_row, entries)]
    return element("tbody", *rows, role="rowgroup")


def verdict_row(entry: Entry) -> Html:
    record, check = entry.record, entry.record.decisive
    claim = element("th", link(entry, record.statement), code(record.claim), scope="row", role="rowheader")
    first, *others = cells(
        (VERDICT_COLUMNS[0], *VERDICT_COLUMNS[2:]),
        (
            badge(entry.verdict),
            record.source,
            value(check, with_quantity=len(record.checks) > 1),
            interval_text(record.low, record.high),
            bound_text(check.get("bound", NONE)),
            check.get("printed") or NONE,
            setting_cell(record),
            number(record.seconds, 3),
        ),
    )
    return element("tr", first, claim, *others, role="row")


def code(text: str) -> Html:
    return element("code", text, class_="id")


def value(check: Mapping[str, Any], *, with_quantity: bool) -> Html:
    """A measured value, with all its digits for machines."""
    if not check:
        return Html(NONE)
    text = element("data", number(check["value"]), value=str(check["value"]))
    return join(text, element("span", check["quantity"], class_="small")) if with_quantity else text


def how_run(record: Record) -> str:
    return f"{record.scale}, seed {record.seed}"


def setting_cell(record: Record) -> Html:
    note = [element("span", f"scaled down: {record.reduced}", class_="small")] if record.reduced else []
    numbers = element("details", element("summary", how_run(record)), definitions(record.setting))
    return join(numbers, *note)


def definitions(fields: Mapping[str, Any]) -> Html:
    """Names and values as a list."""
    pairs = [element("div", element("dt", name), element("dd", tidy(v))) for name, v in fields.items()]
    return element("dl", *pairs, class_="pairs")


def sections(entries: Sequence[Entry]) -> list[Html]:
    """All that is known of each claim, paper by paper."""
    papers = by_paper(entries).items()
    return [
        element(
            "section",
            element("h2", paper_name(paper)),
            element("p", paper_line(own)),
            *map(claim_section, own),
            class_="paper",
        )
        for paper, own in papers
    ]


def claim_section(entry: Entry) -> Html:
    record = entry.record
    scaled = [element("p", element("strong", "Scaled down: "), record.reduced)] if record.reduced else []
    head = element(
        "header",
        element("p", badge(entry.verdict), code(record.claim)),
        element("h3", record.statement, id=f"{entry.name}-title"),
        element("p", f"{record.source} · {how_run(record)} · {number(record.seconds, 3)} s", class_="source"),
        *scaled,
    )
    parts = [head, failure(record), checks_table(record), figure(entry), notes(record), origin(record)]
    back = element("p", element("a", "↑ all verdicts", href="#verdicts"), class_="back")
    names = {"id": entry.name, "aria_labelledby": f"{entry.name}-title"}
    return element("article", *parts, back, class_=f"claim {entry.verdict}", **names)


def failure(record: Record) -> Html:
    if not record.error:
        return Html()
    message = record.error.strip().rpartition("\n")[2]
    words = element("p", element("strong", "The measurement stopped: "), message)
    return element("div", words, element("pre", record.error, tabindex="0"), class_="notice error")


CHECK_COLUMNS = ("Verdict", "Quantity", "Value", "Interval", "Bound", "Printed")


def checks_table(record: Record) -> Html:
    """Every rule beside what was measured for it."""
    if not record.checks:
        rules = element("ul", *(element("li", bound_text(rule)) for rule in record.rule.split("; ")))
        return join(element("p", "Rules that would have decided:"), rules)
    body = element("tbody", *map(check_row, record.checks), role="rowgroup")
    return stacked_table(CHECK_COLUMNS, [body], "checks")


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


def figure(entry: Entry) -> Html:
    """The drawing with its caption, and links to the same figure as files."""
    if entry.drawing is None or entry.record.figure is None:
        return Html()
    files = [element("a", k.upper(), href=f"figures/{entry.name}.{k}") for k in ("svg", "pdf")]
    beside = element("span", join(*files, by=" · "), class_="files")
    caption = element("figcaption", entry.record.figure["caption"], " ", beside)
    return element("figure", entry.drawing.inline, caption)


def notes(record: Record) -> Html:
    if not record.notes:
        return Html()
    return element("div", element("h4", "Notes"), element("ul", *(element("li", n) for n in record.notes)))


def origin(record: Record) -> Html:
    """The provenance of the numbers, collapsed."""
    source = {
        "seed": record.seed,
        "device": record.device,
        "finished": record.finished,
        "commit": record.commit,
        "key": record.key,
        "versions": record.versions,
    }
    parts = [element("h4", "Setting"), definitions(record.setting), element("h4", "Produced by"), definitions(source)]
    return element("details", element("summary", "Setting and origin"), *parts, class_="origin")
