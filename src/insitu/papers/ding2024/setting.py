"""What the claims of Ding et al. (2024) share: the task, the settings, and how weights become answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Run
from insitu.metrics import Estimate
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed
from insitu.tasks import Law, LinearRegression, UniformCube

__all__ = ["Chunks", "Depth", "chunks", "least_certain", "query_error", "reading_weights", "sample"]


@dataclass(frozen=True)
class Depth:
    """A deep network on prompts of one length.

    Args:
        batch: Prompts.
        layers: Layers.
        dim: The dimension of an input, uniform on the cube.
        points: Examples in a prompt.
        rate: The rate of a layer.
    """

    batch: int
    layers: int
    dim: int = 16
    points: int = 40
    rate: float = 1.6


@dataclass(frozen=True)
class Chunks:
    """Many prompts, drawn and used in chunks.

    Args:
        batch: Prompts in all.
        points: Examples in a prompt.
        dim: The dimension of an input.
        chunk: Prompts at a time.
    """

    batch: int
    points: int
    dim: int = 16
    chunk: int = 512


def sample(run: Run, name: str, *, batch: int, points: int, queries: int = 20, noise: float = 0.0) -> Episode:
    """Prompts of linear functions of inputs uniform on the cube, on the run's device."""
    task = LinearRegression(UniformCube(run.setting.dim), noise=noise)
    return task.sample(run.seed / name, batch, points, queries).to(run.device)


def reading_weights(prompt: Prompt) -> Prompt:
    """The same examples with the unit vectors as queries: the answer to the k-th is the weight of coordinate k."""
    unit = torch.eye(prompt.dim).to(prompt.xs)
    return Prompt(prompt.xs, prompt.ys, unit.expand(prompt.batch, -1, -1))


def query_error(
    weights: Float[Tensor, "batch *place out dim"], truth: Float[Tensor, "batch out dim"], law: Law
) -> Float[Tensor, "batch *place"]:
    r"""The squared error on a query from the law, :math:`E (w x - w^* x)^2 = (w - w^*) E[xx^\top] (w - w^*)^\top`.

    Exact in the query, so that only the prompts are sampled.
    """
    spread = law.second_moment().to(weights)
    places = weights.ndim - truth.ndim
    gap = weights - truth[(slice(None), *[None] * places)]
    return ((gap @ spread) * gap).sum((-2, -1))


def chunks(setting: Chunks, task: LinearRegression, seed: Seed, device: torch.device) -> Iterator[Episode]:
    """The prompts of a setting, a chunk at a time; chunk i is drawn at ``seed / i``."""
    for index, start in enumerate(range(0, setting.batch, setting.chunk)):
        size = min(setting.chunk, setting.batch - start)
        yield task.sample(seed / index, size, setting.points).to(device)


def least_certain(estimates: Sequence[Estimate]) -> Estimate:
    """Of several estimates the one whose interval reaches lowest: if it lies above a bound, all do."""
    return min(estimates, key=lambda estimate: estimate.interval()[0])
