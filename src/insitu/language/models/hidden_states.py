r"""Hidden states of reading against those of training: SimAOU and SimAM with their controls.

With :math:`h` the output of a layer's attention at the last token, scaled to length 1 (by Dai et al.) or not (by Deutch
et al.), and :math:`A` the scores of the last token on the question's own tokens before the softmax,

.. math:: \mathrm{SimAOU} = \cos(h_{\mathrm{ICL}} - h_{\mathrm{ZS}},\; h_{\mathrm{FT}} - h_{\mathrm{ZS}}), \qquad
    \mathrm{SimAM} = \cos(A_{\mathrm{ICL}}, A_{\mathrm{FT}}), \qquad
    \mathrm{SimAM}_\Delta = \cos(A_{\mathrm{ICL}} - A_{\mathrm{ZS}},\; A_{\mathrm{FT}} - A_{\mathrm{ZS}}).

References:
    SimAOU, SimAM: Dai et al., "Why Can GPT Learn In-Context?" (2023). The difference of scores, and the warning that an
    untrained network reaches similar values: Deutch et al. (2024).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from insitu.errors import InputError
from insitu.language.models.forwards import run
from insitu.language.models.pretrained import LanguageModel
from insitu.language.models.reading import Question, Weights
from insitu.seed import Seed

__all__ = ["AttentionStates", "attention_states", "similarities"]

ATTENTION = re.compile(
    r"(?:^|\.)(?:(?:layers|h|blocks|layer)\.(\d+)\.(?:\w+\.)??(?:self_attn|attn|attention|self_attention|temporal_block|"
    r"multi_head_attention)|attentions\.(\d+))$"
)


@final
@dataclass(frozen=True, eq=False)
class AttentionStates:
    """What attention computes at the last token of each prompt.

    Args:
        outputs: The output of every layer.
        scores: For each item the scores on the question's own tokens before the softmax, of every head of every layer;
            minus infinity where a head does not see a token.
    """

    outputs: Float[Tensor, "layer item width"]
    scores: tuple[Float[Tensor, "head _"], ...]

    @property
    def directions(self) -> Float[Tensor, "layer item width"]:
        """The outputs scaled to length 1."""
        return self.outputs / self.outputs.norm(dim=-1, keepdim=True)


@final
class Softmaxes(TorchFunctionMode):
    """Keeps the last row of what goes into every softmax over four axes: an attention's scores."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") == "softmax" and args[0].ndim == 4:
            self.rows.append(args[0][0, :, -1].double().cpu())
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def attention_states(
    model: LanguageModel, prompts: Sequence[Question], bare: Sequence[Question], weights: Weights | None = None
) -> AttentionStates:
    """What attention computes at the end of prompts, read one at a time.

    Args:
        model: The model.
        prompts: What it reads.
        bare: The same questions without demonstrations; the tokens at whose end both agree are the question's own.
        weights: Weights in place of the model's own.

    Raises:
        InputError: If the attention of the model's layers is not found or shows no scores.
    """
    modules = {int(m[1] or m[2]): module for name, module in model.modules() if (m := ATTENTION.search(name))}
    if not modules:
        raise InputError(f"{model.name}: no attention was found in its layers, so there are no hidden states of it.")
    held: dict[int, list[Tensor]] = {layer: [] for layer in modules}

    def watch(layer: int) -> Any:
        def keep(module: object, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            states = output if isinstance(output, Tensor) else output[0]
            held[layer].append(states[0, -1].double().cpu())

        return modules[layer].register_forward_hook(keep)

    handles = [watch(layer) for layer in modules]
    kernel = model.config._attn_implementation
    model.network.set_attn_implementation("eager")  # the only one that shows its scores
    try:
        scores = tuple(scores_of(model, p, own_tokens(p, b), weights) for p, b in zip(prompts, bare, strict=True))
    finally:
        model.network.set_attn_implementation(kernel)
        for handle in handles:
            handle.remove()
    if silent := [layer for layer in sorted(held) if len(held[layer]) != len(prompts)]:
        raise InputError(f"{model.name}: the attention of layer {silent[0]} is not called, so it has no hidden states.")
    return AttentionStates(torch.stack([torch.stack(held[layer]) for layer in sorted(held)]), scores)


def own_tokens(prompt: Question, bare: Question) -> int:
    """How many tokens at the end of two prompts are the same."""
    pairs = list(zip(reversed(prompt.prompt), reversed(bare.prompt), strict=False))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))


def scores_of(model: LanguageModel, prompt: Question, own: int, weights: Weights | None) -> Tensor:
    """The scores of the last token on its own question's, of every head.

    Columns behind the tokens are sinks, which some networks add to the softmax; the least numbers of the precision
    stand for tokens that the head's mask hides.
    """
    ids = torch.tensor([prompt.prompt], device=model.device)
    with Softmaxes() as seen:
        run(model.network, ids, torch.tensor([len(prompt.prompt) - 1], device=model.device), weights)
    if not seen.rows:
        raise InputError(f"{model.name}: its layers show no scores of attention, so there are no maps to compare.")
    scores = torch.cat([row[:, : len(prompt.prompt)][:, -own:] for row in seen.rows])
    return scores.masked_fill(scores < torch.finfo(model.network.dtype).min / 2, -torch.inf)


def visible(*scores: Tensor) -> list[Tensor]:
    """Scores without the tokens that are hidden in any of them: these count as zero everywhere."""
    hidden = torch.stack(scores).isinf().any(0)
    return [t.masked_fill(hidden, 0.0) for t in scores]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Along the last axis; 0 where one of the two vanishes."""
    lengths = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(lengths > 0, (a * b).sum(-1) / lengths, 0.0)


def similarities(
    read: AttentionStates, trained: AttentionStates, start: AttentionStates, noise: Seed
) -> dict[str, Float[Tensor, " item"]]:
    """SimAOU, SimAM and their references for each item, as means over layers and heads.

    Args:
        read: After reading demonstrations.
        trained: After training on them.
        start: Neither.
        noise: Where a Gaussian change is drawn that stands in for training's.
    """
    change = read.directions - start.directions
    random = noise.normal(*change.shape)

    def over_items(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([cosine(a, b).mean() for a, b in pairs])

    three = list(zip(read.scores, trained.scores, start.scores, strict=True))
    lengths = [min(t.shape[-1] for t in row) for row in three]
    ends = [visible(*(t[..., -n:] for t in row)) for row, n in zip(three, lengths, strict=True)]
    return {
        "SimAOU": cosine(change, trained.directions - start.directions).mean(0),
        "SimAOU (noise)": cosine(change, random).mean(0),
        "SimAOU (not scaled)": cosine(read.outputs - start.outputs, trained.outputs - start.outputs).mean(0),
        "SimAM": over_items([(r, t) for r, t, _ in ends]),
        "SimAM (no training)": over_items([(r, s) for r, _, s in ends]),
        "SimAM of changes": over_items([(r - s, t - s) for r, t, s in ends]),
    }
