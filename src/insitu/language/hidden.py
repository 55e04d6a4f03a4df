r"""Hidden states of reading against those of training: SimAOU and its controls.

With :math:`h` the output of a layer's attention at the last token, scaled to length 1,

.. math:: \mathrm{SimAOU} = \cos(h_{\mathrm{ICL}} - h_{\mathrm{ZS}},\; h_{\mathrm{FT}} - h_{\mathrm{ZS}})

compares how reading demonstrations and training on them move it away from the zero-shot one. :math:`\mathrm{SimAM}` is
the cosine of the attention scores of the last token on the question's own tokens, before the softmax.

References:
    Dai et al., "Why Can GPT Learn In-Context?" (2023); Deutch et al. (2024) show that the untrained network reaches
    similar values, so that it stands beside as a control.
"""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from insitu.errors import InputError
from insitu.language.pretrained import LanguageModel
from insitu.language.reading import Question, Weights

__all__ = ["attention_outputs", "update_similarity"]

ATTENTION = re.compile(r"(?:layers|h|blocks)\.(\d+)\.(?:self_attn|attn|attention)$")


@torch.no_grad()
def attention_outputs(
    model: LanguageModel, questions: Sequence[Question], weights: Weights | None = None
) -> Float[Tensor, "layer item width"]:
    """What every layer's attention writes at the last token of each prompt, scaled to length 1.

    Raises:
        InputError: If the attention of the model's layers is not found.
    """
    modules = {int(m[1]): module for name, module in model.network.named_modules() if (m := ATTENTION.search(name))}
    if not modules:
        raise InputError(
            f"{model.name}: the attention of its layers is not known here, so no hidden state is compared."
        )
    held: dict[int, list[Tensor]] = {layer: [] for layer in modules}

    def watch(layer: int) -> torch.utils.hooks.RemovableHandle:
        def keep(module: object, inputs: object, output: tuple[Tensor, ...]) -> None:
            held[layer].append(output[0][0, -1].double().cpu())

        return modules[layer].register_forward_hook(keep)

    handles = [watch(layer) for layer in modules]
    try:
        for question in questions:
            inputs = {"input_ids": torch.tensor([question.prompt], device=model.device), "use_cache": False}
            if weights is None:
                model.network(**inputs)
            else:
                functional_call(model.network, dict(weights), (), inputs)
    finally:
        for handle in handles:
            handle.remove()
    found = torch.stack([torch.stack(held[layer]) for layer in sorted(held)])
    return found / found.norm(dim=-1, keepdim=True)


def update_similarity(
    read: Float[Tensor, "layer item width"],
    trained: Float[Tensor, "layer item width"],
    start: Float[Tensor, "layer item width"],
) -> Float[Tensor, "layer item"]:
    """SimAOU of every layer and item; 0 where one of the two has not moved.

    Example:
        >>> start = torch.tensor([[[1.0, 0.0]]])
        >>> read = torch.tensor([[[0.0, 1.0]]])
        >>> round(update_similarity(read, read, start).item(), 6), update_similarity(read, start, start).item()
        (1.0, 0.0)
    """
    a, b = read - start, trained - start
    lengths = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(lengths > 0, (a * b).sum(-1) / lengths, 0.0)
