"""Candidates made of learners: an affine map of one, a mixture of several."""

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from insitu.identification.scoring import predicted
from insitu.predictor import Predictor
from insitu.prompt import Prompt

__all__ = ["Blend", "Mapped", "Way"]

Way = Literal["average", "by length", "by prompt"]


@final
@dataclass(frozen=True)
class Mapped(Predictor):
    """A learner whose answers are multiplied by a factor, with an offset for each output added.

    Example:
        >>> from insitu.learners import Ridge
        >>> Mapped(Ridge(penalty=0.5), factor=-1.0, offset=(0.0,))
        -1 * Ridge(penalty=0.5)
    """

    learner: Predictor
    factor: float
    offset: tuple[float, ...]

    def predict(self, prompt: Prompt) -> Tensor:
        answers = predicted(self.learner, prompt)
        return self.factor * answers + answers.new_tensor(self.offset)

    def __repr__(self) -> str:
        factor = f"{self.factor:.6g} * " if self.factor != 1 else ""
        offset = f" + {shown(self.offset)}" if any(self.offset) else ""
        return f"{factor}{self.learner!r}{offset}"


def shown(offset: tuple[float, ...]) -> str:
    """One number where there is one output."""
    texts = [f"{value:.6g}" for value in offset]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


@final
@dataclass(frozen=True)
class Blend(Predictor):
    """Several learners at once: their weighted mean, or one of them for each context length.

    A switch by prompt has no rule that could be applied to a new prompt and is not of this kind.

    Args:
        parts: The learners.
        weights: The weight of each at every context length that was asked; the same ones where they do not depend on
            it. Between two lengths the nearer one decides.
    """

    parts: tuple[Predictor, ...]
    weights: dict[int, tuple[float, ...]]

    def predict(self, prompt: Prompt) -> Tensor:
        nearest = min(self.weights, key=lambda points: (abs(points - prompt.points), points))
        answers = torch.stack([predicted(part, prompt) for part in self.parts])
        return torch.einsum("k,k...->...", answers.new_tensor(self.weights[nearest]), answers)
