"""Writes the table of docs/papers/ding2024.md on short prompts: the order of the masks by depth and training.

python docs/shorter.py              write it (trains for about 40 minutes on one core, each training in a process)
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from marked import with_part

from insitu import Seed
from insitu.claims import Run
from insitu.papers import claims
from insitu.papers.ding2024.trained import MASKS, Cell, Transformers, held_out_errors, trained

PAGE = Path(__file__).parent / "papers" / "ding2024.md"
CLAIM = "ding2024.prefix-beats-causal-down-to-the-dimension"
# Layers and steps.
SIZES = ((3, 1500), (3, 6000), (6, 1500), (12, 1500))
TRAININGS = 3
SHARES = (0.4, 0.6, 0.8, 1.0)


def ratios(
    layers: int, steps: int, training: int, setting: Transformers | None = None
) -> dict[tuple[bool, float], float]:
    """The causal error over the prefix error on linear regression, for one training of every network."""
    torch.set_num_threads(1)
    quick: Transformers = setting or claims()[CLAIM].quick
    setting = replace(quick, layers=layers, recipe=replace(quick.recipe, steps=steps))
    cells = {(shared, mask): Cell("linear", shared, mask, shared) for shared, mask in product((True, False), MASKS)}
    run = Run(setting, Seed(0) / "shorter" / training)
    run = replace(run, study=trained(run, list(cells.values())))
    found = {}
    for shared, share in product((True, False), SHARES):
        prefix, causal = (held_out_errors(run, cells[shared, mask], share).mean().item() for mask in MASKS)
        found[shared, share] = causal / prefix
    return found


def lines() -> Iterator[str]:
    """The table, line by line."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as processes:
        runs = {
            size: [processes.submit(ratios, *size, training) for training in range(TRAININGS)]
            for size in reversed(SIZES)
        }
        points = [round(share * claims()[CLAIM].quick.points) for share in SHARES]
        yield f"| layers | steps | weights | {' | '.join(f'{n} examples' for n in points)} |"
        yield "|---" * (3 + len(points)) + "|"
        for size, shared in product(SIZES, (True, False)):
            found = [run.result() for run in runs[size]]
            cells = [" ".join(f"{ratio:.2f}" for ratio in sorted(f[shared, share] for f in found)) for share in SHARES]
            yield f"| {size[0]} | {size[1]} | {'shared' if shared else 'separate'} | {' | '.join(cells)} |"


def main() -> None:
    """Put the table in its place."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_part(page, "shorter", "shorter.py", "\n".join(lines())), encoding="utf-8")


if __name__ == "__main__":
    main()
