"""The file of a sweep: what is run, and the grid or list of the values of its fields."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.errors import InputError, require_count, require_one_of, shortened
from insitu.sweeps.sweep import ClaimSweep, Point, Sweep, TrainingSweep
from insitu.training.config import SECTIONS, read_toml, refuse_unknown

__all__ = ["MOST", "PLAN", "read_sweep", "sweep_from"]

# The copy of the plan in a folder, from which others see what is left.
PLAN = "plan.toml"

# The largest number of combinations: a longer list is a slip, and would not fit into a folder of records.
MOST = 100_000


def read_sweep(path: Path) -> Sweep:
    """Read the plan of a sweep from a TOML file.

    It names claims, or has the sections of a training's file; ``[grid]`` gives lists of values, of which every
    combination is run, and ``[[list]]`` single combinations, each of which is run with the whole grid.

    Raises:
        InputError: If the file cannot be read, or something in it does not fit.

    Example:
        A plan that trains twelve networks, those of one rate as one ensemble::

            [task]
            kind = "LinearRegression"
            law = { kind = "Gaussian", dim = 5 }

            [network]
            kind = "Transformer"
            layers = 2

            [training]
            steps = 1000
            rate = 0.003

            [grid]
            seed = [0, 1, 2]
            "network.mask" = ["prefix", "causal"]
            "training.rate" = [0.001, 0.003]
    """
    return sweep_from(read_toml(path), str(path))


def sweep_from(document: Mapping[str, Any], source: str) -> Sweep:
    """A sweep from the content of a plan.

    Raises:
        InputError: If something in it does not fit.
    """
    content = dict(document)
    points = points_from(content.pop("grid", {}), content.pop("list", [{}]), source)
    if "claims" in content:
        refuse_unknown(source, content, ("claims", "scale"))
        ids, scale = content["claims"], content.get("scale", "quick")
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise InputError(f"{source}: claims must be a list of names; got {shortened(repr(ids))}.")
        require_one_of(source, "scale", scale, ("quick", "full"))
        return ClaimSweep(tuple(ids), scale, points)
    options = {name: content.pop(name) for name in ("together", "test") if name in content}
    for name, value in options.items():
        require_count(source, name, value, least=2 if name == "test" else 1)
    if not content:
        raise InputError(f"{source}: nothing to run; give claims = [...], or the sections {', '.join(SECTIONS)}.")
    return TrainingSweep(content, points, **options)


def points_from(grid: Any, listed: Any, source: str) -> tuple[Point, ...]:
    """Every combination of the grid with each entry of the list.

    Raises:
        InputError: If one of them has another form, or a seed is no whole number.
    """
    if not isinstance(grid, dict) or not all(isinstance(values, list) and values for values in grid.values()):
        raise InputError(f"{source}: [grid] must give a list of values for each field; got {shortened(repr(grid))}.")
    if not isinstance(listed, list) or not listed or not all(isinstance(point, dict) for point in listed):
        raise InputError(f"{source}: [[list]] must be tables of fields and values; got {shortened(repr(listed))}.")
    count = len(listed)
    for values in grid.values():
        count *= len(values)
    if count > MOST:
        raise InputError(f"{source}: this would be {count} combinations; at most {MOST} are allowed.")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    points = tuple({**point, **combination} for point in listed for combination in combinations)
    for point in points:
        require_count(source, "seed", point.get("seed", 0))
    return points
