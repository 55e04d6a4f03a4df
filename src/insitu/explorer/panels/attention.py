"""Who sees whom, and how strongly."""

from typing import final

import torch

from insitu.explorer.code import prompts_code
from insitu.explorer.drawing import Matrix
from insitu.explorer.setting import episode, mask
from insitu.explorer.state import State
from insitu.explorer.view import Panel, View

__all__ = ["Attention"]

MOST = 8
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@final
class Attention(Panel):
    """The mask as a matrix over the first examples and a query, coloured by the scores of the layers."""

    name = "attention"
    title = "Who sees whom?"
    ignores = ("depth", "rate", "noise", "trained")

    def look(self, state: State) -> View:
        prompt = episode(state).prompt
        count = min(state.points, MOST)
        inputs = torch.cat([prompt.xs[0, :count], prompt.queries[0, :1]])
        seen = mask(state).visible(count, 1)
        scores = inputs @ inputs.T
        scores = scores / scores[seen].abs().max()
        rows = [
            tuple(v if s else None for v, s in zip(*pair, strict=True))
            for pair in zip(scores.tolist(), seen.tolist(), strict=True)
        ]
        names = (*(f"x{j}".translate(SUBSCRIPTS) for j in range(1, count + 1)), "query")
        matrix = Matrix(names, names, tuple(rows), "attending token", "attended token")
        return View(matrix, sentence(state, count), SOURCE)

    def code(self, state: State) -> str:
        count = min(state.points, MOST)
        return ATTENTION.format(prompts=prompts_code(state), kind=state.mask.capitalize(), count=count)


def sentence(state: State, count: int) -> str:
    """What the mask hides."""
    if state.mask == "prefix":
        return (
            f"All {count} examples see each other, so every example's residual is that of the whole context, and their "
            "order has no effect. The query sees all examples and no other query."
        )
    return (
        f"An example sees itself and its past: {count * (count + 1) // 2} of {count * count} pairs. Its residual never "
        "hears of later examples, which is why depth ends in one pass through the prompt instead of least squares."
    )


SOURCE = (
    "Frames: models.Mask.visible. Colours: the scores ⟨x, x′⟩ of the first prompt, which are the same in every layer; "
    "orange is positive, blue negative, relative to the largest. Grey cells are not seen."
)

ATTENTION = """{prompts}
from insitu.models import {kind}

prompt, count = episode.prompt, {count}
inputs = torch.cat([prompt.xs[0, :count], prompt.queries[0, :1]])
scores = inputs @ inputs.T
seen = {kind}().visible(count, 1)
scores = (scores / scores[seen].abs().max()).masked_fill(~seen, torch.nan)
curves = dict(zip([*"x₁ x₂ x₃ x₄ x₅ x₆ x₇ x₈".split()[:count], "query"], scores.tolist()))
"""
