"""Registries that nobody has to fill: the classes of a kind are those that are below its abstract class."""

import inspect
from typing import Any

__all__ = ["kinds_below"]


def kinds_below(base: type[Any]) -> dict[str, type[Any]]:
    """The classes of this package below an abstract one that can be made, by their names.

    Example:
        >>> from insitu.tasks import Law
        >>> sorted(kinds_below(Law))
        ['Gaussian', 'UniformCube']
    """
    kinds: dict[str, type[Any]] = {}
    for kind in base.__subclasses__():
        concrete = not inspect.isabstract(kind) and kind.__module__.startswith("insitu.")
        kinds |= ({kind.__name__: kind} if concrete else {}) | kinds_below(kind)
    return kinds
