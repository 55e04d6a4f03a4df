"""Attention masks as values.

A sequence is n context tokens followed by m query tokens. In every mask here a token sees a leading part of the
context, so a mask is given by one number per token (its count) and by whether a query also sees itself. No query
ever sees another query, so m queries in one sequence equal m sequences with one.
"""

import abc
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from insitu.errors import require_count

__all__ = ["Causal", "Mask", "Prefix", "SelfVisible"]

# A context longer than any.
LONG = 2**62


class Mask(abc.ABC):
    """An attention mask over context tokens and independent query tokens."""

    @abc.abstractmethod
    def span(self, context: int) -> int:
        """The number of leading context tokens that every context token sees, whatever its position."""

    @abc.abstractmethod
    def query_sees_itself(self) -> bool:
        """Whether a query token attends to itself too."""

    @final
    @property
    def symmetric(self) -> bool:
        """Whether all context tokens see each other at any length, so that their order has no effect."""
        return self.span(LONG) == LONG

    @final
    def counts(self, context: int, queries: int) -> Int[Tensor, " token"]:
        """How many leading context tokens each token sees: max(j, span) at position j, n at a query."""
        places = torch.arange(1, context + 1).clamp(min=self.span(context))
        return torch.cat([places, torch.full((queries,), context)])

    @final
    def visible(self, context: int, queries: int) -> Bool[Tensor, "row column"]:
        """The full matrix: row = attending token, column = attended token."""
        size = context + queries
        matrix = torch.arange(size) < self.counts(context, queries)[:, None]
        if self.query_sees_itself():
            itself = torch.arange(context, size)
            matrix[itself, itself] = True
        return matrix

    @final
    def picture(self, context: int, queries: int) -> str:
        """The matrix as text: ``#`` where the row's token sees the column's."""
        rows = self.visible(context, queries).tolist()
        return "\n".join(" ".join("#" if seen else "." for seen in row) for row in rows)


@final
@dataclass(frozen=True)
class Prefix(Mask):
    """Context tokens see each other up to ``length``; after that, themselves and what came before.

    Args:
        length: The prefix length (default: the whole context).

    Example:
        >>> print(Prefix().picture(context=4, queries=2))
        # # # # . .
        # # # # . .
        # # # # . .
        # # # # . .
        # # # # . .
        # # # # . .
        >>> print(Prefix(length=2).picture(context=4, queries=2))
        # # . . . .
        # # . . . .
        # # # . . .
        # # # # . .
        # # # # . .
        # # # # . .
    """

    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None:
            require_count("Prefix", "length", self.length)

    def span(self, context: int) -> int:
        return context if self.length is None else min(self.length, context)

    def query_sees_itself(self) -> bool:
        return False


@final
@dataclass(frozen=True)
class Causal(Mask):
    """A context token sees itself and what came before; a query sees the whole context.

    Example:
        >>> print(Causal().picture(context=4, queries=2))
        # . . . . .
        # # . . . .
        # # # . . .
        # # # # . .
        # # # # . .
        # # # # . .
    """

    def span(self, context: int) -> int:
        return 0

    def query_sees_itself(self) -> bool:
        return False


@final
@dataclass(frozen=True)
class SelfVisible(Mask):
    """The same mask, but a query also sees itself.

    Zhang et al. (2024) leave the query in the sum; Ding et al. (2024) must not, or the answer decays to zero.

    Example:
        >>> print(SelfVisible(Causal()).picture(context=2, queries=2))
        # . . .
        # # . .
        # # # .
        # # . #
    """

    mask: Mask

    def span(self, context: int) -> int:
        return self.mask.span(context)

    def query_sees_itself(self) -> bool:
        return True
