"""Training batches of prompts, and the squared-error loss of every network of an ensemble."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.models.network import Lesson, Network
from insitu.prompt import Episode
from insitu.seed import Seed
from insitu.tasks import Task
from insitu.training.ensemble import Ensemble

__all__ = ["Batches", "token_losses"]


@final
@dataclass(frozen=True)
class Batches:
    """The prompts of a training.

    Args:
        size: Prompts per step.
        points: Examples in a prompt.
        queries: Independent queries in a prompt.
        different: The number of fixed batches, used in turn; 0 draws a new batch at every step.
        permuted: Whether the examples come in a new order at every step, one order for the whole batch.

    References:
        Ding et al. (2024), appendices E.3 (``different``) and E.5 (``permuted``).
    """

    size: int
    points: int
    queries: int = 1
    different: int = 0
    permuted: bool = False

    def at(self, step: int, task: Task, seed: Seed) -> Episode:
        """The batch of a step.

        Example:
            >>> from insitu.tasks import Gaussian, LinearRegression
            >>> task, seed = LinearRegression(Gaussian(2)), Seed(0)
            >>> three = Batches(size=4, points=5, different=3)
            >>> torch.equal(three.at(1, task, seed).prompt.xs, three.at(7, task, seed).prompt.xs)
            True
        """
        episode = task.sample(
            seed / (step % self.different if self.different else step), self.size, self.points, self.queries
        )
        if not self.permuted:
            return episode
        order = (seed / "order" / step).permutation(self.points)
        return replace(episode, prompt=episode.prompt.reordered(order))


def token_losses(
    ensemble: Ensemble[Any],
    context_loss: Sequence[bool],
    device: torch.device,
    encode: Callable[[Episode], Tensor] | None = None,
) -> Callable[[Sequence[Episode]], Float[Tensor, " copy"]]:
    """The loss of every network of an ensemble, each on its own episode.

    It is the mean squared error over prompts and positions. The target (see :class:`~insitu.models.network.Lesson`) is
    the answer at a query, and zero at an example, which counts only with ``context_loss``.

    Args:
        ensemble: Copies of a network. Their masks may differ where the mask is an input of the forward pass, as it is
            for a :class:`~insitu.models.Transformer`.
        context_loss: For every copy, whether context tokens count.
        device: The device to compute on.
        encode: The tokens of an episode (default: those of the networks).

    Raises:
        InputError: If copies differ in their mask and it is built in.

    References:
        Ding et al. (2024), section 5.2; the loss on context outputs is its regulariser "L2".
    """
    networks: list[Network] = ensemble.networks
    masks = {getattr(network.architecture, "mask", None) for network in networks}
    if len(masks) > 1 and not networks[0].mask_is_input:
        raise InputError(
            f"token_losses: a {type(networks[0]).__name__} has its mask built in, so networks with different masks "
            "cannot be one ensemble; make one for each."
        )

    @functools.cache
    def weights(context: int, places: int) -> Tensor:
        counted = (torch.arange(places) >= context) | torch.tensor(context_loss)[:, None]
        return (counted / counted.sum(1, keepdim=True)).to(device)

    def losses(episodes: Sequence[Episode]) -> Tensor:
        # Copies often share their episodes: each is encoded once for every architecture.
        shared: dict[tuple[Any, int], Lesson] = {}
        lessons = []
        for network, episode in zip(networks, episodes, strict=True):
            key = network.architecture, id(episode)
            if key not in shared:
                shared[key] = lesson_of(network, episode, encode)
            lessons.append(shared[key])
        inputs = [
            torch.stack(copies).float().to(device) for copies in zip(*(one.inputs for one in lessons), strict=True)
        ]
        targets = torch.stack([one.targets for one in lessons]).float().to(device)
        lesson = lessons[0]
        alone = {} if any(context_loss) else lesson.alone
        first = lesson.context if alone else 0
        outputs = ensemble(*inputs, **lesson.fixed, **alone)
        errors = (outputs - targets[:, :, first:]).square().sum(-1).mean(1)
        return (errors * weights(lesson.context, targets.shape[2])[:, first:]).sum(1)

    return losses


def lesson_of(network: Network, episode: Episode, encode: Callable[[Episode], Tensor] | None) -> Lesson:
    """The lesson of an episode, with other tokens where they are encoded otherwise."""
    lesson = network.lesson(episode)
    return lesson if encode is None else replace(lesson, inputs=(encode(episode), *lesson.inputs[1:]))
