"""Laws of the theory's arguments: lists, arrays and tensors are the same, and an error says which is wrong."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator

import pytest
import torch
from tests.theory_examples import CALLS

import insitu.theory
from insitu.errors import InputError
from insitu.theory.arguments import validated

# What functions return; a caller makes none of them.
RESULTS = {"Flow", "Minimum", "PositionDescent", "Risk", "Staircase", "StationaryPoint"}

pytestmark = pytest.mark.usefixtures("as_users_run")


def public(module: object) -> Iterator[Callable]:
    """The functions, constructors and methods with arguments that a module shows as its own."""
    for name in getattr(module, "__all__", []):
        shown = getattr(module, name)
        if getattr(shown, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(shown):
            yield shown
        if inspect.isclass(shown):
            yield from () if name in RESULTS else (shown.__init__,)
            methods = (getattr(shown, name) for name in vars(shown) if name[0] != "_")
            yield from (method for method in methods if inspect.isfunction(method) or inspect.ismethod(method))


def theory() -> list[Callable]:
    """Every public function of the theory that has an argument."""
    found = pkgutil.walk_packages(insitu.theory.__path__, "insitu.theory.")
    modules = [importlib.import_module(info.name) for info in found if info.name != "insitu.theory.arguments"]
    return [call for module in modules for call in public(module) if set(inspect.signature(call).parameters) - {"self"}]


def title(call: Callable) -> str:
    """The name of a function with its module."""
    call = call.__init__ if inspect.isclass(call) else call
    plain = inspect.unwrap(getattr(call, "__func__", call))
    return f"{plain.__module__}.{plain.__qualname__}"


every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: title(call.func).removeprefix("insitu.theory."))


def test_every_function_has_an_example():
    assert sorted(map(title, theory())) == sorted(title(call.func) for call in CALLS)


@every_call
def test_the_example_names_every_argument(call):
    assert set(call.keywords) == set(inspect.signature(call.func).parameters)


def comparable(value: object) -> object:
    """A result as numbers that can be compared exactly."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), value.tolist())
    if dataclasses.is_dataclass(value):
        return {field.name: comparable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [comparable(one) for one in value]
    if inspect.isgenerator(value):
        return comparable(next(value))
    return None if callable(value) else value


def replaced(value: object, convert: Callable) -> object:
    """An argument with its tensors converted."""
    if isinstance(value, torch.Tensor):
        return convert(value)
    return [convert(one) for one in value] if isinstance(value, list) else value


CONVERSIONS = {
    "nested lists": torch.Tensor.tolist,
    "arrays": torch.Tensor.numpy,
    "arrays of integers": lambda tensor: tensor.real.to(torch.int64).numpy(),
    "single precision": lambda tensor: tensor.to(torch.complex64 if tensor.is_complex() else torch.float32),
    "tuples": lambda tensor: tuple(tensor.tolist()) if tensor.ndim else tensor.item(),
}


def differing(call: functools.partial) -> list[str]:
    """The kinds of argument under which a call gives other numbers than with tensors of float64."""
    expected = comparable(call())
    results = {
        name: call.func(**{key: replaced(value, convert) for key, value in call.keywords.items()})
        for name, convert in CONVERSIONS.items()
    }
    return [name for name, result in results.items() if comparable(result) != expected]


@every_call
def test_lists_arrays_and_tensors_are_the_same(call):
    assert differing(call) == []


def wrongs(value: object) -> list[object]:
    """What cannot stand for a value of this kind."""
    if isinstance(value, torch.Tensor):
        deeper, ragged = value[None, None, None, None, None], [[1.0], [1.0, 2.0]]
        return ["wrong", ragged, value != 0, deeper, value * float("nan"), object()]
    if isinstance(value, bool):
        return ["no", 1]
    if isinstance(value, int):
        return [1.5, "3", True, None]
    if isinstance(value, float):
        return [float("nan"), "3", True, None]
    return [3.25, b"wrong"]


def accepted(call: functools.partial) -> list[str]:
    """The wrong arguments that a call accepts, or refuses in any other way than by an error that names them."""
    bad = []
    for name, value in call.keywords.items():
        for wrong in wrongs(value):
            # Where axes disagree, the error may name the other argument.
            names = "|".join(call.keywords) if isinstance(wrong, torch.Tensor) else name
            try:
                call.func(**{**call.keywords, name: wrong})
            except InputError as error:
                if re.search(rf"\b({names})\b.*; got .", str(error), re.DOTALL):
                    continue
                bad.append(f"{name}={wrong!r}: {error}")
            except Exception as error:
                bad.append(f"{name}={wrong!r}: {error!r}")
            else:
                bad.append(f"{name}={wrong!r} is accepted")
    return bad


@every_call
def test_a_wrong_argument_says_which_and_what_came(call):
    assert accepted(call) == []


# The saboteurs.


def doubled(matrix: torch.Tensor, times: int) -> torch.Tensor:
    return matrix.double() * times


def test_a_function_that_takes_tensors_only_is_noticed():
    call = functools.partial(doubled, matrix=torch.eye(2), times=2)
    with pytest.raises(AttributeError):
        differing(call)
    assert accepted(call)
    checked = functools.partial(validated(doubled), matrix=torch.eye(2), times=2)
    assert differing(checked) == []
