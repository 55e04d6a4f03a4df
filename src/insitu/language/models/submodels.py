"""Parts of a language model that are trained alone: the value matrices of one layer, adapters, or everything."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from insitu.errors import InputError
from insitu.language.models.adapters import Merge, low_rank
from insitu.language.models.pretrained import LanguageModel

__all__ = ["AttentionPart", "HeadCounts", "Submodel", "attention_parts", "parts_of", "select_submodel"]


@final
@dataclass(frozen=True)
class HeadCounts:
    """The sizes of a model's attention.

    Args:
        count: Heads of queries in a layer.
        depth: Entries of a head.
        width: Entries of a token's state.
    """

    count: int
    depth: int
    width: int

    @classmethod
    def of(cls, config: Any) -> "HeadCounts":
        """Those of a configuration of transformers."""
        text = config.get_text_config(decoder=True)
        count, width = text.num_attention_heads, text.hidden_size
        return cls(count, getattr(text, "head_dim", None) or width // count, width)


@final
@dataclass(frozen=True)
class AttentionPart:
    """Where a matrix of queries, keys or values lies in a model's weights.

    Along the axis of what the weight puts out, its entries are equal groups, and of each the same slice is taken.

    Args:
        layer: The layer, counted from 0.
        kind: *query*, *key* or *value*.
        name: The weight that holds it.
        axis: The axis of outputs.
        groups: How many groups.
        start: Where the slice of each begins.
        stop: Where it ends.
    """

    layer: int
    kind: str
    name: str
    axis: int
    groups: int
    start: int
    stop: int

    def of(self, weight: Tensor) -> Tensor:
        """The matrix, or the bias, inside the weight that holds it; a view."""
        grouped = weight.unflatten(self.axis, (self.groups, -1))
        return grouped.narrow(self.axis + 1, self.start, self.stop - self.start)


KINDS = ("query", "key", "value")
LETTERS = {"q": "query", "k": "key", "v": "value"}
# A layer of the text model: towers that see or hear are none of it.
LAYER = r"^(?!.*(?:vision|visual|audio))(?:.*\.)?(?:layers|h|blocks|layer|attentions)\.(\d+)\."
SEPARATE = re.compile(
    LAYER
    + r"(?:(?:self_attn|attn|attention|attn\.attention|temporal_block)\.(?P<projection>[qkv])_proj|"
    + r"attention\.self\.(?P<word>query|key|value)|multi_head_attention\.W(?P<letter>[qkv])|(?P<linear>[qkv])_lin)"
    + r"\.(?:weight|bias)$"
)
FUSED = re.compile(LAYER + r"(?:\w+\.)+(c_attn|query_key_value|qkv_proj|Wqkv)\.(?:weight|bias)$")


def attention_parts(shapes: Mapping[str, Sequence[int]], heads: HeadCounts) -> list[AttentionPart]:
    """The queries, keys and values among weights, by the names of modules and the shapes of what they hold.

    Weights of their own, as in Llama, OPT or RoBERTa; blocks one after the other, as in GPT-2, Phi-3 or MPT; and groups
    of some queries with their key and value, as in GPT-NeoX, Bloom, Falcon or GPT-BigCode.

    Args:
        shapes: The shape of every weight by its name.
        heads: The sizes of the model's attention.

    Example:
        >>> one = attention_parts({"model.layers.3.self_attn.v_proj.weight": (8, 16)}, HeadCounts(2, 8, 16))
        >>> [(part.layer, part.kind, part.stop) for part in one]
        [(3, 'value', 8)]
        >>> fused = attention_parts({"transformer.h.0.attn.c_attn.weight": (32, 16)}, HeadCounts(2, 8, 16))
        >>> [(part.kind, part.start, part.stop) for part in fused]
        [('query', 0, 16), ('key', 16, 24), ('value', 24, 32)]
    """
    found = []
    for name, shape in shapes.items():
        if match := SEPARATE.search(name):
            kind = LETTERS[match[str(match.lastgroup)][0]]
            found.append(separate_part(name, int(match[1]), kind, shape, heads))
        elif match := FUSED.search(name):
            found += fused_parts(name, int(match[1]), match[2], shapes, heads)
    return sorted(found, key=lambda part: (part.layer, KINDS.index(part.kind), part.name))


def separate_part(name: str, layer: int, kind: str, shape: Sequence[int], heads: HeadCounts) -> AttentionPart:
    """All of a weight; of a query with a gate in every head, the head's first half."""
    gated = kind == "query" and shape[0] == 2 * heads.count * heads.depth
    return (
        AttentionPart(layer, kind, name, 0, heads.count, 0, heads.depth)
        if gated
        else AttentionPart(layer, kind, name, 0, 1, 0, shape[0])
    )


