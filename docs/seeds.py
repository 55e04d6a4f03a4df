"""Writes the table of docs/papers.md that shows what the claims about language models say at several seeds.

python docs/seeds.py                write it from the records in results/quick-lm (runs nothing)

The records are what `insitu reproduce CLAIMS --json --seed SEED` prints, one file for each seed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marked import with_part

PAGE = Path(__file__).parent / "papers.md"
RECORDS = Path(__file__).parents[1] / "results" / "quick-lm"


def cell(record: dict[str, Any]) -> str:
    """The verdict and the numbers of the check that decided it."""
    value, low, high = (float(record[name]) for name in ("value", "low", "high"))
    interval = "" if low == high else f" [{low:.2g}, {high:.2g}]"
    return f"{record['verdict']}: {value:.2g}{interval}"


def decided(record: dict[str, Any]) -> dict[str, Any]:
    """The check that decided a record."""
    return next(check for check in record["checks"] if check["verdict"] == record["verdict"])


def lines(seeds: dict[int, list[dict[str, Any]]]) -> Iterator[str]:
    """The table, line by line; of the quantities of a claim each seed shows the one that decided there."""
    yield f"| claim | {' | '.join(f'seed {seed}' for seed in seeds)} | decided by | printed |"
    yield "|---" * (len(seeds) + 3) + "|"
    for rows in zip(*seeds.values(), strict=True):
        checks = {check["quantity"]: check for check in map(decided, rows)}
        bounds = "; ".join(f"{name} {check['bound']}" for name, check in checks.items())
        printed = "; ".join(dict.fromkeys(check["printed"] for check in checks.values() if check["printed"]))
        cells = [f"`{rows[0]['claim']}`", *map(cell, rows), bounds, printed]
        yield f"| {' | '.join(text.replace('|', '') for text in cells)} |"


def read_seeds() -> dict[int, list[dict[str, Any]]]:
    """The records of each seed, in the order of the first."""
    files = sorted(RECORDS.glob("seed-*.json"))
    seeds = {int(file.stem.partition("-")[2]): json.loads(file.read_text(encoding="utf-8")) for file in files}
    return {seed: sorted(records, key=lambda record: record["claim"]) for seed, records in seeds.items()}


def page() -> str:
    """The page with the table made anew."""
    return with_part(PAGE.read_text(encoding="utf-8"), "seeds", "seeds.py", "\n".join(lines(read_seeds())))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
