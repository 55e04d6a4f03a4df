"""Names that are imported when they are first used, so that importing a package costs nothing."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["lazily"]


def lazily(
    package: str, names: Mapping[str, str], subpackages: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose names live in other modules (PEP 562).

    Args:
        package: The package's ``__name__``.
        names: The module in which each name lives.
        subpackages: Modules below the package that become its attributes.

    Example:
        >>> get, _ = lazily("insitu", {"InputError": "insitu.errors"})
        >>> get("InputError").__module__
        'insitu.errors'
    """

    def __getattr__(name: str) -> Any:
        if name in names:
            value = getattr(importlib.import_module(names[name]), name)
        elif name in subpackages:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # The next look-up finds it without coming here.
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names, *subpackages})

    return __getattr__, __dir__
