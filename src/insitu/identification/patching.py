r"""Patching: the state of a query at a layer is replaced by that from another prompt; whose answer comes out?

A prompt has a context A and a query x, the donor a context B and a query x'. With the donor's state put in after layer
l the network answers something between the four answers of its own to A or B about x or x',

.. math:: \hat y_l = a f_A(x) + b f_A(x') + c f_B(x) + d f_B(x').

Before the first layer only the query is replaced, so that b = 1; after the last one everything is, so that d = 1. Where
the weight of :math:`f_A(x')` passes to :math:`f_B(x')` the state has taken up what it needs of its context. A large c
would be a task vector: the donor's task, applied to the query that stands there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from insitu.errors import InputError
from insitu.figure import Figure, Panel, line
from insitu.identification.interval import Interval
from insitu.metrics.estimate import CONFIDENCE
from insitu.models import Network
from insitu.prompt import Prompt

__all__ = ["PatchedLayer", "patched_answers", "patching", "patching_figure"]

CORNERS = ("own context, own query", "own context, donor's query", "donor's context, own query", "donor's answer")


@final
@dataclass(frozen=True)
class PatchedLayer:
    """What comes out when the queries' states after a layer are the donor's.

    Args:
        layer: The layer; 0 is before the first one.
        weights: The weights of the four answers, with intervals at 99 %.
        unexplained: The share of the patched answers that they leave.
    """

    layer: int
    weights: tuple[Interval, ...]
    unexplained: float


@torch.no_grad()
def patched_answers(network: Network, prompt: Prompt, donor: Prompt, layer: int) -> Float[Tensor, "batch query out"]:
    """The answers to a prompt with the states of its queries after a layer replaced by those of a donor.

    Raises:
        InputError: If the two have other shapes, or there is no such layer.
    """
    if prompt.queries.shape != donor.queries.shape:
        raise InputError(
            f"patching: prompt and donor must have queries of one shape; got {tuple(prompt.queries.shape)} and "
            f"{tuple(donor.queries.shape)}."
        )
    given = list(network.query_states(donor))
    if not 0 <= layer < len(given):
        raise InputError(f"patching: layer must lie between 0 and {len(given) - 1}; got {layer}.")
    for index, state in enumerate(network.query_states(prompt)):
        if index == layer:
            # What is yielded is a part of the stream that the next layer reads.
            state.copy_(given[layer])
    return network.read_out(state).to(prompt.ys)


def patching(network: Network, prompt: Prompt, donor: Prompt) -> list[PatchedLayer]:
    """Whose answer comes out, layer by layer.

    Args:
        network: A network of this package.
        prompt: Prompts.
        donor: As many others, from the same tasks or from different ones.

    Raises:
        InputError: If the two have other shapes.

    References:
        Hendel, Geva and Globerson (2023), In-context learning creates task vectors.
    """
    with torch.no_grad():
        own, others = Prompt(prompt.xs, prompt.ys, donor.queries), Prompt(donor.xs, donor.ys, prompt.queries)
        corners = torch.stack([network.predict(p).double() for p in (prompt, own, others, donor)], dim=-1)
        layers = len(list(network.query_states(prompt)))
    return [weighed(layer, patched_answers(network, prompt, donor, layer).double(), corners) for layer in range(layers)]


def weighed(
    layer: int, answers: Float[Tensor, "batch query out"], corners: Float[Tensor, "batch query out corner"]
) -> PatchedLayer:
    """The best weights, with Student's intervals over prompts."""
    batch = len(answers)
    table, goal = corners.flatten(1, 2), answers.flatten(1)
    weights = torch.linalg.lstsq(table.flatten(0, 1), goal.flatten()[:, None], driver="gelsd").solution[:, 0]
    missed = goal - table @ weights
    information = torch.linalg.pinv(table.flatten(0, 1).mT @ table.flatten(0, 1), hermitian=True)
    scores = torch.einsum("bec,be->bc", table, missed)
    freedom = max(batch - len(CORNERS), 1)
    spread = information @ (scores.mT @ scores) @ information * (batch / freedom)
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * spread.diagonal().clamp(min=0).sqrt()
    rows = zip(CORNERS, weights.tolist(), half.tolist(), strict=True)
    left = (missed.square().sum() / goal.square().sum().clamp(min=1e-300)).item()
    return PatchedLayer(layer, tuple(Interval(name, w, w - h, w + h) for name, w, h in rows), left)


def patching_figure(same: Sequence[PatchedLayer], other: Sequence[PatchedLayer]) -> Figure:
    """The weights by layer, for donors of the same task and of others."""

    def panel(layers: Sequence[PatchedLayer], title: str) -> Panel:
        places = [given.layer for given in layers]
        lines = []
        for k, name in enumerate(CORNERS):
            each = [given.weights[k] for given in layers]
            ends = {"low": [w.low for w in each], "high": [w.high for w in each]}
            lines.append(line(name, places, [w.value for w in each], colour=k, **ends))
        return Panel("patched after layer", "weight of the answer", tuple(lines), title=title)

    return Figure(
        (panel(same, "donor of the same task"), panel(other, "donor of another task")),
        "Whose answer comes out when the state of a query is replaced by a donor's after a layer: weights of the "
        "network's four answers to either context about either query.",
        "Four curves over layers; the weight passes from the own context to the donor's.",
    )
