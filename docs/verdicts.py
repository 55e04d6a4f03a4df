"""Stores the verdicts of a run, for the README's table.

python docs/verdicts.py results/quick
"""

import json
import sys
from pathlib import Path

from insitu.claims.record import read_records

STORED = Path(__file__).with_name("verdicts.json")


def main() -> None:
    """Read the records of a folder and store the verdict of every claim."""
    records, _ = read_records(Path(sys.argv[1]))
    seeds = {record.seed for record in records}
    if len(seeds) != 1:
        sys.exit(f"the records are of the seeds {sorted(seeds)}; give a folder with those of one seed")
    verdicts = {r.claim: r.verdict for r in sorted(records, key=lambda r: (r.paper, r.position))}
    STORED.write_text(json.dumps({"seed": seeds.pop(), "verdicts": verdicts}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
