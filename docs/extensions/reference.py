"""Writes the pages of the reference: every public name under the package that shows it, in the order of its modules."""

import importlib
import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

# The packages whose names are public, in the order of the data's way through them.
PACKAGES = (
    "insitu",
    "insitu.tasks",
    "insitu.learners",
    "insitu.models",
    "insitu.theory",
    "insitu.theory.convergence",
    "insitu.theory.one_layer",
    "insitu.theory.sequences",
    "insitu.metrics",
    "insitu.metrics.distributions",
    "insitu.training",
    "insitu.identification",
    "insitu.language",
    "insitu.claims",
    "insitu.report",
    "insitu.figure",
    "insitu.exchange",
)


def public(package: types.ModuleType, taken: set[int]) -> dict[str, list[str]]:
    """The public names that no earlier page has, by the module that defines them."""
    modules: dict[str, list[str]] = {}
    for name in package.__all__:
        thing = getattr(package, name)
        if isinstance(thing, types.ModuleType) or id(thing) in taken:
            continue
        taken.add(id(thing))
        home = thing.__module__ if inspect.isclass(thing) or inspect.isfunction(thing) else package.__name__
        modules.setdefault(home, []).append(name)
    return dict(sorted(modules.items(), key=lambda item: (item[0] != package.__name__, item[0])))


def page(name: str, taken: set[int], described: set[str]) -> Iterator[str]:
    """One page, line by line."""
    package = importlib.import_module(name)
    modules = public(package, taken)
    yield from (name, "=" * len(name), "")
    yield from description(name, described)
    yield from (f".. currentmodule:: {name}", "")
    yield from (".. autosummary::", "   :nosignatures:", "")
    yield from (f"   {thing}" for things in modules.values() for thing in things if callable(getattr(package, thing)))
    for module, things in modules.items():
        if module != name:
            yield from ("", module, "-" * len(module), "")
            yield from description(module, described)
        for thing in things:
            yield from entry(package, thing)


def description(module: str, described: set[str]) -> Iterator[str]:
    """What a module says of itself, once in the whole reference."""
    if module not in described:
        described.add(module)
        yield from (f".. automodule:: {module}", "   :no-members:")
        # A function may have the name of its module; the function is then what links mean.
        package, _, name = module.rpartition(".")
        if package and not inspect.ismodule(getattr(sys.modules[package], name)):
            yield "   :no-index:"
        yield ""


def entry(package: types.ModuleType, name: str) -> Iterator[str]:
    """One class, function or value."""
    thing = getattr(package, name)
    if inspect.isclass(thing):
        yield from ("", f".. autoclass:: {package.__name__}.{name}", "   :members:")
    elif inspect.isfunction(thing):
        yield from ("", f".. autofunction:: {package.__name__}.{name}")
    else:
        yield from ("", f".. py:data:: {package.__name__}.{name}", "")
        yield from (f"   {line}" for line in value_docstring(package.__name__, name))


def value_docstring(package: str, name: str) -> list[str]:
    """The string below the assignment of a value, in whichever module of the package that is."""
    for module in sorted(module for module in sys.modules if module.startswith(package)):
        documented = ModuleAnalyzer.for_module(module).find_attr_docs()
        if ("", name) in documented:
            return documented["", name]
    return []


def write(app: Sphinx) -> None:
    """Write every page; one that would stay the same is left alone, so that it is not read again."""
    folder, taken, described = Path(app.srcdir) / "api", set[int](), set[str]()
    folder.mkdir(exist_ok=True)
    for name in PACKAGES:
        path, text = folder / f"{name}.rst", "\n".join(page(name, taken, described)) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def with_ways_back(page: str) -> str:
    """A page of source whose links to the reference name the package that shows a thing.

    Sphinx takes one package for all of a module, and ours show its names under several.
    """
    return re.sub(r'(class="viewcode-back" href="[^"]*/([\w.]+)\.html#)([\w.]+)"', way_back, page)


def way_back(link: re.Match[str]) -> str:
    """A link to the reference."""
    start, package, anchor = link.groups()
    named = max((name for name in PACKAGES if anchor.startswith(f"{name}.")), key=len)
    return f'{start}{package}{anchor.removeprefix(named)}"'


def mend_sources(app: Sphinx, error: Exception | None) -> None:
    """Mend the pages of source of a build that succeeded."""
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir, "_modules").rglob("*.html"):
            path.write_text(with_ways_back(path.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx."""
    app.connect("builder-inited", write)
    app.connect("build-finished", mend_sources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
