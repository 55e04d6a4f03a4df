"""Writes what the documentation takes from claims and records: the README's table, docs/claims.md, the list of claims.

python docs/generate.py            write them
python docs/generate.py --check    write nothing; exit with 1 and name what is stale
"""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marked import with_part

from insitu.claims import Claim, Paper
from insitu.papers import PAPERS
from insitu.papers.index import INDEX, digest_of_papers, live_rows

ROOT = Path(__file__).parents[1]
FULL = ROOT / "results" / "full"
VERDICTS = ("holds", "fails", "undecided")


def cell(text: str) -> str:
    """Text inside a table."""
    return text.replace("|", "\\|")


def verdict_table() -> str:
    """How many claims of each paper have which verdict, from the stored verdicts of both scales."""
    stored = json.loads((ROOT / "docs" / "verdicts.json").read_text(encoding="utf-8"))
    at_full = full_verdicts()
    rows = []
    for paper in PAPERS.values():
        quick, full = (counted(verdicts, paper) for verdicts in (stored["verdicts"], at_full))
        cells = [str(quick[verdict]) for verdict in VERDICTS]
        ran = ", ".join(f"{full[verdict]} {verdict}" for verdict in VERDICTS if full[verdict])
        rows.append(f"| `{paper.id}` | {cited(paper)} | {' | '.join(cells)} | {ran} |")
    header = "| paper | | holds | fails | undecided | at full scale |\n|---|---|---|---|---|---|"
    words = f"Verdicts at quick scale, seed {stored['seed']}; the last column is of the {len(at_full)} claims that ran at"
    return "\n".join([header, *rows]) + f"\n\n{words} full scale so far."


def full_verdicts() -> dict[str, str]:
    """The verdicts of the stored records at full scale; a claim at several seeds counts by its least favourable."""
    verdicts: dict[str, str] = {}
    for file in sorted(FULL.glob("seed-*.json")):
        for record in json.loads(file.read_text(encoding="utf-8")):
            seen = (record["verdict"], verdicts.get(record["claim"], "holds"))
            verdicts[record["claim"]] = min(seen, key=("error", "fails", "undecided", "holds").index)
    return verdicts


def counted(verdicts: dict[str, str], paper: Paper) -> Counter[str]:
    """How many claims of a paper have which verdict."""
    return Counter(verdict for claim, verdict in verdicts.items() if claim.startswith(f"{paper.id}."))


def cited(paper: Paper) -> str:
    """The paper as a reference of one line."""
    first, *others = paper.authors.split(", ")
    names = f"{first.split()[-1]} et al.: " if others else ""
    return f"{names}{paper.title} ({paper.venue})"


def anchor(claim: Claim) -> str:
    """The anchor of the claim's heading in docs/claims.md: the heading without its full stop."""
    return claim.id.replace(".", "")


def readme(text: str) -> str:
    """The README with its table of verdicts made anew."""
    return with_part(text, "verdicts", "generate.py", verdict_table())


def claims_page() -> str:
    """The page of all claims: statement, place, rules and cost."""
    return "\n".join(lines_of_page())


def lines_of_page() -> Iterator[str]:
    """The page, line by line."""
    yield "# Claims"
    yield ""
    yield "Written by `docs/generate.py` from the registry that `insitu claims` lists. A claim holds if the 99 %"
    yield "interval of every quantity lies inside its bound, fails if one lies outside altogether, and is undecided"
    yield "otherwise. Numbers and verdicts are not here: they belong to a run, and `insitu reproduce` makes them."
    for paper in PAPERS.values():
        yield ""
        yield f"## {paper.id}: {paper.title}"
        yield ""
        yield f"{paper.authors}. {paper.venue}."
        for claim in paper.claims:
            yield from lines_of_claim(claim, paper)
    yield ""


def lines_of_claim(claim: Claim, paper: Paper) -> Iterator[str]:
    """One claim, line by line."""
    yield ""
    yield f"### {claim.id}"
    yield ""
    yield claim.statement
    yield ""
    yield f"- **Where:** {claim.source}."
    if claim.reduced:
        yield f"- **Smaller than the paper at quick scale:** {claim.reduced}"
    yield f"- **Quick scale:** {settings(claim.quick)}."
    yield f"- **Full scale:** {changed(claim)}."
    yield f"- **Cost:** quick about {claim.quick_seconds:g} s on one CPU core, full about {claim.full_hours:g} h."
    yield f"- **Version of the measurement:** {claim.version}."
    yield ""
    yield "| quantity | bound | the paper prints |"
    yield "|---|---|---|"
    for rule in claim.rules:
        yield f"| {cell(rule.quantity)} | {cell(rule.bound)} | {cell(rule.printed)} |"


def flat(setting: Any) -> dict[str, str]:
    """The numbers of a setting by name, those of inner settings included."""
    found = dict(walk(setting, ()))
    last = [path[-1] for path in found]
    # A name that occurs twice is told by what holds it.
    return {".".join(path[-2:] if last.count(path[-1]) > 1 else path[-1:]): numbers(v) for path, v in found.items()}


def walk(setting: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of a setting with their paths."""
    for field in dataclasses.fields(setting):
        value, here = getattr(setting, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, here)
        else:
            yield here, value


def numbers(value: Any) -> str:
    """A number, or several; of many only the first and the last."""
    if not isinstance(value, tuple):
        return f"{value:g}" if isinstance(value, float) else str(value)
    shown = [numbers(v) for v in value]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:2], "...", shown[-1]])


def settings(setting: Any) -> str:
    """A setting as words."""
    return "; ".join(f"{name} {value}" for name, value in flat(setting).items())


def changed(claim: Claim) -> str:
    """What full scale changes of quick scale."""
    quick, full = flat(claim.quick), flat(claim.full)
    other = [f"{name} {value}" for name, value in full.items() if quick[name] != value]
    return f"the same but {'; '.join(other)}" if other else "the same"


def pages() -> dict[Path, str]:
    """Every file that is written here, with what it should hold."""
    home = ROOT / "README.md"
    return {
        home: readme(home.read_text(encoding="utf-8")),
        ROOT / "docs" / "claims.md": claims_page(),
        ROOT / "src" / "insitu" / "papers" / INDEX.name: index(),
    }


def index() -> str:
    """The stored list of claims, which ``insitu claims`` reads without importing the papers."""
    return json.dumps({"digest": digest_of_papers(), "claims": live_rows()}, indent=1, ensure_ascii=False) + "\n"


def stale() -> list[str]:
    """The files that do not hold what they should."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, content in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != content
    ]


def main() -> None:
    """Write the files, or name the stale ones."""
    parser = argparse.ArgumentParser(description="Writes what the documentation takes from the registry of claims.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is stale")
    if parser.parse_args().check:
        found = stale()
        sys.exit(f"stale: {', '.join(found)}; run python docs/generate.py" if found else 0)
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
