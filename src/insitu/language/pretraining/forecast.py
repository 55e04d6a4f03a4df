"""What a pretraining takes, counted from its recipe."""

from dataclasses import dataclass
from typing import final

import torch

from insitu.language.pretraining.recipe import Pretraining

__all__ = ["PretrainingForecast", "forecast"]

# Operations in a second: a core of a processor; an H100 as in insitu.training.operations.
SPEEDS = {"cpu": 1.5e10, "cuda": 0.2 * 67e12}


@final
@dataclass(frozen=True)
class PretrainingForecast:
    """The predicted cost of a pretraining.

    Args:
        parameters: The weights.
        tokens: The tokens that it sees.
        operations: Floating-point operations of all steps.
        bytes: The least memory.
        predicted_seconds: The time.
    """

    parameters: int
    tokens: int
    operations: float
    bytes: int
    predicted_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.tokens:,} tokens, {self.operations:.2g} operations, at least "
            f"{self.bytes / 1e6:,.0f} MB, about {max(1, round(self.predicted_seconds / 60))} min."
        )


def forecast(recipe: Pretraining, device: torch.device) -> PretrainingForecast:
    r"""The cost of a pretraining.

    A token takes :math:`6N` operations for the weights, forwards and backwards (Kaplan et al., 2020), and
    :math:`12 L w T` for the scores of L layers of width w over T tokens.

    Args:
        recipe: What is trained.
        device: Where.

    Example:
        >>> forecast(Pretraining(), torch.device("cpu")).parameters
        1115264
    """
    r = recipe
    # Queries, keys, values and output; the gated feed-forward network; two norms of each block and a last one.
    block = 4 * r.width**2 + 3 * r.width * r.inner + 2 * r.width
    parameters = r.vocabulary * r.width + r.layers * block + r.width
    operations = r.tokens * (6.0 * parameters + 12.0 * r.layers * r.width * r.window)
    # Weights, gradients and two means; the logits of a step, forwards and backwards.
    memory = 4 * (4 * parameters + 2 * r.batch * r.window * r.vocabulary)
    return PretrainingForecast(parameters, r.tokens, operations, memory, operations / SPEEDS[device.type])
