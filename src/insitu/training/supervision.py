"""What networks are trained on: batches of prompts, and the squared error of every copy at every token."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError
from insitu.models import AttentionNetwork, Transformer
from insitu.models.block import hidden
from insitu.prompt import Episode
from insitu.seed import Seed
from insitu.tasks import FunctionTask
from insitu.training.ensemble import Ensemble

__all__ = ["Batches", "token_losses"]


@final
@dataclass(frozen=True)
class Batches:
    """Which prompts a training sees.

    Args:
        size: Prompts per step.
        points: Examples in a prompt.
        queries: Independent queries in a prompt.
        different: How many different batches there are, used in turn; 0 for a fresh one at every step.
        permuted: Whether the examples come in a new order at every step, one order for the whole batch.

    References:
        Ding et al. (2024), appendices E.3 (``different``) and E.5 (``permuted``).
    """

    size: int
    points: int
    queries: int = 1
    different: int = 0
    permuted: bool = False

    def at(self, step: int, task: FunctionTask, seed: Seed) -> Episode:
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
    """The loss of every copy on an episode of its own.

    It is the mean, over prompts and tokens, of the squared norm of what is read out minus what is wanted: the answer
    at a query, and zero at a context token, which counts only with ``context_loss``.

    Args:
        ensemble: Copies of a :class:`~insitu.models.Transformer`, whose masks may differ, or of an
            :class:`~insitu.models.AttentionNetwork`, whose may not.
        context_loss: For every copy, whether context tokens count.
        device: Where to compute.
        encode: The tokens of an episode; those of the networks where none is given.

    Raises:
        InputError: If attention networks differ in their mask, which is a part of their computation.

    References:
        Ding et al. (2024), section 5.2; the loss on context outputs is its regulariser "L2".
    """
    networks: list[Transformer | AttentionNetwork] = ensemble.networks
    masks = [network.architecture.mask for network in networks]
    if isinstance(networks[0], AttentionNetwork) and len(set(masks)) > 1:
        raise InputError("token_losses: attention networks with different masks cannot be one ensemble; make one each.")

    @functools.cache
    def unseen(points: int, queries: int) -> Tensor:
        return torch.stack([hidden(mask.visible(points, queries), torch.zeros(1)) for mask in masks]).to(device)

    @functools.cache
    def weights(points: int, queries: int) -> Tensor:
        counted = (torch.arange(points + queries) >= points) | torch.tensor(context_loss)[:, None]
        return (counted / counted.sum(1, keepdim=True)).to(device)

    def read(tokens: Tensor, points: int, queries: int) -> Tensor:
        if isinstance(networks[0], Transformer):
            return ensemble(tokens, unseen(points, queries), context=points)
        return ensemble(tokens, context=points) @ ensemble.weights["readout"].mT[:, None]

    def losses(episodes: Sequence[Episode]) -> Tensor:
        # Copies often share their episodes: each is encoded once.
        distinct = {id(episode): episode for episode in episodes}
        own = {key: encode(e) if encode else networks[0].encode(e.prompt) for key, e in distinct.items()}
        tokens = torch.stack([own[id(episode)] for episode in episodes]).float().to(device)
        answers = torch.stack([episode.answers for episode in episodes]).float().to(device)
        queries = answers.shape[2]
        points = tokens.shape[2] - queries
        wanted = nn.functional.pad(answers, (0, 0, points, 0))
        wrong = (read(tokens, points, queries) - wanted).square().sum(-1).mean(1)
        return (wrong * weights(points, queries)).sum(1)

    return losses