def fused_parts(
    name: str, layer: int, module: str, shapes: Mapping[str, Sequence[int]], heads: HeadCounts
) -> list[AttentionPart]:
    """The three parts of a weight that holds them all.

    Raises:
        InputError: If its size is not that of queries, keys and values of these heads.
    """
    shape, whole = shapes[name], shapes.get(name.removesuffix("bias") + "weight", shapes[name])
    # GPT-2 stores the transpose: inputs first.
    columns = len(whole) == 2 and whole[0] == heads.width != whole[1]
    axis = 1 if columns and len(shape) == 2 else 0
    pairs = (shape[axis] // heads.depth - heads.count) // 2
    if pairs < 1 or heads.count % pairs or shape[axis] != (heads.count + 2 * pairs) * heads.depth:
        raise InputError(
            f"the weight {name} of shape {tuple(shape)} does not hold queries, keys and values of {heads.count} heads "
            f"of {heads.depth} entries each; its layout is not known here."
        )
    groups, order = layout(name, module, columns, pairs)
    sizes = {"query": heads.count * heads.depth // groups} | dict.fromkeys(KINDS[1:], pairs * heads.depth // groups)
    ends = dict(zip(order, itertools.accumulate(sizes[kind] for kind in order), strict=True))
    return [AttentionPart(layer, kind, name, axis, groups, ends[kind] - sizes[kind], ends[kind]) for kind in KINDS]


def layout(name: str, module: str, columns: bool, pairs: int) -> tuple[int, Sequence[str]]:
    """How many groups a fused weight has, and the order in each, by what architectures do."""
    if module == "query_key_value" or (module == "c_attn" and not columns):
        return pairs, KINDS
    if module == "qkv_proj" and ".h." in name:
        return 4, ("query", "value", "key")  # CodeGen, after the four processors that it was trained on
    return 1, KINDS


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

    ``all``; ``kv``, the keys and values of every layer; ``value:mid`` and ``value:deep``, the value matrix of the layer
    in the middle, L // 2 of L layers counted from 0, and of the last one; or ``value:3`` for that of layer 3, counted
    from 0; ``lora:8`` for adapters of rank 8, and ``lora:8:q_proj,v_proj`` for adapters of modules of those names, see
    :mod:`insitu.language.models.adapters`.

    Raises:
        InputError: If there is no such part.
    """
    kind, _, which = name.partition(":")
    rank, _, targets = which.partition(":")
    if kind == "lora" and rank.isdecimal():
        network, factors, merge = low_rank(model, int(rank), tuple(filter(None, targets.split(","))))
        return Submodel(name, network, dict.fromkeys(factors), merge)
    weights = dict(model.network.named_parameters())
    if name == "all":
        return Submodel(name, model.network, dict.fromkeys(weights))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    attention = parts_of(shapes, lambda: model.network.config)
    if name == "kv" and attention:
        return Submodel(name, model.network, masks_of([part for part in attention if part.kind != "query"], weights))
    parts = [part for part in attention if part.kind == "value"]
    layers = sorted({part.layer for part in parts})
    if kind != "value" or not layers:
        raise InputError(
            f"no part of {model.name} is called {name!r}; there are all, lora:RANK, lora:RANK:MODULE,MODULE"
            + (", kv, value:mid, value:deep and value:LAYER." if layers else ".")
        )
    layer = {"mid": layers[len(layers) // 2], "deep": layers[-1]}.get(which, which)
    if str(layer) not in map(str, layers):
        raise InputError(f"{model.name} has no layer {which!r}; its layers are {layers[0]} to {layers[-1]}.")
    return Submodel(name, model.network, masks_of([part for part in parts if part.layer == int(layer)], weights))


def parts_of(shapes: Mapping[str, Sequence[int]], config: Callable[[], Any]) -> list[AttentionPart]:
    """The queries, keys and values of a model, whose configuration is read only where its layers attend."""
    attends = any(SEPARATE.search(name) or FUSED.search(name) for name in shapes)
    return attention_parts(shapes, HeadCounts.of(config())) if attends else []


def masks_of(parts: Sequence[AttentionPart], weights: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """For each weight ones where parts lie in it, or none where they are all of it."""
    masks = {part.name: torch.zeros_like(weights[part.name]) for part in parts}
    for part in parts:
        part.of(masks[part.name]).fill_(1.0)
    return {name: None if mask.all() else mask for name, mask in masks.items()}
