"""The control that pretraining has to beat: the same network with its inner weights drawn anew."""

import torch
from torch import Tensor

from insitu.language.models.pretrained import LanguageModel
from insitu.seed import Seed

__all__ = ["without_training"]


def without_training(model: LanguageModel, seed: Seed) -> dict[str, Tensor]:
    """Weights in place of the model's own: every matrix inside a block is Gaussian, with the spread that it had.

    So is the matrix of every expert where they stand in one weight. Embeddings, norms, biases and the read-out stay, as
    in the control of Deutch et al. (2023).

    Args:
        model: The model.
        seed: Where to draw.
    """
    outer = {id(module.weight) for module in embeddings(model) if module is not None}
    return {
        name: (seed / name).normal(*weight.shape).to(weight) * weight.detach().flatten(-2).std(-1)[..., None, None]
        for name, weight in model.network.named_parameters()
        if weight.ndim >= 2 and weight.shape[-2:].numel() > 1 and id(weight) not in outer
    }


def embeddings(model: LanguageModel) -> list[torch.nn.Module]:
    network = model.network
    tables = [module for module in network.modules() if isinstance(module, torch.nn.Embedding)]
    return [network.get_output_embeddings(), *tables]
