"""Writes what the documentation takes from claims and records: tables of verdicts, pages of papers, the list of claims.

python docs/generate.py            write them
python docs/generate.py --check    write nothing; exit with 1 and name what is stale
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from marked import with_part
from paper_pages import Results, claims_of, read_results

from insitu.claims import Paper
from insitu.papers import PAPERS
from insitu.papers.index import INDEX, digest_of_papers, live_rows

ROOT = Path(__file__).parents[1]
VERDICTS = ("holds", "fails", "undecided")

# The page of a paper before anything is said of it.
EMPTY = """# {title}

{authors}. {venue}.

## Claims

<!-- claims: written by docs/generate.py -->
<!-- end of claims -->
"""


def verdict_table(folder: str, results: Results) -> str:
    """How many claims of each paper have which verdict; its page lies in the folder."""
    stored = json.loads((ROOT / "docs" / "verdicts.json").read_text(encoding="utf-8"))
    full = full_verdicts(results)
    rows = []
    for paper in PAPERS.values():
        quick, at_full = (of_paper(verdicts, paper) for verdicts in (stored["verdicts"], full))
        ran = ", ".join(f"{at_full[verdict]} {verdict}" for verdict in VERDICTS if at_full[verdict])
        cells = [*(str(quick[verdict]) for verdict in VERDICTS), ran]
        rows.append(f"| [`{paper.id}`]({folder}{paper.id}.md) | {cited(paper)} | {' | '.join(cells)} |")
    header = "| paper | title | holds | fails | undecided | at full scale |\n|---|---|---|---|---|---|"
    words = (
        f"Verdicts at quick scale, seed {stored['seed']}; in the last column those of the {len(full)} claims that ran"
    )
    return "\n".join([header, *rows]) + f"\n\n{words} at full scale so far."


def full_verdicts(results: Results) -> dict[str, str]:
    """The verdicts at full scale; the least favourable of a claim's rules and seeds counts."""
    verdicts: dict[str, list[str]] = {}
    for (scale, _), claims in results.items():
        for claim, checks in claims.items() if scale == "full" else ():
            verdicts.setdefault(claim, []).extend(check["verdict"] for check in checks)
    return {claim: min(own, key=("fails", "undecided", "holds").index) for claim, own in verdicts.items() if own}


def of_paper(verdicts: Mapping[str, str], paper: Paper) -> Counter[str]:
    """How many claims of a paper have which verdict."""
    return Counter(verdict for claim, verdict in verdicts.items() if claim.startswith(f"{paper.id}."))


def cited(paper: Paper) -> str:
    """The paper as a reference of one line."""
    first, *others = paper.authors.split(", ")
    names = f"{first.split()[-1]} et al.: " if others else ""
    return f"{names}{paper.title} ({paper.venue})"


def counted(page: Path, folder: str, results: Results) -> str:
    """A page with its table of verdicts made anew."""
    return with_part(page.read_text(encoding="utf-8"), "verdicts", "generate.py", verdict_table(folder, results))


def paper_page(paper: Paper, page: Path, results: Results) -> str:
    """The page of a paper with its claims made anew; a paper without one gets it."""
    text = page.read_text(encoding="utf-8") if page.exists() else EMPTY.format_map(vars(paper))
    return with_part(text, "claims", "generate.py", claims_of(paper, results))


def pages() -> dict[Path, str]:
    """Every file that is written here, with what it should hold."""
    folder, results = ROOT / "docs" / "papers", read_results(ROOT)
    return {
        ROOT / "README.md": counted(ROOT / "README.md", "docs/papers/", results),
        folder / "index.md": counted(folder / "index.md", "", results),
        **{folder / f"{id_}.md": paper_page(paper, folder / f"{id_}.md", results) for id_, paper in PAPERS.items()},
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
