"""The library's objects that a state stands for: its task, prompts, network and learners."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from insitu import theory
from insitu.explorer.state import State
from insitu.learners import CausalDescent, GradientDescent, Kaczmarz, LeastSquares, OnlineDescent, Ridge
from insitu.learners.learner import LinearLearner
from insitu.models import AttentionNetwork, Causal, Mask, Prefix, gradient_descent
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed
from insitu.tasks import FunctionTask, Gaussian, LinearRegression, Shifted, SigmoidRegression, UniformCube

__all__ = [
    "FEW",
    "PROMPTS",
    "QUERIES",
    "descent",
    "eigenvalues",
    "episode",
    "layer_answers",
    "learners",
    "mask",
    "network",
    "part",
    "scaled",
    "spread",
    "task",
    "trained_step",
]

# Prompts over whose inputs exact errors are averaged, and queries of each where answers are measured.
PROMPTS, QUERIES = 20, 12
# Prompts of panels that need many lengths or many shifts.
FEW = 6


@lru_cache(maxsize=64)
def eigenvalues(state: State) -> Float[Tensor, " dim"]:
    """The eigenvalues of the covariance of the inputs before the shift, relative to those of the isotropic law."""
    place = torch.linspace(0, 1, state.dim, dtype=torch.float64)
    values = state.condition**-place
    return values / values.mean()


@lru_cache(maxsize=64)
def spread(state: State) -> Float[Tensor, " dim"]:
    """The diagonal of the covariance of inputs and queries in training, where the shift is 1."""
    return eigenvalues(state) * (1.0 if state.task == "normal" else 1 / 3)


def task(state: State) -> FunctionTask:
    """The task with its shift.

    Example:
        >>> task(State(dim=2))
        LinearRegression(law=UniformCube(dim=2, shift=0.0), weights=None, noise=0.0, out=1)
    """
    law = Gaussian(state.dim) if state.task == "normal" else UniformCube(state.dim)
    kind = SigmoidRegression if state.task == "sigmoid" else LinearRegression
    plain = kind(law, noise=state.noise)
    if state.condition == 1 and state.shift == 1:
        return plain
    rows = torch.diag(eigenvalues(state).sqrt()).tolist()
    return Shifted(plain, scale=state.shift, transform=tuple(map(tuple, rows)))


@lru_cache(maxsize=64)
def drawn(given: FunctionTask, points: int, seed: int) -> Episode:
    return given.sample(Seed(seed) / "explore", PROMPTS, points, QUERIES)


def episode(state: State, points: int | None = None) -> Episode:
    """The prompts of a state; of another number of examples where ``points`` is given."""
    return drawn(task(state), points or state.points, state.seed)


def part(given: Episode, prompts: int, points: int) -> Episode:
    """The first prompts of an episode with their first examples."""
    prompt = Prompt(*(t[:prompts] for t in (given.prompt.xs, given.prompt.ys, given.prompt.queries)))
    return Episode(prompt.prefix(points), given.answers[:prompts], given.latent[:prompts])


def scaled(given: Episode, state: State, factors: Sequence[float]) -> Episode:
    """An episode with its inputs and queries times each of some factors, one after the other.

    Functions and noise stay the same.
    """
    prompt, values = given.prompt, task(state).values
    noise = prompt.ys - values(given.latent, prompt.xs)
    factor = torch.tensor(factors, dtype=torch.float64)[:, None, None, None]
    xs, queries = ((factor * t).flatten(0, 1) for t in (prompt.xs, prompt.queries))
    latent, noise = (t.repeat(len(factors), 1, 1) for t in (given.latent, noise))
    return Episode(Prompt(xs, values(latent, xs) + noise, queries), values(latent, queries), latent)


def mask(state: State) -> Mask:
    """The mask of the network."""
    return Prefix() if state.mask == "prefix" else Causal()


def network(state: State) -> AttentionNetwork:
    """The network with weights set by hand."""
    return gradient_descent(state.dim, state.depth, state.rate, mask=mask(state))


@lru_cache(maxsize=4)
def layer_answers(state: State) -> Float[Tensor, "layer batch query out"]:
    """The network's answers, read out before the first layer and after each."""
    with torch.no_grad():
        return network(state).predict_layers(episode(state).prompt)


def descent(state: State, mask: str) -> LinearLearner:
    """What the network runs under a mask."""
    kind = GradientDescent if mask == "prefix" else CausalDescent
    return kind(steps=state.depth, rate=state.rate)


def learners(state: State) -> dict[str, LinearLearner]:
    """The reference learners by the names in the legends; the penalty of ridge is optimal for the task's noise."""
    power = (spread(state) * state.shift**2).sum().item()
    return {
        "gradient descent": descent(state, "prefix"),
        "causal descent": descent(state, "causal"),
        "least squares": LeastSquares(),
        "ridge": Ridge(penalty=state.noise**2),
        "Kaczmarz pass": Kaczmarz(),
        "online descent": OnlineDescent(rate=round(0.5 / power, 6)),
    }


def trained_step(state: State) -> Float[Tensor, "dim dim"]:
    """The step that one layer of linear attention learns where inputs are not yet shifted."""
    return theory.best_step(torch.diag(spread(state)), state.trained, noise_variance=state.noise**2)
