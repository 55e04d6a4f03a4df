"""Writes what the documentation takes from claims and records: tables of verdicts, pages of papers, the list of claims.

python docs/generate.py            write them
python docs/generate.py --check    write nothing; exit with 1 and name what is stale
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from marked import with_part
from paper_pages import Results, claims_of, read_results

from insitu.claims import Paper
from insitu.papers import PAPERS
from insitu.papers.index import INDEX, digest_of_papers, live_rows

ROOT = Path(__file__).parents[1]


# The page of a paper before anything is said of it.
EMPTY = """# {title}

{authors}. {venue}.

## Claims

<!-- claims: written by docs/generate.py -->
<!-- end of claims -->
"""


def verdict_table(folder: str) -> str:
    """How many claims of each paper have which verdict at quick scale; its page lies in the folder."""
    stored = json.loads((ROOT / "docs" / "verdicts.json").read_text(encoding="utf-8"))
    rows = []
    for paper in PAPERS.values():
        counts = Counter(verdict for claim, verdict in stored["verdicts"].items() if claim.startswith(f"{paper.id}."))
        cells = [str(counts[verdict]) for verdict in ("holds", "fails", "undecided")]
        rows.append(f"| [`{paper.id}`]({folder}{paper.id}.md) | {cited(paper)} | {' | '.join(cells)} |")
    header = "| paper | | holds | fails | undecided |\n|---|---|---|---|---|"
    return "\n".join([header, *rows]) + f"\n\nVerdicts at quick scale, seed {stored['seed']}."


def cited(paper: Paper) -> str:
    """The paper as a reference of one line."""
    first, *others = paper.authors.split(", ")
    names = f"{first.split()[-1]} et al.: " if others else ""
    return f"{names}{paper.title} ({paper.venue})"


def counted(page: Path, folder: str) -> str:
    """A page with its table of verdicts made anew."""
    return with_part(page.read_text(encoding="utf-8"), "verdicts", "generate.py", verdict_table(folder))


def paper_page(paper: Paper, page: Path, results: Results) -> str:
    """The page of a paper with its claims made anew; a paper without one gets it."""
    text = page.read_text(encoding="utf-8") if page.exists() else EMPTY.format_map(vars(paper))
    return with_part(text, "claims", "generate.py", claims_of(paper, results))


def pages() -> dict[Path, str]:
    """Every file that is written here, with what it should hold."""
    folder, results = ROOT / "docs" / "papers", read_results(ROOT)
    return {
        ROOT / "README.md": counted(ROOT / "README.md", "docs/papers/"),
        folder / "index.md": counted(folder / "index.md", ""),
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
