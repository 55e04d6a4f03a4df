r"""Continuations: blocks of text that are cut at a random place, of which the loss counts what stands behind the cut.

.. math:: -\frac{1}{\sum_b (T - p_b)} \sum_b \sum_{t \ge p_b} \log p_\theta(\text{token}_t \mid \text{tokens before } t)

with :math:`T` tokens in a block and :math:`p_b` in the prefix of block :math:`b`. Under the causal mask no token sees a
later one; under the prefix mask those of the prefix see each other. Nothing else differs: neither mask shows what is
predicted, both count the same tokens, and the same code makes both.

References:
    Ding et al. (2024), section 5.3: decoders pretrained under either mask.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from insitu.language.models.forwards import marked_places, run
from insitu.language.models.prefix_mask import Attention, prefix_attention
from insitu.seed import Seed

__all__ = ["IGNORED", "answer_losses", "continuation", "cuts"]

# The label of a token that the loss leaves out, as transformers has it.
IGNORED = -100


def cuts(seed: Seed, blocks: Iterable[int], window: int) -> Int[Tensor, " block"]:
    """The length of each block's prefix, uniform between 1 and one less than the window.

    A block's cut depends on its number alone, so it is the same under both masks and in a longer training.

    Args:
        seed: Where they are drawn.
        blocks: The numbers of the blocks.
        window: How many tokens a block has.

    Example:
        >>> cuts(Seed(0), range(6), 8).tolist() == cuts(Seed(0), range(9), 8)[:6].tolist()
        True
    """
    return torch.tensor([1 + int((seed / "cut" / number).integers(window - 1, 1)) for number in blocks])


def continuation(block: np.ndarray, cut: int, attention: Attention) -> dict[str, Tensor]:
    """A block as the loss takes it: its tokens, those that are predicted, and how many of the first see each other.

    Example:
        >>> example = continuation(np.array([5, 6, 7]), 2, "causal")
        >>> example["labels"].tolist(), example["prefix"].item()
        ([-100, -100, 7], 0)
    """
    ids = torch.from_numpy(block.astype(np.int64))
    labels = ids.masked_fill(torch.arange(len(ids)) < cut, IGNORED)
    return {"input_ids": ids, "labels": labels, "prefix": torch.tensor(cut if attention == "prefix" else 0)}


def answer_losses(network: Any, batch: Mapping[str, Tensor]) -> Float[Tensor, " token"]:
    """The negative log-probability of every token that is not left out, of sequences that are read together.

    Both masks are made by the same code, so that the same kernel runs under both.

    Args:
        network: A causal language model of transformers.
        batch: ``input_ids`` and ``labels`` (row, place), and ``prefix`` (row), how many tokens see each other.
    """
    counted = batch["labels"] != IGNORED
    size = int(counted.any(0).nonzero().max())
    kept = marked_places(counted[:, 1:])
    with prefix_attention(network, batch["prefix"]):
        logits, _ = run(network, batch["input_ids"][:, :size], kept)
    labels = batch["labels"].gather(1, kept + 1)
    return cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED], reduction="none")
