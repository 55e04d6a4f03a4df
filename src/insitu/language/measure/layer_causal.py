r"""Layer-causal descent: a step of gradient descent in which a layer's change depends on the layers below it alone.

The states behind every layer are read out as the last ones are, by the final norm and the unembedding, and no gradient
passes from a layer to the one below:

.. math:: \theta_l \leftarrow \theta_l - \eta \nabla_{\theta_l} \frac{1}{n} \sum_i
    \big( -\log p_l(\text{label word}_i \mid \text{zero-shot prompt}_i) \big)

with :math:`p_l` what is read out behind layer :math:`l`. So it is for in-context learning, whose change of a layer's
states cannot depend on later layers; in ordinary descent it does.

References:
    Deutch, Magar, Natan, Dar, "In-context learning and gradient descent revisited" (NAACL 2024).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from insitu.errors import InputError
from insitu.language import Descent, Labelled, LanguageModel, Template, Weights, pose, require_trainable
from insitu.language.models.fine_tuning import Lessons, answer_loss, answer_places, batching_of, lesson
from insitu.language.models.forwards import at_places, run
from insitu.language.models.weight_patch import BLOCK

__all__ = ["layer_causal_gradients", "layer_causal_step"]

# What the norm behind the last layer is called.
NORMS = ("norm", "ln_f", "final_layer_norm")


@contextmanager
def separate_layers(model: LanguageModel) -> Iterator[list[Tensor]]:
    """Inside, no gradient passes from a layer to the one below; the states behind each layer are kept.

    Raises:
        InputError: If no layers are found, or cutting the gradient of a layer's input changes nothing.
    """
    layers = [module for name, module in model.network.named_modules() if BLOCK.search(name)]
    if not layers:
        raise InputError(f"layer-causal descent: no layers are found in {model.name}.")
    states: list[Tensor] = []

    def cut(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if states and not inputs[0].requires_grad:
            raise InputError(
                f"layer-causal descent: no gradient comes out of layer {len(states) - 1} of {model.name}, so cutting "
                "it changes nothing."
            )
        return (cut_off(inputs[0]), *inputs[1:])

    def keep(module: Any, inputs: Any, output: Any) -> None:
        states.append(output if isinstance(output, Tensor) else output[0])

    handles = [layer.register_forward_pre_hook(cut) for layer in layers]
    handles += [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def cut_off(state: Tensor) -> Tensor:
    return state.detach()


def read_out(model: LanguageModel) -> Callable[[Tensor], Tensor]:
    """From the states behind a layer to logits, as the network itself does it behind the last one.

    Raises:
        InputError: If no norm behind the last layer is known.
    """
    decoder = model.network.base_model
    decoder = getattr(decoder, "decoder", decoder)
    norm = next((getattr(decoder, name) for name in NORMS if hasattr(decoder, name)), None)
    if norm is None:
        raise InputError(f"layer-causal descent: {model.name} has none of the norms {', '.join(NORMS)} at its end.")
    unembedding = model.network.get_output_embeddings()
    return lambda states: unembedding(norm(states))


def layer_causal_gradients(model: LanguageModel, lessons: Lessons, trained: Sequence[str]) -> Weights:
    """The gradient of every layer's own loss, the mean over lessons that are read together.

    Args:
        model: The model.
        lessons: Prompts with their answers, of one run.
        trained: The names of the weights whose gradients are wanted.

    Raises:
        InputError: If the layers cannot be separated, or what is read out behind the last is not what the model says.
    """
    ids, answers = lessons.ids[0], lessons.answers[0]
    own = {n: w.detach().requires_grad_(True) for n, w in model.network.named_parameters() if n in trained}
    kept, to_logits = answer_places(answers), read_out(model)
    with torch.enable_grad(), separate_layers(model) as states:
        logits, _ = run(model.network, ids[:, :-1], kept, own)
        read = [to_logits(at_places(state, kept)) for state in states]
    if not torch.allclose(read[-1], logits, atol=1e-3 * logits.abs().max().item()):
        raise InputError(f"layer-causal descent: {model.name} reads out its last states in a way not known here.")
    total = sum((answer_loss(one, ids, answers, kept) for one in read), logits.new_zeros(()))
    return dict(zip(own, torch.autograd.grad(total, list(own.values()), materialize_grads=True), strict=True))


def layer_causal_step(
    model: LanguageModel, template: Template, demonstrations: Sequence[Labelled], how: Descent
) -> Weights:
    """The weights after one step on all demonstrations, as :func:`~insitu.language.zero_shot` takes them.

    Args:
        model: Where it starts.
        template: How a demonstration is put into words.
        demonstrations: What to train on.
        how: The rate, and the part that is trained.

    Raises:
        InputError: As :func:`layer_causal_gradients`, or if lessons of different lengths cannot be read together.
    """
    if how.part.startswith("lora"):
        raise InputError(f"layer-causal descent: adapters are not trained; got the part {how.part!r}. Take kv or all.")
    chosen = require_trainable(model, how)
    posed = pose(model, template, [template.prompt(d.text) for d in demonstrations])
    if not batching_of(model, max(question.length for question in posed), 1).padding:
        raise InputError(f"layer-causal descent: {model.name} cannot read texts of different lengths together.")
    rows = [lesson(question, d.label) for question, d in zip(posed, demonstrations, strict=True)]
    gradients = layer_causal_gradients(model, Lessons.of(rows, 1).to(model.device), list(chosen.masks))
    masks = {name: 1.0 if mask is None else mask for name, mask in chosen.masks.items()}
    return {name: weight - how.rate * masks[name] * gradients[name] for name, weight in chosen.start.items()}
