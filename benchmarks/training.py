r"""A training step beside products of large matrices: the share of the machine's speed that it reaches.

The work is that of the quick claims on trained transformers (Ding et al., 2024): one small softmax transformer for
every cell of task, sharing, loss and mask, drawing of prompts included, as one ensemble per shape of weights and, as
a script per network does, one at a time. Floating-point operations are counted by PyTorch in the products alone.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Row, cpu_seconds, row_of
from insitu import Seed
from insitu.claims import Run
from insitu.papers import claims
from insitu.papers.ding2024.trained import Transformers, cells_of, trained

CLAIM = "ding2024.prefix-beats-causal-after-training"
SIDE, STEPS = 1024, 10


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


def seconds_of_step(way: Callable[[int], object], steps: int, repeats: int = 3) -> float:
    """One update of all networks: what a longer training takes more than a short one, each the least of some repeats.

    What else runs on the machine only ever adds to a time, so the least is nearest to the work itself.

    Raises:
        RuntimeError: If the longer training took no more time than the short one, so that nothing was measured.
    """
    short, long = (min(cpu_seconds(functools.partial(way, count)) for _ in range(repeats)) for count in (1, 1 + steps))
    if not long > short:
        raise RuntimeError(
            f"training: {1 + steps} updates took {long:.3g} s and one took {short:.3g} s, so the time of an update is "
            "lost in noise; take more steps, or a machine with less to do"
        )
    return (long - short) / steps


def operations() -> float:
    """Floating-point operations in the matrix products of one update of all networks."""
    counted = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            together(steps)
        counted.append(counter.get_total_flops())
    return counted[1] - counted[0]


def rows(rounds: int, steps: int = STEPS) -> Iterator[Row]:
    """How many steps one by one take the time of one; and the share of the speed of large products."""
    side = (Seed(0) / "product").normal(SIDE, SIDE).float()
    ensemble, alone, products = [], [], []
    # The first training of a process imports and prepares what later ones find.
    together(1)
    for _ in range(rounds):
        ensemble.append(seconds_of_step(together, steps))
        alone.append(seconds_of_step(one_by_one, steps))
        products.append(cpu_seconds(lambda: side @ side, 5))
    count = len(cells_of(run_of(1).setting))
    yield row_of("training", f"{count} networks as ensembles, one by one", count, pairs(ensemble, alone))
    at_full_speed = [operations() / (2 * SIDE**3) * product for product in products]
    yield row_of("training", "share of the speed of a large product", count, pairs(ensemble, at_full_speed))


def pairs(ours: list[float], common: list[float]) -> list[list[float]]:
    """Rounds of both ways."""
    return [list(both) for both in zip(ours, common, strict=True)]
