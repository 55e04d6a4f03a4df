"""The recipe of a pretraining, and what its files are called."""

from dataclasses import dataclass
from typing import final, get_args

import numpy as np

from insitu.errors import InputError, require_count, require_not_negative, require_one_of
from insitu.language.models.prefix_mask import Attention

__all__ = ["DECAY", "METRICS", "SEPARATOR", "SNAPSHOTS", "STATE", "Pretraining"]

SEPARATOR = "<|endoftext|>"
STATE = "state"
SNAPSHOTS = "snapshots"
METRICS = "metrics.jsonl"
# The share of the steps over which the rate falls.
DECAY = 0.2


@final
@dataclass(frozen=True)
class Pretraining:
    """What is trained and for how long.

    Args:
        vocabulary: How many tokens there are.
        width: The width of the residual stream.
        layers: How many blocks.
        heads: How many attention heads a block has.
        inner: The width inside the feed-forward parts.
        window: How many tokens a block of text, and so a prompt, has.
        batch: How many blocks one step sees.
        steps: How many steps.
        rate: The highest rate of AdamW.
        seed: The root of the start and of the cuts.
        mask: *causal* or *prefix*, for a loss on continuations of blocks that are cut at a random place
            (:mod:`insitu.language.pretraining.continuations`); none for the usual loss on whole blocks.

    Raises:
        InputError: If a number is out of its range.
    """

    vocabulary: int = 2048
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 384
    window: int = 1024
    batch: int = 4
    steps: int = 2000
    rate: float = 3e-3
    seed: int = 0
    mask: Attention | None = None

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "inner", "batch", "steps"):
            require_count("pretraining", name, getattr(self, name), least=1)
        require_count("pretraining", "window", self.window, least=8)
        require_count("pretraining", "vocabulary", self.vocabulary, least=257)  # the bytes and the separator
        require_count("pretraining", "seed", self.seed)
        require_not_negative("pretraining", "rate", self.rate, zero=False)
        if self.mask is not None:
            require_one_of("pretraining", "mask", self.mask, get_args(Attention))
        if self.width % (2 * self.heads):
            raise InputError(
                f"pretraining: width must be an even multiple of heads; got {self.width} and {self.heads} heads."
            )
        if self.vocabulary > np.iinfo(np.uint16).max:
            raise InputError(f"pretraining: vocabulary must be at most 65535; got {self.vocabulary}.")

    @property
    def tokens(self) -> int:
        """How many tokens the training sees."""
        return self.steps * self.batch * self.window
