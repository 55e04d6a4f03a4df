"""How much memory a training needs at least, before any of it is taken."""

from dataclasses import replace
from typing import Any

import torch

from insitu.device import memory
from insitu.errors import InputError
from insitu.models.network import network_kinds
from insitu.training.config import Training

__all__ = ["least_memory", "require_memory"]


def require_memory(training: Training, device: torch.device) -> None:
    """Refuse a training that cannot fit.

    Raises:
        InputError: If the device has less memory than the training needs at least.
    """
    needed, there = least_memory(training), memory(device)
    if needed > there:
        raise InputError(
            f"training: this needs at least {needed / 1e9:,.0f} GB of memory, and there are {there / 1e9:,.0f} GB. "
            "Make batch, points, starts, or the network's width or layers smaller."
        )


def least_memory(training: Training) -> int:
    """Bytes for weights, gradients and the optimiser's two means, for the streams and scores that the backward pass
    needs, and for the prompts of a step.
    """
    shape, copies = training.architecture, len(training.masks or (0,)) * training.starts
    tokens = training.points + training.queries
    per_token = shape.width + (0 if getattr(shape, "attention", "softmax") == "linear" else shape.heads * tokens)
    stored = shape.layers * training.batch * tokens * per_token
    prompts = training.batch * tokens * (training.task.dim + training.task.out)
    return 4 * copies * (4 * weight_count(shape) + stored) + 8 * prompts


def weight_count(shape: Any) -> int:
    """The weights of a network of a shape, which is not built: two of its layers say what each more adds."""
    kind = next(kind for kind in network_kinds().values() if kind.architecture_class is type(shape))
    with torch.device("meta"):
        one, two = (sum(p.numel() for p in kind(replace(shape, layers=n)).parameters()) for n in (1, 2))
    return one + (shape.layers - 1) * (two - one)
