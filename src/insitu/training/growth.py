"""Curricula: a size that grows during training."""

from dataclasses import dataclass
from typing import final

from insitu.errors import require_count

__all__ = ["Growth"]


@final
@dataclass(frozen=True)
class Growth:
    """A whole number that starts small and grows in equal steps up to its end.

    Args:
        start: The number at step 0.
        by: The increment.
        every: The number of training steps between two increments.

    References:
        Garg et al. (2022), section 4: dimensions ``Growth(5, 1, 2000)`` and examples ``Growth(11, 2, 2000)``.

    Example:
        >>> [Growth(start=5, by=1, every=2000).at(step, end=20) for step in (0, 1999, 2000, 30_000, 10**6)]
        [5, 5, 6, 20, 20]
    """

    start: int
    by: int
    every: int

    def __post_init__(self) -> None:
        for name in ("start", "by", "every"):
            require_count("Growth", name, getattr(self, name), least=1)

    def at(self, step: int, end: int) -> int:
        """The number at a training step, counted from 0."""
        return min(end, self.start + self.by * (step // self.every))
