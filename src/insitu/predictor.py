"""The one interface that networks, learners and hand-built networks share, and how any function gets it."""

import abc
from collections.abc import Callable
from typing import Any, Literal, final, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_one_of
from insitu.prompt import Prompt

__all__ = ["FunctionPredictor", "Predictor", "as_predictor"]

Arrays = Literal["auto", "torch", "numpy"]
# What a function raises that was written for the arrays of the other library.
MISFITS = (AttributeError, TypeError, ValueError, RuntimeError, IndexError)


class Predictor(abc.ABC):
    """Maps a prompt to answers.

    A trained network, a textbook learner and a network with weights set by hand are all predictors, so everything
    that compares, probes or plots takes any of them.
    """

    @property
    def ordered(self) -> str:
        """Why its answers depend on the order of the examples; empty where they do not."""
        return ""

    @abc.abstractmethod
    def predict(self, prompt: Prompt) -> Float[Tensor, "batch query out"]:
        """Answer every query from the whole context.

        An answer depends on the prompt's examples and on its own query alone: not on other queries, not on
        other prompts of the batch. It has the prompt's dtype and device.
        """


@final
class FunctionPredictor(Predictor):
    """A function ``(xs, ys, queries) -> answers`` of any framework as a predictor.

    Args:
        function: It gets ``xs (batch, point, dim)``, ``ys (batch, point, out)`` and ``queries (batch, query, dim)``,
            and returns ``(batch, query)`` or ``(batch, query, out)``.
        arrays: Whether it takes and returns arrays of *torch* or *numpy*. *auto* tries both on the first prompt: what
            works is kept, and torch if both do and agree.

    Example:
        >>> one_step = FunctionPredictor(lambda xs, ys, queries: queries @ (xs.swapaxes(1, 2) @ ys) / xs.shape[1])
        >>> prompt = Prompt(torch.ones(1, 2, 1), torch.tensor([[[1.0], [3.0]]]), torch.ones(1, 2, 1))
        >>> one_step.predict(prompt)
        tensor([[[2.],
                 [2.]]])
    """

    def __init__(self, function: Callable[[Any, Any, Any], Any], arrays: str = "auto") -> None:
        require_one_of("FunctionPredictor", "arrays", arrays, get_args(Arrays))
        self.function = function
        self.arrays = arrays

    def __repr__(self) -> str:
        return f"FunctionPredictor({getattr(self.function, '__name__', repr(self.function))})"

    @torch.no_grad()
    def predict(self, prompt: Prompt) -> Float[Tensor, "batch query out"]:
        if self.arrays == "auto":
            self.arrays = self.library(prompt)
        return self.answers(prompt, self.arrays)

    def library(self, prompt: Prompt) -> str:
        """The library whose arrays the function takes, tried on one prompt."""
        one = Prompt(prompt.xs[:1], prompt.ys[:1], prompt.queries[:1])
        answers: dict[str, Tensor] = {}
        misfits: dict[str, Exception] = {}
        for name in ("torch", "numpy"):
            try:
                answers[name] = self.answers(one, name)
            except InputError:
                raise
            except MISFITS as error:
                misfits[name] = error
        if not answers:
            raise misfits["torch"]
        if len(answers) == 2 and not torch.allclose(answers["torch"], answers["numpy"], rtol=1e-4, equal_nan=True):
            raise InputError(
                f"{self!r} answers tensors and NumPy arrays differently (methods such as std differ between them), so "
                "it must be said which it is written for: pass arrays='torch' or arrays='numpy'."
            )
        return next(iter(answers))

    def answers(self, prompt: Prompt, arrays: str) -> Float[Tensor, "batch query out"]:
        """The answers in the prompt's dtype, checked for their shape."""
        arguments: list[Any] = [prompt.xs, prompt.ys, prompt.queries]
        if arrays == "numpy":
            arguments = [tensor.cpu().numpy() for tensor in arguments]
        # A view from behind, such as answers[::-1], has strides that torch does not take.
        answers = torch.as_tensor(
            np.asarray(self.function(*arguments), order="C") if arrays == "numpy" else self.function(*arguments)
        )
        expected = (prompt.batch, prompt.queries.shape[1], prompt.out)
        if tuple(answers.shape) == expected[:2] and prompt.out == 1:
            answers = answers[..., None]
        if tuple(answers.shape) != expected:
            shapes = " or ".join(map(str, [expected[:2], expected] if prompt.out == 1 else [expected]))
            raise InputError(
                f"{self!r} answered with shape {tuple(answers.shape)}; expected {shapes}: one answer to every query."
            )
        return answers.to(prompt.ys)


def as_predictor(model: Any, arrays: str = "auto") -> Predictor:
    """A predictor as it is; any other function as one.

    Raises:
        InputError: If ``model`` is neither.

    Example:
        >>> as_predictor(lambda xs, ys, queries: queries.sum(-1))
        FunctionPredictor(<lambda>)
    """
    if isinstance(model, Predictor):
        return model
    if not callable(model):
        raise InputError(
            f"expected a predictor, a network, or a function (xs, ys, queries) -> answers; got {type(model).__name__}."
        )
    return FunctionPredictor(model, arrays)
