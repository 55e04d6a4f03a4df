"""The least memory that a training needs, computed before it is allocated."""

from dataclasses import fields, replace
from typing import Any

import torch

from insitu.device import memory
from insitu.errors import InputError
from insitu.models.network import Network, kind_of
from insitu.training.config import Training

__all__ = ["least_memory", "require_memory"]


def require_memory(training: Training, device: torch.device) -> None:
    """Refuse a training that cannot fit.

    Raises:
        InputError: If the device has less memory than the training needs at least.
    """
    required, available = least_memory(training), memory(device)
    if required > available:
        raise InputError(
            f"training: this needs at least {required / 1e9:,.0f} GB of memory, and there are {available / 1e9:,.0f} "
            "GB. Make batch, points, starts, or the network's width or layers smaller."
        )


def least_memory(training: Training) -> int:
    """Bytes for weights, gradients and the optimiser's two means, for the streams and scores that the backward pass
    needs, and for the prompts of a step.
    """
    shape, copies = training.architecture, len(training.masks or (0,)) * training.starts
    tokens = training.points + training.queries
    per_token = shape.width + (
        0 if getattr(shape, "attention", "softmax") == "linear" else getattr(shape, "heads", 1) * tokens
    )
    stored = shape.layers * training.batch * tokens * per_token
    prompts = training.batch * tokens * (training.task.dim + training.task.out)
    return 4 * copies * (4 * weight_count(shape) + stored) + 8 * prompts


def weight_count(shape: Any) -> int:
    """The weights of a network of a shape, which is not built: two of its layers say what each more adds."""
    kind = kind_of(shape)
    # An architecture builds one of its layers to check it.
    with torch.device("meta"):
        if "layers" not in {field.name for field in fields(shape)}:
            return count(kind(shape))
        one, two = (count(kind(replace(shape, layers=n))) for n in (1, 2))
    return one + (shape.layers - 1) * (two - one)


def count(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
