"""How far answers are from the truth, or from other answers."""

from jaxtyping import Float
from torch import Tensor

from insitu.prompt import Episode

__all__ = ["largest_gap", "squared_error"]


def squared_error(answers: Float[Tensor, "*layer batch query out"], episode: Episode) -> Float[Tensor, "*layer batch"]:
    """Squared error against the noise-free truth, summed over outputs, mean over queries: one number a prompt."""
    return (answers - episode.answers).square().sum(-1).mean(-1)


def largest_gap(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference; NaN if either has one."""
    return (a - b).abs().max().item()
