"""A causal language model under a prefix mask: demonstrations see each other, what follows is causal."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from insitu.errors import InputError
from insitu.language.models.pretrained import LanguageModel

__all__ = ["Attention", "prefix_attention", "prefix_lengths"]

Attention = Literal["causal", "prefix"]

# The kernels of transformers that take a mask of any form.
KERNELS = ("sdpa", "eager")
# Whether a token (batch, head, row) sees another (column), each as indices that broadcast.
Seen = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@contextlib.contextmanager
def prefix_attention(network: Any, lengths: Int[Tensor, " prompt"]) -> Iterator[None]:
    r"""Inside, the first tokens of every row of a batch see each other as far as the network lets tokens look back.

    With :math:`o(r, c)` the network's own mask, causal and perhaps windowed, and p the prefix length, token r sees
    token c if

    .. math:: o(r, c) \;\text{ or }\; \big( r < p,\; c < p \;\text{ and }\; o(c, r) \big).

    So a prefix of length zero is the network's own attention, and one over full attention is the usual prefix mask.

    Args:
        network: A causal language model of transformers.
        lengths: The prefix length p of each row.

    Raises:
        InputError: If the network's attention kernel takes no such mask.

    References:
        The prefix mask of Ding et al. (2024), on a model that was trained without it.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    kernel = network.config.get_text_config(decoder=True)._attn_implementation
    if kernel not in KERNELS:
        raise InputError(
            f"prefix mask: the model attends by {kernel!r}, which takes no such mask; load it with one of "
            f"{', '.join(KERNELS)} (network.set_attn_implementation)."
        )
    own = ALL_MASK_ATTENTION_FUNCTIONS[kernel]

    def masked(*, mask_function: Seen, allow_is_causal_skip: bool = False, **rest: Any) -> Any:
        return own(mask_function=both_ways(mask_function, lengths), allow_is_causal_skip=False, **rest)

    ALL_MASK_ATTENTION_FUNCTIONS[kernel] = masked
    try:
        yield
    finally:
        del ALL_MASK_ATTENTION_FUNCTIONS[kernel]


def both_ways(own: Seen, lengths: Int[Tensor, " prompt"]) -> Seen:
    """The mask of a network, and its mirror image inside each prefix."""

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        inside = (query < lengths[row]) & (key < lengths[row])
        return own(row, head, query, key) | (inside & own(row, head, key, query))

    return seen


def prefix_lengths(model: LanguageModel, stem: str, prompts: Sequence[str]) -> Int[Tensor, " prompt"]:
    """How many leading tokens of each prompt belong to the stem that all begin with.

    A token across the end of the stem is not counted: tokens are compared, as cutting the text first and taking it
    apart after that can give other ones.

    Raises:
        InputError: If a prompt does not begin with the stem.
    """
    known = model.encode(stem)
    found = []
    for prompt in prompts:
        if not prompt.startswith(stem):
            raise InputError(f"prefix mask: a prompt does not begin with the demonstrations but with {prompt[:60]!r}.")
        pairs = zip(known, model.encode(prompt), strict=False)
        found.append(next((place for place, (a, b) in enumerate(pairs) if a != b), len(known)))
    return torch.tensor(found)
