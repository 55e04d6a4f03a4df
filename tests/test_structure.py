"""The shape of the package: imports flow one way, a class is abstract or final, the import is light and silent."""

import abc
import ast
import graphlib
import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.examples import LAWS, LEARNERS, MASKS, PREDICTORS, TASKS, below, concrete, load, modules
from tests.suite import global_generators

import insitu
from insitu import Predictor, Task
from insitu.learners import Learner
from insitu.models import Mask
from insitu.tasks import Law

# What each part of the package may import: what stands in an earlier line, never its own line's neighbours.
LAYERS = [
    "lazy | kinds | errors",
    "seed | storage | budget | figure",
    "processes",
    "prompt | device | records",
    "predictor | exchange | work",
    "tasks",
    "learners",
    "models",
    "theory",
    "metrics",
    "training",
    "identification",
    "claims",
    "language",
    "papers",
    "sweeps",
    "report",
    "front_door",
    "interoperability",
    "insitu",  # the names that the package itself shows
    "explorer",
    "cli",
    "__main__",
]
LEVEL = {part: level for level, line in enumerate(LAYERS) for part in line.split(" | ")}
PACKAGE = Path(insitu.__file__).parent
DRAWERS = {"utils", "util", "helpers", "common", "misc", "tools", "shared"}


def part(module: str) -> str:
    """The part of the package that a module belongs to: ``tasks`` for ``insitu.tasks.law``."""
    return module.split(".")[1] if "." in module else module


def source(module: str) -> str:
    return Path(importlib.util.find_spec(module).origin).read_text()


def imports(text: str, known: set[str]) -> Iterator[str]:
    """The modules of the package that a source imports, inside functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known or node.module in known:
                    yield inner if inner in known else node.module


def graph() -> dict[str, set[str]]:
    known = set(modules())
    return {module: set(imports(source(module), known)) - {module} for module in known}


def wrong_imports(edges: Mapping[str, set[str]]) -> list[str]:
    """The imports that go up or sideways."""
    pairs = sorted((user, used) for user, targets in edges.items() for used in targets if part(user) != part(used))
    return [f"{user} -> {used}" for user, used in pairs if LEVEL[part(used)] >= LEVEL[part(user)]]


def test_imports_flow_one_way():
    assert {part(module) for module in modules()} <= LEVEL.keys(), "give a new part its layer"
    assert wrong_imports(graph()) == []


def test_an_import_that_goes_up_or_sideways_is_noticed():
    assert wrong_imports({"insitu.models.mask": {"insitu.tasks", "insitu.learners.learner"}}) == []
    assert wrong_imports({"insitu.tasks.law": {"insitu.learners"}}) == ["insitu.tasks.law -> insitu.learners"]
    assert wrong_imports({"insitu.device": {"insitu.prompt"}}) == ["insitu.device -> insitu.prompt"]
    assert wrong_imports({"insitu.seed": {"insitu"}}) == ["insitu.seed -> insitu"]


def test_imports_are_found_wherever_they_stand():
    text = "import insitu.a\nfrom insitu import b, B\ndef f():\n    from insitu.c import d\nimport numpy"
    assert set(imports(text, {"insitu", "insitu.a", "insitu.b", "insitu.c"})) == {
        "insitu",
        "insitu.a",
        "insitu.b",
        "insitu.c",
    }


def test_no_import_is_circular():
    assert list(graphlib.TopologicalSorter(graph()).static_order())


def test_a_circle_is_noticed():
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_no_drawer_is_called_utils():
    assert [module for module in modules() if DRAWERS & set(module.split("."))] == []


def test_every_name_that_a_module_shows_exists():
    for module in modules():
        loaded = importlib.import_module(module)
        assert [name for name in getattr(loaded, "__all__", []) if not hasattr(loaded, name)] == [], module


# Abstract or final.


def bases() -> set[type]:
    """The classes of the package that derive from ABC directly."""
    return {kind for kind in abc.ABC.__subclasses__() if kind.__module__.startswith("insitu")}


def neither(kinds: set[type]) -> list[str]:
    """The concrete classes that are not decorated final."""
    return sorted(kind.__qualname__ for kind in kinds if not kind.__dict__.get("__final__", False))


def test_a_class_is_abstract_or_final():
    load()
    assert {Task, Law, Predictor, Mask} <= bases()
    for base in bases():
        assert neither(concrete(base)) == []
        assert [kind for kind in concrete(base) if len(below(kind)) > 1] == [], "a concrete class is subclassed"


def test_a_class_that_is_neither_is_noticed():
    class Loose(Predictor):
        def predict(self, prompt):
            return prompt.ys

    assert neither({Loose}) == [f"{Loose.__qualname__}"]


@pytest.mark.parametrize(
    ("base", "examples"),
    [(Task, TASKS), (Law, LAWS), (Learner, LEARNERS), (Mask, MASKS), (Predictor, PREDICTORS)],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_every_final_class_has_an_example(base, examples):
    load()
    assert concrete(base) == {type(example) for example in examples}


# The import.

IMPORT = """
import sys, torch, numpy
states = torch.get_rng_state(), str(numpy.random.get_state())
import insitu, insitu.tasks, insitu.learners, insitu.models, insitu.theory, insitu.report, insitu.identification
import insitu.papers.registry
theirs = {f"scipy.{part}" for part in ("integrate", "optimize", "signal", "stats")}
heavy = {"transformers", "matplotlib", "typer", "sklearn", *theirs} & set(sys.modules)
assert not heavy, heavy
assert torch.equal(states[0], torch.get_rng_state()) and states[1] == str(numpy.random.get_state()), "drew"
assert torch.get_default_dtype() == torch.float32 and not torch.are_deterministic_algorithms_enabled()
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)


def test_the_import_is_light_silent_and_draws_nothing():
    done = run(IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_draw_from_a_global_generator_is_noticed():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    before = global_generators()
    torch.rand(1)
    np.random.rand(1)  # noqa: NPY002
    after = global_generators()
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    assert [was == is_now for was, is_now in zip(before, after, strict=True)] == [False, False]
    assert global_generators() == before


def test_the_vocabulary_is_at_the_top():
    assert insitu.__all__ == sorted(insitu.__all__)
    assert {"Episode", "InputError", "Predictor", "Prompt", "Seed", "Task"} <= set(insitu.__all__)


def test_missing_packages_are_refused_in_one_way():
    """The way to get an extra is said by the helper alone, and by the list of what is installed."""
    said = {path.name for path in PACKAGE.rglob("*.py") if "pip install 'insitu[" in path.read_text()}
    assert said == {"errors.py", "doctor.py"}


def test_every_extra_that_a_package_is_refused_with_exists():
    extras = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    calls = [
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require_package"
    ]
    assert len(calls) >= 9
    assert {call.args[2].value for call in calls} <= set(extras)
