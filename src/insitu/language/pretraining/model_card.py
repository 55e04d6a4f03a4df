"""The model card that is written beside pretrained weights."""

from collections.abc import Mapping
from typing import Any

from insitu.language.models.pretrained import LanguageModel

__all__ = ["model_card"]


def model_card(model: LanguageModel, recipe: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The card as Markdown.

    Args:
        model: The trained model.
        recipe: The fields of its :class:`~insitu.language.pretraining.pretraining.Pretraining`.
        about: ``text``, ``blocks`` of tokens there, ``held-out`` (a name or none) and ``bits`` per byte there.
    """
    config = model.network.config
    parameters = sum(p.numel() for p in model.network.parameters())
    seen = recipe["steps"] * recipe["batch"] * recipe["window"]
    passes = recipe["steps"] * recipe["batch"] / about["blocks"]
    measured = (
        f"{about['bits']:.3f} bits per byte on the held-out text `{about['held-out']}`."
        if about["bits"] is not None
        else "not measured: no held-out text was given."
    )
    rows = "\n".join(f"| {name} | {value} |" for name, value in recipe.items())
    return f"""# {model.name}

A small causal language model, trained by `insitu lm pretrain`.

- **What it is.** A Llama of {parameters:,} parameters: width {config.hidden_size}, {config.num_hidden_layers} layers,
  {config.num_attention_heads} heads, a byte-level byte-pair encoding of {config.vocab_size} tokens learnt from the same
  text, tied embeddings, rotary positions, a context window of {config.max_position_embeddings} tokens; stored as
  float16, read as float32.
- **Data.** `{about["text"]}`: {seen:,} tokens, {passes:.2f} passes over the {about["blocks"]:,} blocks that were read.
- **Recipe.** AdamW (betas 0.9 and 0.98, decay 0.1, gradients clipped at 1), a rate that rises over 100 steps, stays,
  and falls over the last fifth, by the Trainer of transformers.
- **Held-out loss.** {measured}

| recipe | |
|---|---|
{rows}
"""
