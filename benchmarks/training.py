r"""What share of the machine's matrix-product speed a training step reaches, for many networks as one and one by one.

The work is that of the quick claims on trained transformers (Ding et al., 2024): one small softmax transformer for
every cell of task, sharing, loss and mask, drawing of prompts included. Beside it the same networks are trained one at
a time, as a script per network does. Floating-point operations are counted by PyTorch in the products of matrices
alone; the machine's speed is that of float32 products of :data:`SIDE` x :data:`SIDE` matrices on the same single
thread, timed in turn with the steps. Time is that of the processor, so that other work on the machine adds little.

    python benchmarks/training.py [--rounds 5]
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from insitu import Seed
from insitu.claims import Run
from insitu.papers import claims
from insitu.papers.ding2024.trained import Transformers, cells_of, trained

CLAIM = "ding2024.prefix-beats-causal-after-training"
SIDE = 1024
STEPS = 10


def run_of(steps: int) -> Run:
    """The quick setting with so many steps."""
    setting: Transformers = claims()[CLAIM].quick
    return Run(replace(setting, recipe=replace(setting.recipe, steps=steps)), Seed(0) / "benchmark")


def together(steps: int) -> None:
    """Train every network, those of one shape as one ensemble."""
    run = run_of(steps)
    trained(run, cells_of(run.setting))


def one_by_one(steps: int) -> None:
    """Train every network by itself."""
    run = run_of(steps)
    for cell in cells_of(run.setting):
        trained(run, [cell])


WAYS = {"one ensemble for each shape": together, "one network at a time": one_by_one}


def seconds_of_product() -> float:
    """One product of large matrices."""
    a = (Seed(0) / "product").normal(SIDE, SIDE).float()
    start = time.process_time()
    for _ in range(5):
        a @ a
    return (time.process_time() - start) / 5


def seconds_of_step(way: str) -> float:
    """One update of all networks: what a longer training takes more than a short one."""
    taken = []
    for steps in (1, 1 + STEPS):
        start = time.process_time()
        WAYS[way](steps)
        taken.append(time.process_time() - start)
    return (taken[1] - taken[0]) / STEPS


def operations() -> float:
    """Floating-point operations in the matrix products of one update of all networks."""
    counted = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            together(steps)
        counted.append(counter.get_total_flops())
    return counted[1] - counted[0]


def main() -> None:
    """Print speeds and shares, medians over rounds."""
    parser = argparse.ArgumentParser(description="Times a training step beside a product of large matrices.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds to take the median of")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    work, large = operations(), 2 * SIDE**3
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    shares: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        peak = large / seconds_of_product()
        for way in WAYS:
            taken[way].append(seconds_of_step(way))
            shares[way].append(work / taken[way][-1] / peak)
    count = len(cells_of(run_of(1).setting))
    print(f"one update of {count} networks: {work / 1e9:.2f} Gflop in matrix products, one torch thread")
    for way in WAYS:
        milliseconds, share = statistics.median(taken[way]) * 1e3, statistics.median(shares[way])
        print(f"  {way:<32} {milliseconds:8.1f} ms {share:8.1%} of the speed of a {SIDE} x {SIDE} product")


if __name__ == "__main__":
    main()
