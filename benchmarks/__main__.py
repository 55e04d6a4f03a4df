"""Run families of rows, print them, and write them as JSON with a figure and the machine's description."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from benchmarks import attention, iterates, pools, prefixes, start, training
from benchmarks.figure import draw
from benchmarks.machine import description
from benchmarks.timing import Row

FAMILIES = {
    "prefixes": prefixes.rows,
    "pools": pools.rows,
    "iterates": iterates.rows,
    "attention": attention.rows,
    "training": training.rows,
    "start": start.rows,
}


def shown(row: Row) -> str:
    """A row as a line."""
    seconds = f"{row.ours * 1e3:10.2f} ms {row.common * 1e3:10.2f} ms"
    return f"{row.family:<10} {row.work:<44} {row.size:>6} {seconds} {row.ratio:8.2f} ({row.low:.2f} to {row.high:.2f})"


def measured(families: Sequence[str], rounds: int) -> list[Row]:
    """All rows, each printed when it is there."""
    rows = []
    for family in families:
        for row in FAMILIES[family](rounds):
            print(shown(row), flush=True)
            rows.append(row)
    return rows


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The library beside the common way.")
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)}; all where none is given")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take the median of")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder of rows.json and cost.svg")
    options = parser.parse_args()
    if unknown := set(options.families) - FAMILIES.keys():
        parser.error(f"no family is called {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    torch.set_num_threads(1)
    print(f"{'family':<10} {'work':<44} {'size':>6} {'ours':>13} {'common':>13} {'ratio':>8}")
    # scikit-learn brings linear algebra of its own.
    with threadpool_limits(1):
        rows = measured(options.families or list(FAMILIES), options.rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": description(), "rounds": options.rounds, "rows": [dataclasses.asdict(row) for row in rows]}
    (options.out / "rows.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(rows, options.out / "cost.svg")


if __name__ == "__main__":
    main()
