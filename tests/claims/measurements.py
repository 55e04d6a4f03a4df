"""Measurements for the tests of the engine; in a module of their own so that worker processes can import them."""

import os
import signal
import time
from dataclasses import dataclass

import torch

from insitu.claims import Figure, Measurement, Panel, Run, line
from insitu.metrics import Estimate
from insitu.models import Architecture, AttentionNetwork, initialise
from insitu.seed import Seed
from insitu.training import Ensemble, Recipe, train_resumably


@dataclass(frozen=True)
class Numbers:
    """How many numbers to draw."""

    count: int


def mean_of_normals(run: Run) -> Measurement:
    numbers = (run.seed / "numbers").normal(run.setting.count)
    figure = Figure((Panel("i", "number", (line("numbers", range(len(numbers)), numbers),)),), "Numbers.", "Numbers.")
    return Measurement({"mean": Estimate.mean(numbers)}, figure)


def broken(run: Run) -> Measurement:
    return Measurement({"mean": Estimate(1 / 0)})


def hidden_nan(run: Run) -> Measurement:
    return Measurement({"mean": Estimate.mean(torch.full((3,), torch.nan))})


def dies(run: Run) -> Measurement:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def slow(run: Run) -> Measurement:
    time.sleep(60)
    return mean_of_normals(run)


@dataclass(frozen=True)
class Traced:
    """How many numbers to draw, and the file that tells how often."""

    count: int
    trace: str


def counted_study(run: Run) -> torch.Tensor:
    """Numbers for several claims; leaves a trace of every time that it ran."""
    with open(run.setting.trace, "a") as trace:
        trace.write("ran\n")
    return (run.seed / "numbers").normal(run.setting.count)


def mean_of_study(run: Run) -> Measurement:
    return Measurement({"mean": Estimate.mean(run.study)})


def broken_study(run: Run) -> None:
    raise ArithmeticError("the study broke")


def stops_halfway(run: Run) -> torch.Tensor:
    """A study that keeps a state and dies the first time; the second time it goes on."""
    state = run.folder / "state"
    if not state.exists():
        state.parent.mkdir(parents=True)
        state.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    return (run.seed / "numbers").normal(run.setting.count)


@dataclass(frozen=True)
class Longer:
    """After how many steps of a sitting a signal ends it; 0 for never, -1 for a training without end."""

    steps: int


def trained_slowly(run: Run) -> Measurement:
    """The last loss of a small training."""
    network = AttentionNetwork(Architecture(dim=2))
    initialise(network, Seed(0), std=0.3)
    ensemble, last, made = Ensemble([network]), torch.zeros(1), 0
    recipe = Recipe(steps=10**6 if run.setting.steps < 0 else 12, rate=0.01)
    for step in train_resumably(ensemble, lambda _: ensemble.matrix.square().sum(1), recipe, run.folder, seconds=0.05):
        last, made = torch.tensor(step.losses), made + 1
        if made == run.setting.steps:
            os.kill(os.getpid(), signal.SIGUSR1)
    return Measurement({"mean": Estimate(last.item() / 100)})
