r"""Gradient descent of a whole language model on the demonstrations, the rival of reading them.

.. math:: \theta \leftarrow \theta - \frac{\eta}{|B|} \sum_{i \in B} \nabla_\theta
    \big( -\log p_\theta(\text{label token}_i \mid \text{zero-shot prompt}_i) \big)

with :math:`B` all demonstrations (full batch) or consecutive ones in the order given (mini-batches). Nothing is
drawn: there is no dropout and no shuffling.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from insitu.errors import InputError, require_count, require_not_negative
from insitu.language.corpora import Labelled
from insitu.language.in_context import Tokens, Weights, encode_prompts, next_token_distributions, next_token_logits
from insitu.language.pretrained import LanguageModel
from insitu.language.templates import Template

__all__ = ["fine_tune", "zero_shot"]


def fine_tune(
    model: LanguageModel,
    template: Template,
    demonstrations: Sequence[Labelled],
    *,
    rate: float,
    epochs: Sequence[int],
    batch: int | None = None,
) -> Iterator[Weights]:
    r"""Train on demonstrations, each as a zero-shot prompt and its label token; the model itself stays untouched.

    Args:
        model: Where training starts.
        template: How a demonstration is put into words.
        demonstrations: What to train on, in the order given.
        rate: The fixed rate :math:`\eta`.
        epochs: After how many passes to yield the weights, in rising order; 0 is the start.
        batch: How many demonstrations one step takes; all of them if not given.

    Yields:
        All weights after each of ``epochs``, as :func:`zero_shot` takes them.

    Raises:
        InputError: If a number is out of its range, there is no demonstration, or one is too long for the model.
    """
    require_not_negative("fine-tuning", "rate", rate, zero=False)
    require_count("fine-tuning", "batch", len(demonstrations) if batch is None else batch, least=1)
    if not epochs or list(epochs) != sorted(set(epochs)) or epochs[0] < 0:
        raise InputError(f"fine-tuning: epochs must be rising whole numbers of at least 0; got {tuple(epochs)}.")
    prompts = [template.prompt(d.text) for d in demonstrations]
    answers = [
        template.label_tokens(model.encode, prompt)[d.label] for prompt, d in zip(prompts, demonstrations, strict=True)
    ]
    tokens, targets = encode_prompts(model, prompts), torch.tensor(answers, device=model.device)
    return descend(model, tokens, targets, rate=rate, epochs=epochs, batch=batch or len(prompts))


def descend(
    model: LanguageModel, tokens: Tokens, targets: Tensor, *, rate: float, epochs: Sequence[int], batch: int
) -> Iterator[Weights]:
    # Tied weights appear once among the parameters, and functional_call ties them again.
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.network.named_parameters()}
    for epoch in range(epochs[-1] + 1):
        if epoch in epochs:
            yield {name: weight.detach() for name, weight in weights.items()}
        if epoch == epochs[-1]:
            return
        for start in range(0, len(targets), batch):
            part = Tokens(tokens.ids[start : start + batch], tokens.last[start : start + batch])
            with torch.enable_grad():
                loss = cross_entropy(next_token_logits(model.network, part, weights), targets[start : start + batch])
                slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            weights = {
                name: weight if slope is None else (weight - rate * slope).detach().requires_grad_()
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }


def zero_shot(
    model: LanguageModel,
    template: Template,
    texts: Sequence[str],
    *,
    weights: Weights | None = None,
    batch: int = 32,
) -> Tensor:
    """The answer's distribution for every text without any demonstration, ``(item, token)``.

    Args:
        model: The model.
        template: How a text is put into words.
        texts: What to ask about.
        weights: Weights in place of the model's own.
        batch: How many prompts to read together.

    Raises:
        InputError: If a prompt is longer than what the model reads.
    """
    return next_token_distributions(model, [template.prompt(text) for text in texts], weights=weights, batch=batch)
