"""Arguments of the exact theory: tensors, arrays and nested lists, checked by the signature and computed in float64."""

import cmath
import functools
import inspect
import math
import numbers
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, Union, final, get_args, get_origin

import numpy as np
import torch
from jaxtyping import AbstractArray, Float
from torch import Tensor

from insitu.errors import InputError, require_count, require_flag, require_one_of, shortened

__all__ = ["require_covariance", "require_length", "require_shape", "validated"]

Call = TypeVar("Call", bound=Callable[..., Any])
Sizes = dict[str, int | tuple[int, ...]]


def validated(call: Call) -> Call:
    """Check the arguments of a function, a method or a dataclass by its signature, and convert arrays.

    What is annotated as a tensor may be a tensor, a NumPy array or nested lists of numbers; it becomes a finite tensor
    of float64 (or complex128) with the annotated axes, which agree among the arguments and, where it is called ``dim``,
    with the object whose method this is. Numbers, words, flags and objects are checked too, so that a wrong argument
    is an :class:`~insitu.errors.InputError` that says what came.

    Args:
        call: The function, or the class whose constructor is checked.

    Example:
        >>> @validated
        ... def trace(matrix: Float[Tensor, "dim dim"]) -> Float[Tensor, ""]:
        ...     return matrix.trace()
        >>> trace([[1, 2], [3, 4]])
        tensor(5., dtype=torch.float64)
        >>> trace([1, 2])
        Traceback (most recent call last):
        insitu.errors.InputError: trace: matrix must be numbers of shape (dim, dim); got shape (2,).
    """
    if isinstance(call, type):
        call.__init__ = checking(call.__init__, call.__qualname__)  # type: ignore[misc]
        return call
    return checking(call, call.__qualname__)


def checking(call: Callable[..., Any], who: str) -> Any:
    """The function behind a check of its arguments."""
    signature = inspect.signature(call)
    arguments = {
        name: Argument(who.split(".<locals>.")[-1], name, alternatives(parameter.annotation))
        for name, parameter in signature.parameters.items()
        if parameter.annotation is not inspect.Parameter.empty
    }

    @functools.wraps(call)
    def checked(*args: Any, **options: Any) -> Any:
        bound = signature.bind(*args, **options)
        sizes: Sizes = {}
        for name, value in bound.arguments.items():
            if name in arguments:
                bound.arguments[name] = arguments[name].read(value, sizes)
            # A distribution or a task fixes the dimension of the arrays that go with it.
            if isinstance(dim := getattr(value, "dim", None), int):
                sizes["dim"] = dim
        return call(*bound.args, **bound.kwargs)

    return checked


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


