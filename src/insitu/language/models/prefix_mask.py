"""A causal language model under a prefix mask: demonstrations see each other, what follows is causal."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from insitu.errors import InputError
from insitu.language.models.pretrained import LanguageModel

__all__ = ["Attention", "added_to_scores", "prefix_lengths", "prefix_mask"]

Attention = Literal["causal", "prefix"]

# The kernels of transformers that add a floating mask to the scores. Flex attention takes a mask of another kind.
KERNELS = ("sdpa", "eager")


def prefix_mask(network: Any, lengths: Int[Tensor, " prompt"], size: int) -> Float[Tensor, "prompt 1 row column"]:
    r"""What is added to attention scores: 0 where a token sees another, the least number elsewhere.

    Token r sees token c if :math:`c \le r`, or if both stand before the prefix length :math:`p`. The mask is floating:
    a boolean one is right for the kernel *sdpa* and silently wrong for *eager*, which adds it as 0 and 1.

    Args:
        network: A causal language model of transformers.
        lengths: The prefix length p of each prompt; 0 leaves it causal.
        size: The number of tokens.

    Raises:
        InputError: If the network's attention kernel takes no such mask.

    References:
        The prefix mask of Ding et al. (2024), on a model that was trained without it.
    """
    kernel = network.config._attn_implementation
    if kernel not in KERNELS:
        raise InputError(
            f"prefix mask: the model attends by {kernel!r}, which takes no mask of numbers; load it with one of "
            f"{', '.join(KERNELS)} (network.set_attn_implementation)."
        )
    place = torch.arange(size, device=lengths.device)
    inside = place < lengths[:, None]
    seen = (place <= place[:, None]) | (inside[:, :, None] & inside[:, None, :])
    return added_to_scores(seen, network.dtype)[:, None]


def added_to_scores(seen: Bool[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
    """A mask as the numbers that are added to attention scores: zero, or the least number where nothing is seen.

    Example:
        >>> added_to_scores(torch.tensor([True, False]), torch.float64).tolist()
        [0.0, -1.7976931348623157e+308]
    """
    # Filled, as torch.where takes numbers for single precision, beyond which the least double lies.
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


def prefix_lengths(model: LanguageModel, stem: str, prompts: Sequence[str]) -> Int[Tensor, " prompt"]:
    """How many leading tokens of each prompt belong to the stem that all begin with.

    A token across the end of the stem is not counted: tokens are compared, as cutting the text first and taking it
    apart after that can give other ones.

    Raises:
        InputError: If a prompt does not begin with the stem.
    """
    told = model.encode(stem)
    found = []
    for prompt in prompts:
        if not prompt.startswith(stem):
            raise InputError(f"prefix mask: a prompt does not begin with the demonstrations but with {prompt[:60]!r}.")
        pairs = zip(told, model.encode(prompt), strict=False)
        found.append(next((place for place, (a, b) in enumerate(pairs) if a != b), len(told)))
    return torch.tensor(found)
