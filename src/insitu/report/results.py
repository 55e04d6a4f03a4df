"""What a page of claims shows: the newest records, those of one claim together, and the drawings of their figures."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from insitu.claims.claim import Verdict
from insitu.claims.record import Record
from insitu.report.figures import Drawing, draw_all

__all__ = ["ClaimResult", "PaperResult", "RunResult", "newest_of_each", "paper_name", "results_of"]

# Panels of a figure that may stand for its paper where no claim is its headline.
SMALL = 2
# From the least to the most favourable.
WORST_FIRST = (Verdict.ERROR, Verdict.FAILS, Verdict.UNDECIDED, Verdict.HOLDS)


@final
@dataclass(frozen=True)
class RunResult:
    """A claim at one scale and seed.

    Args:
        record: Its record.
        name: The name of its anchor and of the files of its figure.
        drawing: Its figure, if it has one.
    """

    record: Record
    name: str
    drawing: Drawing | None

    @property
    def verdict(self) -> Verdict:
        """The verdict of the record."""
        return Verdict(self.record.verdict)

    @property
    def title(self) -> str:
        """Its scale, seed and device in words."""
        device = "" if self.record.device == "cpu" else f", {self.record.device}"
        return f"{self.record.scale} scale, seed {self.record.seed}{device}"


@final
@dataclass(frozen=True)
class ClaimResult:
    """A claim with its runs at every scale, seed and device; one claim, however many they are."""

    runs: tuple[RunResult, ...]

    @property
    def record(self) -> Record:
        """A record that says what all of them say: the statement and its place."""
        return self.runs[0].record

    @property
    def name(self) -> str:
        """The name of its anchor."""
        return file_name(self.record.claim)

    @property
    def verdict(self) -> Verdict:
        """The least favourable verdict: a claim counts as holding where it holds in every run."""
        return min((run.verdict for run in self.runs), key=WORST_FIRST.index)


@final
@dataclass(frozen=True)
class PaperResult:
    """The claims of a paper, in its order."""

    id: str
    claims: tuple[ClaimResult, ...]

    @property
    def record(self) -> Record:
        """A record that names the paper."""
        return self.claims[0].record

    @property
    def counts(self) -> Counter[Verdict]:
        """How many of its claims have which verdict."""
        return Counter(claim.verdict for claim in self.claims)

    @property
    def headline(self) -> RunResult | None:
        """The run whose figure stands for the paper: that of its headline, else the first with a small figure."""
        drawn = [run for claim in self.claims for run in claim.runs if run.drawing is not None]
        small = (run for run in drawn if run.record.figure and len(run.record.figure["panels"]) <= SMALL)
        first = next(small, drawn[0] if drawn else None)
        return next((run for run in drawn if run.record.headline), first)


def newest_of_each(records: Sequence[Record]) -> list[Record]:
    """Of the records that measure the same, the one finished last; in the order of papers and claims."""
    newest = {same(record): record for record in sorted(records, key=lambda r: (r.finished, r.key))}
    return sorted(newest.values(), key=place)


def same(record: Record) -> tuple[str, str, int, str]:
    return record.claim, record.scale, record.seed, record.device


def place(record: Record) -> tuple[Any, ...]:
    """The sort key of a record: its paper, its position in the paper, then quick before full, and its seed."""
    return record.paper, record.position, record.claim, record.scale != "quick", record.seed, record.device


def results_of(records: Sequence[Record]) -> list[PaperResult]:
    """Records in their order, with names and drawings, by paper and claim."""
    drawn = [record for record in records if record.figure]
    drawings = dict(zip(map(id, drawn), draw_all([r.figure for r in drawn if r.figure]), strict=True))
    papers: dict[str, dict[str, list[RunResult]]] = {}
    for record, name in named(records):
        claims = papers.setdefault(record.paper, {})
        claims.setdefault(record.claim, []).append(RunResult(record, name, drawings.get(id(record))))
    return [
        PaperResult(paper, tuple(ClaimResult(tuple(runs)) for runs in claims.values()))
        for paper, claims in papers.items()
    ]


def named(records: Sequence[Record]) -> list[tuple[Record, str]]:
    """Records with their names: claim and scale, with seed and device where several are present."""
    runs: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        runs.setdefault((record.claim, record.scale), []).append(record)
    return [(record, name_of(record, runs[record.claim, record.scale])) for record in records]


def name_of(record: Record, runs: Sequence[Record]) -> str:
    words = [record.claim, record.scale]
    if len({r.seed for r in runs}) > 1:
        words.append(f"seed-{record.seed}")
    if len({r.device for r in runs}) > 1:
        words.append(record.device)
    return file_name(".".join(words))


def file_name(words: str) -> str:
    """Words as the name of a file and of an anchor."""
    return re.sub(r"[^\w.-]+", "-", words).strip("-")


def paper_name(paper: str) -> str:
    """A paper's identifier as its citation.

    Example:
        >>> paper_name("ding2024"), paper_name("folklore")
        ('Ding et al. 2024', 'Folklore')
    """
    match = re.fullmatch(r"([^\W\d]+)(\d{4}\w?)", paper)
    return f"{match[1].capitalize()} et al. {match[2]}" if match else paper.capitalize()
