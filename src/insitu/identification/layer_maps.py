r"""What the layers of a network hold: a linear read-out of every layer's state onto the iterates of an algorithm.

From the state of the query tokens after layer l an affine map is fitted, by least squares on one half of the prompts,
to the answers of iterate t; on the other half the share of these answers that it leaves unexplained is measured. A
network that runs the algorithm shows a diagonal of small values. Iterates lie close to one another, so that a low
value alone says little: the same map of a network with random weights is the control.

References:
    Akyurek et al. (2023), What learning algorithm is in-context learning?; Fu et al. (2023), section 4.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError
from insitu.identification.scoring import predicted
from insitu.learners import GradientDescent, Learner, Newton, OnlineDescent
from insitu.models import Network
from insitu.prompt import Prompt
from insitu.seed import Seed

__all__ = ["IterateMap", "iterate_map", "iterates_of", "untrained"]


@final
@dataclass(frozen=True, eq=False)
class IterateMap:
    """How much of each iterate's answers a layer's state leaves unexplained.

    Args:
        algorithm: The algorithm whose iterates these are.
        iterates: What the columns are: steps, or examples read.
        unexplained: A row for every layer, the embedding first; a column for every iterate. At least 0; above 1
            where the read-out is worse than answering zero.
    """

    algorithm: str
    iterates: tuple[int, ...]
    unexplained: Float[Tensor, "layer iterate"]

    def nearest(self) -> list[int]:
        """The iterate that each layer holds best."""
        return [self.iterates[i] for i in self.unexplained.argmin(1).tolist()]


def iterates_of(prompt: Prompt, rate: float, steps: int) -> dict[str, tuple[tuple[int, ...], list[Tensor]]]:
    """The answers of iterates: of descent and of Newton's method after 1, 2, ... steps, of online descent by examples.

    Args:
        prompt: The prompts.
        rate: The rate of gradient descent; online descent has this rate over the number of examples.
        steps: How many steps.
    """
    counts = tuple(range(1, steps + 1))
    read = tuple(sorted({max(1, round(prompt.points * (i + 1) / steps)) for i in range(steps)}))
    online = OnlineDescent(rate=rate / prompt.points)
    learners: dict[str, list[Learner]] = {
        "gradient descent": [GradientDescent(steps=t, rate=rate) for t in counts],
        "Newton": [Newton(steps=t) for t in counts],
    }
    found = {name: (counts, [predicted(one, prompt) for one in each]) for name, each in learners.items()}
    return {**found, "online descent": (read, [predicted(online, prompt.prefix(j)) for j in read])}


@torch.no_grad()
def iterate_map(network: Network, prompt: Prompt, *, rate: float, steps: int | None = None) -> list[IterateMap]:
    """Read every layer's state out onto the iterates of three algorithms.

    Args:
        network: The network.
        prompt: Prompts that fit it; even ones are for fitting, odd ones for measuring.
        rate: The rate of the algorithms, such as an identification found.
        steps: How many iterates; as many as layers where none is given.

    Raises:
        InputError: If there are fewer prompts than a read-out has numbers.
    """
    width = network.architecture.width + 1
    asked = prompt.queries.shape[1]
    if prompt.batch // 2 * asked <= 2 * width:
        raise InputError(
            f"iterate_map: a read-out of {width} numbers needs more than {2 * width} queries in each half of the "
            f"prompts; got {prompt.batch} prompts with {asked} each. Give more prompts."
        )
    states = [nn.functional.pad(state.double(), (0, 1), value=1.0) for state in network.query_states(prompt)]
    found = iterates_of(prompt.to(torch.float64), rate, steps or network.architecture.layers)
    return [
        IterateMap(name, counts, torch.stack([unexplained(state, targets) for state in states]))
        for name, (counts, targets) in found.items()
    ]


def unexplained(state: Float[Tensor, "batch query width"], targets: Sequence[Tensor]) -> Float[Tensor, " iterate"]:
    """The share of each target that the best map of the state leaves, on prompts that it was not fitted on."""
    goal = torch.cat([t.double() for t in targets], dim=-1)
    (seen, unseen), (known, asked) = ((t[0::2].flatten(0, 1), t[1::2].flatten(0, 1)) for t in (state, goal))
    maps = torch.linalg.lstsq(seen, known, driver="gelsd").solution
    missed = (unseen @ maps - asked).square().mean(0) / asked.square().mean(0).clamp(min=1e-300)
    return missed.unflatten(0, (len(targets), -1)).mean(1)


def untrained(network: Network, seed: Seed, copies: int = 1) -> list[Network]:
    """Networks of the same shape whose matrices are random, as large as the network's own in the root mean square."""
    made = []
    for index in range(copies):
        control = copy.deepcopy(network)
        with torch.no_grad():
            for name, weight in control.named_parameters():
                # Gains and offsets of a norm are no directions, and stay.
                if weight.ndim > 1:
                    size = weight.double().square().mean().sqrt()
                    weight.copy_(size * (seed / index / name).normal(*weight.shape))
        made.append(control)
    return made
