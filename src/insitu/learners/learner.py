"""The learner interface: a textbook algorithm that answers from the context and from every prefix of it."""

import abc
import dataclasses
import itertools
import numbers
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError, require_not_negative, shortened
from insitu.predictor import Predictor
from insitu.prompt import Prompt

__all__ = ["Learner", "LinearLearner", "Numbers", "as_nested", "as_tensor", "of_every_step", "per_step"]

# Numbers that a learner is given as any sequence or tensor, and keeps as nested tuples.
Numbers = Sequence[Any] | Tensor


class Learner(Predictor):
    """A predictor that is a textbook algorithm.

    Learners are frozen values: their constructor is their configuration, and they print as the expression that
    made them (parameters that are ``None`` or ``False`` are not printed). They compute in float64 whatever the
    prompt's dtype and answer in the prompt's.
    """

    @abc.abstractmethod
    def predict_prefixes(self, prompt: Prompt) -> Float[Tensor, "batch point query out"]:
        """Answer every query from every prefix of the context, in one pass.

        Entry ``[:, k - 1]`` is what ``predict(prompt.prefix(k))`` answers, for k = 1..n.
        """

    @final
    def __repr__(self) -> str:
        shown = [
            f"{f.name}={printed(getattr(self, f.name))}"
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if getattr(self, f.name) is not None and getattr(self, f.name) is not False
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def printed(value: Any) -> str:
    """A parameter as an expression reads it: NumPy's numbers print as plain ones."""
    if isinstance(value, bool | int | str | tuple):
        return repr(value)
    return repr(int(value) if isinstance(value, numbers.Integral) else float(value))


class LinearLearner(Learner):
    """A learner whose answer is linear in the query: w x_q, with weights w learned from the examples.

    With an intercept it is w (x_q, 1): the last column of the weights is the intercept.
    """

    intercept: bool = False

    @abc.abstractmethod
    def weights(
        self, xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
    ) -> Float[Tensor, "batch out weight"]:
        """The weights learned from all examples; float64 in, float64 out."""

    @abc.abstractmethod
    def prefix_weights(
        self, xs: Float[Tensor, "batch point dim"], ys: Float[Tensor, "batch point out"]
    ) -> Float[Tensor, "batch point out weight"]:
        """The weights learned from the first k examples, k = 1..n; float64 in, float64 out."""

    @final
    def predict(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        return (self.inputs(exact.queries) @ self.weights(exact.xs, exact.ys).mT).to(prompt.ys)

    @final
    def predict_prefixes(self, prompt: Prompt) -> Tensor:
        exact = prompt.to(torch.float64)
        weights = self.prefix_weights(exact.xs, exact.ys)
        return torch.einsum("bqd,bkod->bkqo", self.inputs(exact.queries), weights).to(prompt.ys)

    @final
    def inputs(self, xs: Float[Tensor, "batch point dim"]) -> Float[Tensor, "batch point weight"]:
        """The features: the inputs, and a constant 1 for an intercept."""
        return torch.cat([xs, torch.ones_like(xs[..., :1])], dim=-1) if self.intercept else xs


def per_step(who: str, name: str, value: float | Numbers, steps: int) -> float | tuple[float, ...]:
    """One number for all steps, or one for each, none of them negative.

    Raises:
        InputError: If there are as many numbers as neither, or one is negative or not finite.
    """
    if not isinstance(value, Sequence | Tensor) or isinstance(value, str):
        require_not_negative(who, name, value)
        return value  # type: ignore[return-value]
    values: tuple[float, ...] = as_nested(who, name, value)
    if len(values) != steps:
        raise InputError(f"{who}: {steps} steps need {steps} {name}s or a single one; got {len(values)}.")
    for one in values:
        require_not_negative(who, name, one)
    return values


def of_every_step(value: float | Numbers, steps: int) -> Iterator[float]:
    """The number of each step."""
    return iter(value) if isinstance(value, Sequence) else itertools.repeat(float(value), steps)


def as_nested(who: str, name: str, value: Numbers) -> tuple[Any, ...]:
    """A tensor or a list as nested tuples of floats, so that it can be compared, hashed and printed.

    Raises:
        InputError: If something in it is not a number.
    """
    listed = value.tolist() if isinstance(value, Tensor) else value
    try:
        if not isinstance(listed, list | tuple):
            raise TypeError("not a row")
        return tuple(as_nested(who, name, v) if isinstance(v, list | tuple | Tensor) else float(v) for v in listed)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{who}: {name} must be numbers or rows of numbers; got {shortened(repr(value))}.") from None


def as_tensor(who: str, name: str, value: Numbers, shapes: Sequence[tuple[int, ...]], like: Tensor) -> Tensor:
    """Nested tuples as a tensor of one of the given shapes.

    Raises:
        InputError: If the numbers do not form one of these shapes, or are not finite.
    """
    try:
        array = torch.tensor(value, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError) as error:
        raise InputError(f"{who}: {name} must be rows of numbers of equal length; {error}.") from None
    if tuple(array.shape) not in shapes or not array.isfinite().all():
        expected = " or ".join(map(str, shapes))
        raise InputError(
            f"{who}: {name} must be finite and have shape {expected} for these prompts; got shape {tuple(array.shape)}."
        )
    return array
