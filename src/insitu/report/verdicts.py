"""The table of claims: one group of rows for a claim, a row for each of its runs, and the evidence folded below."""

from collections.abc import Sequence

from insitu.claims.claim import Verdict
from insitu.claims.record import Record
from insitu.report.evidence import PRINTED, evidence
from insitu.report.markup import Html, element, join
from insitu.report.numbers import NONE, bound_text, interval_text
from insitu.report.results import ClaimResult, PaperResult, RunResult, paper_name
from insitu.report.tables import badge, cells, code, stacked_table, value

__all__ = ["claims_section", "paper_anchor", "paper_line", "verdict_table"]

COLUMNS = ("Claim", "Verdict", "Run", "Value", "Interval", "Bound", PRINTED)
"""The columns; that of the run only where runs differ in scale, seed or device."""


def claims_section(papers: Sequence[PaperResult]) -> Html:
    """All claims, with the form that filters them."""
    titles = {run.title for paper in papers for claim in paper.claims for run in claim.runs}
    columns = COLUMNS if len(titles) > 1 else tuple(name for name in COLUMNS if name != "Run")
    groups = [
        group
        for paper in papers
        for group in (paper_title(paper, columns), *(claim_group(claim, columns) for claim in paper.claims))
    ]
    words = [] if len(titles) > 1 else [element("p", f"All at {titles.pop()}.")]
    heading = element("h2", "All claims", id="claims")
    return element("section", heading, *words, filter_form(papers), stacked_table(columns, groups, "verdicts"))


def filter_form(papers: Sequence[PaperResult]) -> Html:
    """Search and filters; shown by the script that makes them work."""
    search = element("input", type="search", id="search", placeholder="Search claims", aria_keyshortcuts="/")
    verdicts = select("verdict", "Any verdict", [(str(verdict), str(verdict)) for verdict in Verdict])
    names = select("paper", "Any paper", [(paper.id, paper_name(paper.id)) for paper in papers])
    fold = element("button", "Unfold all", type="button", id="fold")
    count = element("output", id="shown", for_="search verdict paper")
    fields = [labelled("search", "Search", search), labelled("verdict", "Verdict", verdicts)]
    return element(
        "form", *fields, labelled("paper", "Paper", names), fold, count, role="search", class_="filter", hidden=""
    )


def labelled(name: str, words: str, field: Html) -> Html:
    return element("div", element("label", words, for_=name), field)


def select(name: str, every: str, options: Sequence[tuple[str, str]]) -> Html:
    choices = [element("option", words, value=value) for value, words in (("", every), *options)]
    return element("select", *choices, id=name)


def paper_anchor(paper: PaperResult) -> str:
    """The anchor of a paper's rows."""
    return f"paper-{paper.id}"


def paper_line(record: Record) -> Html:
    """The paper as its records name it."""
    title = record.paper_title if record.paper_title.endswith("?") else f"{record.paper_title}."
    return element("span", f"{title} {record.paper_authors}; {record.paper_venue}", class_="small")


def paper_title(paper: PaperResult, columns: Sequence[str]) -> Html:
    words = join(paper_name(paper.id), paper_line(paper.record))
    title = element("th", words, scope="rowgroup", colspan=str(len(columns)), role="rowheader")
    row = element("tr", title, role="row")
    return element("tbody", row, role="rowgroup", class_="paper", id=paper_anchor(paper), data_paper=paper.id)


def claim_group(claim: ClaimResult, columns: Sequence[str]) -> Html:
    """A claim: its runs side by side, then their evidence, folded."""
    record = claim.record
    link = element("a", record.statement, href=f"#{claim.name}")
    words = join(link, " ", element("span", record.source, class_="small"), " ", code(record.claim))
    spans = {"rowspan": str(len(claim.runs))} if len(claim.runs) > 1 else {}
    title = element("th", words, scope="rowgroup" if spans else "row", role="rowheader", class_="statement", **spans)
    first, *others = claim.runs
    rows = [element("tr", title, *run_cells(first, columns), role="row", class_="result")]
    rows += [element("tr", *run_cells(run, columns), role="row", class_="result") for run in others]
    marks = {"data_verdict": str(claim.verdict), "data_paper": record.paper}
    return element("tbody", *rows, folded(claim, columns), role="rowgroup", class_="claim", id=claim.name, **marks)


def run_cells(run: RunResult, columns: Sequence[str]) -> list[Html]:
    record, check = run.record, run.record.decisive
    contents = {
        "Verdict": badge(run.verdict),
        "Run": run.title,
        "Value": value(check, with_quantity=len(record.checks) > 1),
        "Interval": interval_text(record.low, record.high),
        "Bound": bound_text(check.get("bound", NONE)),
        PRINTED: check.get("printed") or NONE,
    }
    return cells(columns[1:], [contents[name] for name in columns[1:]])


def folded(claim: ClaimResult, columns: Sequence[str]) -> Html:
    several = len(claim.runs) > 1
    parts = [evidence(run, titled=several) for run in claim.runs]
    drawn = any(run.drawing is not None for run in claim.runs)
    summary = element("summary", "Figure, rules and setting" if drawn else "Rules and setting")
    cell = element("td", element("details", summary, *parts), colspan=str(len(columns)), role="cell")
    return element("tr", cell, role="row", class_="more")


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