@final
@dataclass(frozen=True)
class Argument:
    """One parameter of a function.

    Args:
        who: The function.
        name: The parameter.
        kinds: The permitted types, one annotation each.
    """

    who: str
    name: str
    kinds: tuple[Any, ...]

    @cached_property
    def array(self) -> Any:
        """The kind of array that it may be, or None."""
        return next(filter(is_array, self.kinds), None)

    @cached_property
    def members(self) -> "Argument | None":
        """The permitted types of the members of a list of arrays; None if no list is annotated."""
        (kind, *_) = self.kinds
        listed = get_origin(kind) is Sequence and is_array(get_args(kind)[0])
        return Argument(self.who, f"every {self.name}", get_args(kind)) if listed else None

    @cached_property
    def numeric(self) -> bool:
        """Whether it may be a number."""
        return int in self.kinds or float in self.kinds

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """The names of an array's axes."""
        return tuple(getattr(self.array, "dim_str", "...").split())

    def read(self, value: Any, sizes: Sizes) -> Any:
        """The value as the function computes with it.

        Args:
            value: The argument.
            sizes: The sizes of the axes of arguments read before; those of this one are added.

        Raises:
            InputError: If the value is of no kind that the parameter may be.
        """
        if value is None and types.NoneType in self.kinds:
            return None
        if self.numeric and (number := as_number(value)) is not None:
            return self.read_number(number)
        if self.array is not None:
            return self.read_array(value, sizes)
        if self.members is not None and isinstance(value, list | tuple):
            return [self.members.read(one, sizes) for one in value]
        self.require_kind(value)
        return value

    def read_number(self, value: Any) -> Any:
        """A number of the annotated kind; infinite only where both kinds of number are allowed, as for a length."""
        if float not in self.kinds:
            if not isinstance(value, numbers.Integral):
                raise self.refusal("a whole number", repr(value))
            return int(value)
        if not math.isfinite(value) and not (value == math.inf and int in self.kinds):
            raise self.refusal("a finite number", repr(value))
        return value

    def read_array(self, value: Any, sizes: Sizes) -> Tensor:
        """The numbers as a tensor in double precision."""
        tensor = as_tensor(value)
        wide = torch.complex128 if may_be_complex(self.array, tensor) else torch.float64
        if tensor is None or tensor.dtype == torch.bool or (tensor.is_complex() and not wide.is_complex):
            raise self.refusal("a tensor, an array or nested lists of numbers", described(value))
        if not bind_axes(self.axes, tensor.shape, sizes):
            raise self.refusal(f"numbers of shape {shape_text(self.axes, sizes)}", f"shape {tuple(tensor.shape)}")
        # A sum is finite only if all its terms are, and takes a third of the time.
        if not cmath.isfinite(tensor.detach().sum().item()) and not tensor.isfinite().all():
            raise self.refusal("finite", f"{int((~tensor.isfinite()).sum())} entries that are not")
        return tensor.to(wide)

    def require_kind(self, value: Any) -> None:
        """Refuse a word, a flag or an object that is not of the annotated kind."""
        (kind, *_) = self.kinds
        if kind is bool:
            require_flag(self.who, self.name, value)
        elif get_origin(kind) is Literal:
            require_one_of(self.who, self.name, value, get_args(kind))
        elif self.numeric:
            raise self.refusal("a whole number" if float not in self.kinds else "a number", described(value))
        elif self.members is not None:
            raise self.refusal("a list of tensors, arrays or nested lists", described(value))
        elif not isinstance(value, get_origin(kind) or kind):
            raise self.refusal(f"a {(get_origin(kind) or kind).__name__}", described(value))

    def refusal(self, expected: str, actual: str) -> InputError:
        """The error for an argument of the wrong type or shape."""
        return InputError(f"{self.who}: {self.name} must be {expected}; got {actual}.")


def is_array(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, AbstractArray | Tensor)


def may_be_complex(kind: Any, tensor: Tensor | None) -> bool:
    """Whether an annotation makes this a complex tensor: *Complex* always does, *Inexact* where the numbers are."""
    names = getattr(kind, "dtypes", ())
    complex_only = "complex128" in names and "float64" not in names
    return complex_only or ("complex128" in names and tensor is not None and tensor.is_complex())


def as_number(value: Any) -> Any:
    """The number that a value is, arrays without axes included; None if it is none."""
    if isinstance(value, Tensor | np.ndarray) and not value.shape:
        value = value.item()
    return value if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) else None


