r"""Text as an autoregressive sequence: is each embedding a linear function of the one before, within a short window?

The sequence :math:`s_1, \dots, s_T` of a window's token embeddings is fitted by :math:`s_{t+1} \approx A s_t` in least
squares, and rolled out from :math:`s_1` by the fit. With fewer pairs than dimensions the fit is exact unless a token
repeats inside the window with two different successors: what the error of many windows measures is repetition, and
hardly the geometry of the embeddings.

References:
    Sander et al. (2024), figure 4; that it measures repetition is derived here.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from insitu.errors import InputError, require_count
from insitu.language.models.pretrained import LanguageModel
from insitu.seed import Seed

__all__ = ["conflicting_repeats", "rollout_errors", "shuffled_windows", "text_windows", "unit_embeddings"]


def unit_embeddings(model: LanguageModel) -> Float[Tensor, "token dim"]:
    """The model's input embeddings, in float64 and each of length one; rows of zeros stay."""
    weight = model.network.get_input_embeddings().weight.detach().double().cpu()
    return weight / weight.norm(dim=1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def text_windows(model: LanguageModel, texts: Iterable[str], size: int = 5) -> Int[Tensor, "window size"]:
    """Texts, one after the other, as windows of so many tokens; what is left at the end is dropped.

    Raises:
        InputError: If the size is below 2 or the texts do not fill a window.
    """
    require_count("text_windows", "size", size, least=2)
    tokens = [t for text in texts for t in model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids]
    if len(tokens) < size:
        raise InputError(f"text_windows: the texts hold {len(tokens)} tokens; a window needs {size}. Give more text.")
    return torch.tensor(tokens[: len(tokens) // size * size]).view(-1, size)


def shuffled_windows(windows: Int[Tensor, "window size"], seed: Seed) -> Int[Tensor, "window size"]:
    """All tokens of all windows in a random order, in windows again."""
    return windows.flatten()[seed.permutation(windows.numel())].view(windows.shape)


def conflicting_repeats(windows: Int[Tensor, "window size"]) -> Bool[Tensor, " window"]:
    """Whether a token stands twice in a window, with two different successors there.

    Example:
        >>> conflicting_repeats(torch.tensor([[1, 2, 1, 2, 1], [1, 2, 1, 3, 4], [1, 2, 3, 4, 1]])).tolist()
        [False, True, False]
    """
    now, after = windows[:, :-1], windows[:, 1:]
    same = now[:, :, None] == now[:, None]
    other = after[:, :, None] != after[:, None]
    return (same & other).flatten(1).any(1)


def rollout_errors(sequences: Float[Tensor, "window size dim"]) -> Float[Tensor, " window"]:
    """The mean squared error of sequences rolled out from their first entry by the least-squares fit of least norm.

    Raises:
        InputError: If a sequence has fewer than two entries, or a number is not finite.

    Example:
        >>> line = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
        >>> rollout_errors(line).item() < 1e-12
        True
    """
    if sequences.shape[1] < 2:
        raise InputError(f"rollout_errors: a sequence needs at least two entries; got {sequences.shape[1]}.")
    if not sequences.isfinite().all():
        raise InputError("rollout_errors: the sequences hold NaN or infinity; every number must be finite.")
    sequences = sequences.double()
    before, after = sequences[:, :-1], sequences[:, 1:]
    # A = after' (before')^+, applied to a vector without ever forming the dim x dim matrix.
    inverse = torch.linalg.pinv(before.mT)
    state, error = sequences[:, 0], torch.zeros(len(sequences), dtype=torch.float64)
    for step in range(1, sequences.shape[1]):
        state = (after.mT @ (inverse @ state[..., None]))[..., 0]
        error += (state - sequences[:, step]).square().sum(-1)
    return error / sequences[0].numel()
