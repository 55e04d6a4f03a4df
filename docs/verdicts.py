"""Stores the verdicts of a run and the numbers that decided them, for the README's table and the papers' pages.

python docs/verdicts.py results/quick
"""

import json
import sys
from pathlib import Path

from insitu.claims.record import read_records

STORED = Path(__file__).with_name("verdicts.json")
KEPT = ("quantity", "value", "low", "high", "verdict")


def main() -> None:
    """Read the records of a folder and store the verdict of every claim."""
    records, _ = read_records(Path(sys.argv[1]))
    seeds = {record.seed for record in records}
    if len(seeds) != 1:
        sys.exit(f"the records are of the seeds {sorted(seeds)}; give a folder with those of one seed")
    records = sorted(records, key=lambda r: (r.paper, r.position))
    verdicts = {r.claim: r.verdict for r in records}
    checks = {r.claim: [{name: check[name] for name in KEPT} for check in r.checks] for r in records}
    stored = {"seed": seeds.pop(), "verdicts": verdicts, "checks": checks}
    STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
