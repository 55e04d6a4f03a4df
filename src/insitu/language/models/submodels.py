"""Parts of a language model that are trained alone: the value matrices of one layer, adapters, or everything."""

import re
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from insitu.errors import InputError
from insitu.language.models.adapters import Merge, low_rank
from insitu.language.models.pretrained import LanguageModel

__all__ = ["Part", "Submodel", "attention_parts", "select_submodel"]


@final
@dataclass(frozen=True)
class Part:
    """Where a matrix of queries, keys or values lies in a model's weights.

    Args:
        layer: The layer, counted from 0.
        kind: *query*, *key* or *value*.
        name: The weight that holds it.
        take: Which slice: *all*; *columns* of a GPT-2 weight, whose columns are queries, keys and values, one third
            each; *heads* of a GPT-NeoX weight, whose rows are queries, keys and values of one head after the other.
    """

    layer: int
    kind: str
    name: str
    take: str = "all"

    def of(self, weight: Tensor, heads: int) -> Tensor:
        """The matrix, or the bias, inside the weight that holds it; a view."""
        place = ("query", "key", "value").index(self.kind)
        if self.take == "columns":
            return weight.chunk(3, dim=-1)[place]
        if self.take == "heads":
            return weight.unflatten(0, (heads, 3, -1))[:, place]
        return weight


KINDS = {"q": "query", "k": "key", "v": "value"}
SEPARATE = re.compile(
    r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.(?:self_attn|attn|attention|attn\.attention)\.([qkv])_proj\."
)
FUSED = (
    (re.compile(r"(?:^|\.)h\.(\d+)\.attn\.c_attn\."), "columns"),
    (re.compile(r"(?:^|\.)layers\.(\d+)\.attention\.query_key_value\."), "heads"),
)


def attention_parts(names: "list[str]") -> list[Part]:
    """The queries, keys and values among the names of weights: Llama and its kin, GPT-2, and GPT-NeoX.

    Example:
        >>> attention_parts(["model.layers.3.self_attn.v_proj.weight", "lm_head.weight"])
        [Part(layer=3, kind='value', name='model.layers.3.self_attn.v_proj.weight', take='all')]
        >>> [part.kind for part in attention_parts(["transformer.h.0.attn.c_attn.weight"])]
        ['query', 'key', 'value']
    """
    found = []
    for name in names:
        if separate := SEPARATE.search(name):
            found.append(Part(int(separate[1]), KINDS[separate[2]], name))
        for pattern, take in FUSED:
            if fused := pattern.search(name):
                found += [Part(int(fused[1]), kind, name, take) for kind in KINDS.values()]
    return sorted(found, key=lambda part: (part.layer, list(KINDS.values()).index(part.kind), part.name))


@final
@dataclass(frozen=True, eq=False)
class Submodel:
    """Weights that are trained, and for each of them a mask of ones and zeros, or none where all of it is.

    Args:
        name: What it is called.
        network: The network that they are weights of.
        masks: The weights by name.
        merge: From trained weights, with or without a first axis over runs, to weights of the model itself.
    """

    name: str
    network: Any
    masks: dict[str, Tensor | None]
    merge: Merge = dict

    @property
    def start(self) -> dict[str, Tensor]:
        """The weights before training."""
        # Tied weights appear once among the parameters, and functional_call ties them again.
        return {name: p.detach() for name, p in self.network.named_parameters() if name in self.masks}


def select_submodel(model: LanguageModel, name: str) -> Submodel:
    """A part of a model by its name.

    ``all``; ``value:mid`` and ``value:deep``, the value matrix of the layer in the middle, L // 2 of L layers counted
    from 0, and of the last one; or ``value:3`` for that of layer 3, counted from 0; ``lora:8`` for adapters of rank 8,
    see :mod:`insitu.language.models.adapters`.

    Raises:
        InputError: If there is no such part.
    """
    kind, _, which = name.partition(":")
    if kind == "lora" and which.isdecimal():
        network, factors, merge = low_rank(model, int(which))
        return Submodel(name, network, dict.fromkeys(factors), merge)
    weights = dict(model.network.named_parameters())
    if name == "all":
        return Submodel(name, model.network, dict.fromkeys(weights))
    parts = [part for part in attention_parts(list(weights)) if part.kind == "value"]
    layers = sorted({part.layer for part in parts})
    if kind != "value" or not layers:
        raise InputError(
            f"no part of {model.name} is called {name!r}; there are all"
            + (", value:mid, value:deep, value:LAYER and lora:RANK." if layers else " and lora:RANK.")
        )
    layer = {"mid": layers[len(layers) // 2], "deep": layers[-1]}.get(which, which)
    if str(layer) not in map(str, layers):
        raise InputError(f"{model.name} has no layer {which!r}; its layers are {layers[0]} to {layers[-1]}.")
    chosen = [part for part in parts if part.layer == int(layer)]
    masks = {part.name: mask_of(part, weights[part.name], heads_of(model.network)) for part in chosen}
    return Submodel(name, model.network, masks)


def heads_of(network: Any) -> int:
    """How many attention heads a layer has."""
    return network.config.num_attention_heads


def mask_of(part: Part, weight: Tensor, heads: int) -> Tensor | None:
    if part.take == "all":
        return None
    mask = torch.zeros_like(weight)
    part.of(mask, heads).fill_(1.0)
    return mask
