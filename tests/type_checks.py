"""Types at every call of the package, with the shapes of arrays."""

import contextlib
import functools
import inspect
from typing import Any, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
thoroughly = jaxtyping.jaxtyped


def known(note: Any, names: dict[str, Any]) -> Any:
    """An annotation with names in quotes replaced; nothing is known where they are there for type checkers alone."""

    def annotated() -> None: ...

    annotated.__annotations__["note"] = note
    try:
        return get_type_hints(annotated, names, include_extras=True)["note"]
    except NameError:
        return Any


def checked(function: Any = None, *, typechecker: Any) -> Any:
    """Check the types of a function, or of what a dataclass is made from, at every call.

    It stands for jaxtyping's own decorator, which checks parameters twice and binds every call to its signature,
    also where there is no array: a seventh of the time of the tests.
    """
    if function is None:
        return functools.partial(checked, typechecker=typechecker)
    if inspect.isclass(function):
        # One that is wrapped reads its arguments itself.
        if "__dataclass_fields__" in function.__dict__ and not hasattr(function.__init__, "__wrapped__"):
            function.__init__ = checked(function.__init__, typechecker=typechecker)
        return function
    if inspect.isgeneratorfunction(function):
        return thoroughly(function, typechecker=typechecker)
    if not function.__annotations__:
        return function
    notes = {name: known(note, function.__globals__) for name, note in function.__annotations__.items()}
    config = jaxtyping.config

    @functools.cache
    def prepared() -> tuple[Any, Any]:
        """The function with its checks and what keeps the sizes of named axes for a call, made at the first one."""
        written = function.__annotations__
        function.__annotations__ = notes
        inner = typechecker(function)
        function.__annotations__ = written
        sized = any("jaxtyping." in repr(note) for note in notes.values())
        return inner, thoroughly if sized else contextlib.nullcontext

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        inner, sizes = prepared()
        with sizes("context"):
            return inner(*args, **kwargs)

    return wrapper


# What the import hook of jaxtyping decorates with.
jaxtyping.jaxtyped = checked