def as_tensor(value: Any) -> Tensor | None:
    """The value as a tensor, or None if it is no array of numbers."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.from_numpy(np.array(value))
    except (TypeError, ValueError, RuntimeError):
        return None


def bind_axes(names: tuple[str, ...], shape: tuple[int, ...], sizes: Sizes) -> bool:
    """Whether a shape fits its annotation and the sizes of axes read before, to which its own are added.

    Example:
        >>> sizes = {"dim": 2}
        >>> bind_axes(("batch", "dim", "3"), (5, 2, 3), sizes), sizes
        (True, {'dim': 2, 'batch': 5, '3': 3})
        >>> bind_axes(("*copy", "dim", "dim"), (2, 3), {})
        False
    """
    spare = len(shape) - len(names)
    parts: list[int | tuple[int, ...]] = list(shape)
    if names and (names[0] == "..." or names[0].startswith("*")):
        spare += 1
        parts[: max(spare, 0)] = [tuple(shape[:spare])]
    if len(parts) != len(names) or spare < 0:
        return False
    bound: Sizes = {}
    for name, size in zip(names, parts, strict=True):
        expected = int(name) if name.isdigit() else sizes.get(name, bound.get(name, size))
        if size != expected and name != "...":
            return False
        bound[name] = size
    sizes.update(bound)
    return True


def shape_text(names: tuple[str, ...], sizes: Sizes) -> str:
    """A shape annotation in words, with the sizes that are fixed.

    Example:
        >>> shape_text(("dim", "3"), {"dim": 2}), shape_text((), {})
        ('(dim, 3) with dim = 2', '() (a single number)')
    """
    shape = f"({', '.join(names)}{',' if len(names) == 1 else ''})" if names else "() (a single number)"
    fixed = [f"{name} = {sizes[name]}" for name in dict.fromkeys(names) if name in sizes and not name.isdigit()]
    return f"{shape} with {', '.join(fixed)}" if fixed else shape


def described(value: Any) -> str:
    """A value as a message describes it: arrays by their shape, everything else as it prints.

    Example:
        >>> described("abc"), described([[1, 2], [3]])
        ("a str, 'abc'", 'a list, [[1, 2], [3]]')
    """
    if isinstance(value, Tensor | np.ndarray):
        return f"a {type(value).__name__} of {value.dtype} with shape {tuple(value.shape)}"
    return f"a {type(value).__name__}, {shortened(repr(value))}"


def require_covariance(who: str, name: str, matrix: Float[Tensor, "..."], *, singular: bool = False) -> None:
    """Refuse a matrix that is not a covariance.

    Args:
        who: The function, for the message.
        name: The argument, for the message.
        matrix: The matrix.
        singular: Whether directions without any variance are allowed.

    Raises:
        InputError: If the matrix is not square, finite, symmetric and positive definite (or semidefinite); the
            message names the condition that fails.
    """
    require_symmetric(who, name, matrix)
    require_eigenvalues(who, name, torch.linalg.eigvalsh(matrix), singular=singular)


def require_symmetric(who: str, name: str, matrix: Float[Tensor, "..."]) -> None:
    """Refuse a matrix that is empty, not square, not finite or not symmetric."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.numel() or not matrix.isfinite().all():
        raise InputError(f"{who}: {name} must be square and finite; got shape {tuple(matrix.shape)}.")
    difference, scale = (matrix - matrix.T).abs().max().item(), matrix.abs().max().item()
    if difference > 1e-12 * scale:
        raise InputError(
            f"{who}: {name} must be symmetric; got entries that differ from their mirror images by up to "
            f"{difference:.3g}. Take (C + C.T) / 2 if rounding broke it."
        )


def require_eigenvalues(who: str, name: str, values: Float[Tensor, " dim"], *, singular: bool = False) -> None:
    """Refuse ascending eigenvalues that are no covariance's."""
    least, largest = values[0].item(), values[-1].item()
    allowed = least >= -1e-12 * abs(largest) if singular else least > 1e-14 * largest
    if not allowed:
        what = "positive semidefinite" if singular else "positive definite"
        raise InputError(
            f"{who}: {name} must be {what}; its least and largest eigenvalues are {least:.3g} and {largest:.3g}. "
            "Drop the directions in which no input varies."
        )


def require_length(who: str, name: str, value: int | float) -> None:
    """Refuse a context length that is neither a whole number of at least 1 nor infinity.

    Raises:
        InputError: If ``value`` is neither.
    """
    if not (isinstance(value, float) and value == math.inf):
        require_count(who, name, value, least=1)


def require_shape(who: str, name: str, tensor: Float[Tensor, "..."], shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape, or one that is not finite.

    Raises:
        InputError: If the shape differs or an entry is not finite.
    """
    if tuple(tensor.shape) != shape or not tensor.isfinite().all():
        expected = " x ".join(map(str, shape)) or "a single number"
        raise InputError(f"{who}: {name} must be {expected} and finite; got shape {tuple(tensor.shape)}.")
