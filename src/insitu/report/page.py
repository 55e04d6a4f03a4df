"""The report of claims: a figure for every paper, what does not hold, then all claims. It runs nothing."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from insitu.claims import table
from insitu.claims.claim import Verdict
from insitu.claims.record import Record, read_records
from insitu.errors import InputError
from insitu.metrics.estimate import CONFIDENCE
from insitu.records import Damage
from insitu.report.document import document, part_of_pages, write_drawing
from insitu.report.markup import Html, element, join
from insitu.report.numbers import bound_text, interval_text, number
from insitu.report.results import WORST_FIRST, ClaimResult, PaperResult, newest_of_each, paper_name, results_of
from insitu.report.tables import SIGNS, badge
from insitu.report.verdicts import claims_section, paper_anchor, paper_line
from insitu.storage import write_atomically

__all__ = ["Report", "build_report"]

MEANINGS = {
    Verdict.HOLDS: "the whole interval lies inside the bound",
    Verdict.FAILS: "the whole interval lies outside the bound",
    Verdict.UNDECIDED: "the interval contains the bound, so the numbers do not decide",
    Verdict.ERROR: "the measurement stopped; there is no number",
}
PLURALS = {Verdict.HOLDS: "hold", Verdict.FAILS: "fail", Verdict.UNDECIDED: "undecided", Verdict.ERROR: "errors"}
CSV, JSON = "claims.csv", "claims.json"


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


def build_report(folder: Path) -> Report:
    """Write ``report.html``, its figures, and its numbers as CSV and JSON from the records of a folder.

    Raises:
        InputError: If the folder holds no intact record.
        StorageError: If a file cannot be written.
    """
    records, damaged = read_records(folder)
    if not records:
        raise InputError(no_records(folder, damaged))
    newest = newest_of_each(records)
    older = len(records) - len(newest)
    papers = results_of(newest)
    figures = list(write_figures(folder, papers))
    write_numbers(folder, newest)
    path = folder / "report.html"
    write_atomically(path, page(papers, older, damaged))
    return Report(path, tuple(figures), len(newest), older, tuple(damaged))


def no_records(folder: Path, damaged: Sequence[Damage]) -> str:
    message = f"there is no intact record in {folder / 'records'}, so there is nothing to report."
    if damaged:
        message += " Damaged: " + "; ".join(f"{d.path.name}: {d.reason}" for d in damaged) + "."
    return message + f" Make records with: insitu reproduce --scale quick --out {folder}"


def write_figures(folder: Path, papers: Sequence[PaperResult]) -> Iterator[Path]:
    for claim in all_claims(papers):
        for run in claim.runs:
            if run.drawing is not None:
                yield from write_drawing(folder, run.name, run.drawing)


def write_numbers(folder: Path, records: Sequence[Record]) -> None:
    """Write the numbers without curves: a table with a row for every rule, and the records as JSON."""
    write_atomically(folder / CSV, table.as_csv(records).encode())
    summaries = [record.summary() for record in records]
    write_atomically(folder / JSON, json.dumps(summaries, indent=1, ensure_ascii=False).encode())


def page(papers: Sequence[PaperResult], older: int, damaged: Sequence[Damage]) -> bytes:
    """The whole page."""
    first = (opening(papers), notices(papers, older, damaged), overview(papers), exceptions(papers))
    parts = (*first, claims_section(papers), downloads())
    return document(headline(papers), *parts, navigation=navigation(papers), script=part_of_pages("page.js"))


def all_claims(papers: Sequence[PaperResult]) -> list[ClaimResult]:
    return [claim for paper in papers for claim in paper.claims]


def not_holding(papers: Sequence[PaperResult]) -> list[ClaimResult]:
    """The claims that do not hold, the least favourable verdicts first."""
    claims = [claim for claim in all_claims(papers) if claim.verdict is not Verdict.HOLDS]
    return sorted(claims, key=lambda claim: WORST_FIRST.index(claim.verdict))


def headline(papers: Sequence[PaperResult]) -> str:
    claims = all_claims(papers)
    holding = sum(claim.verdict is Verdict.HOLDS for claim in claims)
    return f"{holding} of {count(len(claims), 'claim')} {'holds' if len(claims) == 1 else 'hold'}"


def navigation(papers: Sequence[PaperResult]) -> Html:
    """Links to the parts of the page, always in sight."""
    places = {"papers": "Papers", "exceptions": "Not holding", "claims": "All claims", "downloads": "Download"}
    if not not_holding(papers):
        del places["exceptions"]
    links = [element("li", element("a", words, href=f"#{name}")) for name, words in places.items()]
    return element("nav", element("ul", *links), aria_label="Parts of the report")


def opening(papers: Sequence[PaperResult]) -> Html:
    percent = f"{CONFIDENCE:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    lead = (
        "Each claim is one statement of a paper, in our words, with a rule that was written before the run: a bound on "
        f"a measured quantity. The verdict compares the {percent} confidence interval of the measurement with that "
        "bound; an exact number is compared directly. It is about the stated setting, and a claim that fails is a "
        "result like any other."
    )
    if any(len(claim.runs) > 1 for claim in all_claims(papers)):
        lead += " A claim with several scales or seeds is one claim, and counts by its least favourable verdict."
    meanings = [
        element("div", element("dt", badge(verdict)), element("dd", words)) for verdict, words in MEANINGS.items()
    ]
    return element(
        "header",
        element("p", "insitu · claims of papers, run again", class_="kicker"),
        element("h1", headline(papers)),
        counts(all_claims(papers)),
        element("p", lead, class_="lead"),
        element("details", element("summary", "What the verdicts mean"), element("dl", *meanings, class_="meanings")),
    )


def counts(claims: Sequence[ClaimResult], paper: str = "") -> Html:
    """How many claims have which verdict; each a link to the first of them, or to all where the script runs."""
    numbers = Counter(claim.verdict for claim in claims)
    links = [
        element(
            "a",
            element("span", SIGNS[verdict], aria_hidden="true", class_="sign"),
            f"{numbers[verdict]} {verdict if numbers[verdict] == 1 else PLURALS[verdict]}",
            href=f"#{next(claim.name for claim in claims if claim.verdict is verdict)}",
            class_=f"verdict {verdict}",
            data_show_verdict=str(verdict),
            data_show_paper=paper,
        )
        for verdict in Verdict
        if numbers[verdict]
    ]
    return element("p", *links, class_="counts")


def notices(papers: Sequence[PaperResult], older: int, damaged: Sequence[Damage]) -> Html:
    """Warnings above the results: errors, damaged files, omitted records."""
    broken = [claim for claim in all_claims(papers) if claim.verdict is Verdict.ERROR]
    parts = []
    if broken:
        links = join(*(link(claim, claim.record.claim) for claim in broken), by=", ")
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


def link(claim: ClaimResult, text: str) -> Html:
    return element("a", text, href=f"#{claim.name}")


def overview(papers: Sequence[PaperResult]) -> Html:
    """A figure for every paper, its sentence, and its verdicts."""
    cards = element("div", *map(paper_card, papers), class_="cards")
    return element("section", element("h2", "Papers", id="papers"), cards)


def paper_card(paper: PaperResult) -> Html:
    name = element("h3", element("a", paper_name(paper.id), href=f"#{paper_anchor(paper)}"))
    parts = [name, paper_line(paper.record), counts(paper.claims, paper.id)]
    run = paper.headline
    if run is not None and run.drawing is not None:
        claim = next(claim for claim in paper.claims if run in claim.runs)
        words = join(badge(claim.verdict), " ", link(claim, run.record.statement))
        parts.append(element("figure", run.drawing.inline, element("figcaption", words)))
    return element("article", *parts, class_="card")


def exceptions(papers: Sequence[PaperResult]) -> Html:
    """The claims that fail, are undecided or stopped, before all others."""
    claims = not_holding(papers)
    if not claims:
        return Html()
    items = element("ul", *map(exception, claims), class_="exceptions")
    return element("section", element("h2", "Claims that do not hold", id="exceptions"), items)


def exception(claim: ClaimResult) -> Html:
    run = next(run for run in claim.runs if run.verdict is claim.verdict)
    source = f"{paper_name(claim.record.paper)}, {claim.record.source}; {run.title}. {reason(run.record)}"
    words = element("div", link(claim, claim.record.statement), element("span", source, class_="small"))
    return element("li", badge(claim.verdict), words)


def reason(record: Record) -> str:
    """The numbers that decided, or what stopped the measurement."""
    check = record.decisive
    if not check:
        return record.error.strip().rpartition("\n")[2]
    low, high = check["low"], check["high"]
    interval = "" if float(low) == float(high) else f" {interval_text(low, high)}"
    return f"{check['quantity']}: {number(check['value'])}{interval}, bound {bound_text(check['bound'])}."


def downloads() -> Html:
    """The files of all numbers."""
    files = {
        CSV: "a table with a row for every rule, for a spreadsheet or pandas",
        JSON: "the records with settings, versions and commit, without curves",
    }
    items = [element("li", element("a", name, href=name, download=""), f": {words}.") for name, words in files.items()]
    words = "The records with the curves lie in the folder records, the figures as SVG and PDF in figures."
    return element("section", element("h2", "Download", id="downloads"), element("ul", *items), element("p", words))
