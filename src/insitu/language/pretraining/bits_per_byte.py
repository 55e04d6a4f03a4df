"""How well a model predicts a text, in a unit that does not depend on its tokeniser."""

import math

import torch

from insitu.errors import InputError
from insitu.language.models.pretrained import LanguageModel

__all__ = ["bits_per_byte"]


@torch.no_grad()
def bits_per_byte(model: LanguageModel, text: str, *, batch: int = 8, window: int | None = None) -> float:
    r"""What a model needs to predict a text in blocks of a window, :math:`-\sum \log_2 p(\text{token}) / \text{bytes}`.

    Tokenisers differ in what a token is; a byte is the same for all. Every block but the first begins without what
    stood before it.

    Raises:
        InputError: If the text is empty.
    """
    size = window or model.window
    ids = model.encode(text)
    if len(ids) < 2:
        raise InputError("bits per byte: the text is empty.")
    blocks = [ids[i : i + size] for i in range(0, len(ids) - 1, size - 1)]
    nats = 0.0
    for start in range(0, len(blocks), batch):
        part = blocks[start : start + batch]
        length = max(map(len, part))
        rows = torch.tensor([row + [0] * (length - len(row)) for row in part], device=model.device)
        logits = model.network(input_ids=rows, use_cache=False).logits[:, :-1].double().log_softmax(-1)
        inside = torch.arange(length - 1, device=model.device) < torch.tensor(
            [[len(row) - 1] for row in part], device=model.device
        )
        nats -= (logits.gather(-1, rows[:, 1:, None])[..., 0] * inside).sum().item()
    return nats / math.log(2) / len(text.encode())
