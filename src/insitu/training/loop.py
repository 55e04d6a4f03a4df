"""The one loop in which an optimiser steps, for one network or for many copies at once."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_count, require_not_negative, require_one_of

__all__ = ["DivergenceError", "Progress", "Recipe", "Step", "train"]

# A loss this many times the first one is not going to come back.
HOPELESS = 1e6


class DivergenceError(InputError):
    """Training diverged; the message says at which step, how far, and what to lower."""


@final
@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train with Adam.

    Args:
        steps: The number of updates.
        rate: The largest learning rate.
        warmup: The share of the steps over which the rate rises linearly from zero.
        decay: The schedule of the rate afterwards: constant, or a cosine to zero.
        betas: Adam's two decay rates, each below 1.
        clip: The largest norm of a gradient, of each copy by itself; none for no clipping.

    Raises:
        InputError: If a number is out of its range.

    Example:
        >>> recipe = Recipe(steps=100, rate=1.0, warmup=0.1, decay="cosine")
        >>> [round(recipe.rate_at(step), 3) for step in (0, 9, 55, 99)]
        [0.1, 1.0, 0.5, 0.0]
    """

    steps: int
    rate: float
    warmup: float = 0.0
    decay: Literal["constant", "cosine"] = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = None

    def __post_init__(self) -> None:
        require_count("Recipe", "steps", self.steps, least=1)
        require_not_negative("Recipe", "rate", self.rate, zero=False)
        require_share("warmup", self.warmup, "0.1 for the first tenth of the steps")
        require_one_of("Recipe", "decay", self.decay, ("constant", "cosine"))
        if not isinstance(self.betas, Sequence) or len(self.betas) != 2:
            raise InputError(f"Recipe: betas must be two numbers, such as (0.9, 0.999); got {self.betas!r}.")
        for beta in self.betas:
            require_share("betas", beta, "(0.9, 0.999)")
            if beta == 1:
                raise InputError(f"Recipe: betas must be below 1, such as (0.9, 0.999); got {self.betas!r}.")
        if self.clip is not None:
            require_not_negative("Recipe", "clip", self.clip, zero=False)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = self.warmup * self.steps
        if step + 1 < rising:
            return self.rate * (step + 1) / rising
        if self.decay == "constant":
            return self.rate
        through = (step - rising) / max(1.0, self.steps - rising)
        return self.rate * (1 + math.cos(math.pi * max(0.0, through))) / 2


def require_share(name: str, value: Any, example: str) -> None:
    """Refuse what is not a number from 0 to 1.

    Raises:
        InputError: If it is none.
    """
    require_not_negative("Recipe", name, value)
    if value > 1:
        raise InputError(f"Recipe: {name} is a share and at most 1, such as {example}; got {value!r}.")


@final
@dataclass(frozen=True)
class Step:
    """The losses of one update.

    Args:
        index: The step, counted from 0.
        losses: The loss of every copy before the update.
    """

    index: int
    losses: tuple[float, ...]


@final
@dataclass
class Progress:
    """How far a training has come: what exact resume needs beside the parameters.

    Args:
        done: The number of updates made.
        optimiser: The state of the optimiser, as its ``state_dict`` gives it.
    """

    done: int = 0
    optimiser: dict[str, Any] = field(default_factory=dict)


def train(
    parameters: Sequence[Tensor],
    losses: Callable[[int], Float[Tensor, " copy"]],
    recipe: Recipe,
    progress: Progress | None = None,
) -> Iterator[Step]:
    """Minimise losses with Adam, one yield per update.

    ``losses(step)`` draws the batch of its step from a seed (``seed / step``) and evaluates every copy, so step i
    sees the same numbers whenever it is made: 60 steps are 30 steps, a save, a load and 30 more, to the last bit.
    Copies have parameters of their own; Adam acts on each number by itself, so training many copies at once is
    training each alone.

    Args:
        parameters: The tensors to update in place. For clipping, their first axis is the copies.
        losses: The loss of every copy at a step.
        recipe: The number of steps and the learning rate.
        progress: The state to resume from, updated at every step (default: a fresh one).

    Raises:
        DivergenceError: If a loss is not finite or has grown a million times over its first value.

    Example:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> steps = list(train([weight], lambda step: (weight - 3).square(), Recipe(steps=200, rate=0.1)))
        >>> round(weight.item(), 2), len(steps)
        (3.0, 200)
    """
    progress = progress if progress is not None else Progress()
    optimiser = torch.optim.Adam(parameters, lr=recipe.rate, betas=recipe.betas, fused=True)
    if progress.optimiser:
        optimiser.load_state_dict(progress.optimiser)
    first: list[float] | None = None
    for index in range(progress.done, recipe.steps):
        loss = losses(index)
        values = loss.detach().tolist()
        first = first or values
        refuse_divergence(index, values, first, recipe)
        optimiser.zero_grad()
        loss.sum().backward()
        if recipe.clip is not None:
            clip_each(parameters, recipe.clip)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(index)
        optimiser.step()
        progress.done, progress.optimiser = index + 1, optimiser.state_dict()
        yield Step(index, tuple(values))


def refuse_divergence(index: int, values: Sequence[float], first: Sequence[float], recipe: Recipe) -> None:
    for copy, (value, start) in enumerate(zip(values, first, strict=True)):
        if not math.isfinite(value) or value > HOPELESS * max(start, 1e-12):
            raise DivergenceError(
                f"training diverged at step {index}: the loss of copy {copy} is {value:.3g}, after {start:.3g} at the "
                f"start. Lower the rate {recipe.rate:g}, lengthen the warm-up {recipe.warmup:g}, or clip gradients."
            )


def clip_each(parameters: Sequence[Tensor], largest: float) -> None:
    """Scale the gradient of every copy down to a norm."""
    slopes = [p.grad for p in parameters if p.grad is not None]
    size = torch.stack([s.flatten(1).square().sum(1) for s in slopes]).sum(0).sqrt()
    shrink = (largest / size.clamp(min=1e-30)).clamp(max=1.0)
    for slope in slopes:
        slope.mul_(shrink.view(-1, *[1] * (slope.ndim - 1)))
