"""A training as a TOML file: what is trained on what, and how."""

import contextlib
import dataclasses
import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from insitu.device import memory
from insitu.errors import (
    InputError,
    near_matches,
    require_count,
    require_flag,
    require_not_negative,
    require_one_of,
    shortened,
)
from insitu.kinds import kinds_below
from insitu.models import Causal, Prefix
from insitu.models.network import kind_of, network_kinds
from insitu.seed import Seed
from insitu.tasks import Law, Task
from insitu.training.loop import Recipe
from insitu.training.supervision import Batches

__all__ = ["SECTIONS", "Training", "read_toml", "read_training", "refuse_unknown", "training_from"]

MASKS = {"prefix": Prefix(), "causal": Causal()}
# Beyond it a float no longer holds every whole number.
LARGEST = 2**53
SECTIONS = ("task", "network", "training")


@final
@dataclass(frozen=True)
class Training:
    """One training, as a file describes it.

    Args:
        task: The task from which prompts are drawn.
        architecture: The shape of the network.
        recipe: The number of steps and the learning rate.
        batch: Prompts per step.
        points: Examples in a prompt.
        queries: Independent queries in a prompt; a decoder answers at every example instead.
        starts: The number of random initialisations, trained as one ensemble.
        std: The size of weights at the start, see :meth:`insitu.models.Network.initialise`; the kind's own where none
            is given.
        batches: The number of fixed batches, used in turn; 0 draws a new batch at every step.
        permuted: Whether the examples of a batch are shuffled at every step.
        context_loss: Whether the loss also penalises outputs at the context tokens.
        masks: Names of several masks, under each of which every start is trained on the same prompts; none for the
            architecture's own mask.

    Raises:
        InputError: If a size is not positive, a network that answers at every example gets a context loss, one whose
            mask is built in gets several, or a sequence is to be read in new orders or with several queries.
    """

    task: Task
    architecture: Any
    recipe: Recipe
    batch: int = 64
    points: int = 20
    queries: int = 8
    starts: int = 1
    std: float | None = None
    batches: int = 0
    permuted: bool = False
    context_loss: bool = False
    masks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch", "points", "queries", "starts"):
            require_count("training", name, getattr(self, name), least=1)
        require_count("training", "batches", self.batches)
        if self.std is not None:
            require_not_negative("training", "std", self.std)
        for name in ("permuted", "context_loss"):
            require_flag("training", name, getattr(self, name))
        kind = kind_of(self.architecture)
        if self.context_loss and not kind.outputs_at_examples:
            raise InputError(f"training: a {kind.__name__} answers at every example; leave context_loss out.")
        if self.masks and not kind.mask_is_input:
            raise InputError(f"network: the mask of a {kind.__name__} is built in; give one mask per file.")
        if self.task.prompts == "sequence" and (self.permuted or self.queries > 1):
            raise InputError(
                "training: a sequence has one order and one query; leave permuted out and set queries = 1."
            )

    @property
    def prompts(self) -> Batches:
        """The prompts of its steps."""
        return Batches(self.batch, self.points, self.queries, self.batches, self.permuted)

    @property
    def networks(self) -> dict[str, tuple[Any, int]]:
        """The name of every network with its architecture and its start; networks that differ in mask start alike."""
        shapes = {"network": self.architecture}
        if self.masks:
            shapes = {mask: replace(self.architecture, mask=MASKS[mask]) for mask in self.masks}
        return {f"{name}-{start}": (shapes[name], start) for name in shapes for start in range(self.starts)}


def read_training(path: Path) -> Training:
    """Read a training from a TOML file with the sections ``task``, ``network`` and ``training``.

    Raises:
        InputError: If the file cannot be read, a key is unknown or missing, or a value does not fit.

    Example:
        A file that trains a transformer on linear regression::

            [task]
            kind = "LinearRegression"
            law = { kind = "UniformCube", dim = 5 }

            [network]
            kind = "Transformer"
            mask = "causal"
            layers = 3

            [training]
            steps = 1000
            rate = 0.003
            points = 10
    """
    return training_from(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: If it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. Give a TOML file.") from None
    except (ValueError, RecursionError) as error:
        # Not TOML, not text, a number of too many digits, or lists in lists without end.
        raise InputError(f"{path} is not TOML: {shortened(str(error), 200)}.") from None


def training_from(document: Mapping[str, Any], source: str) -> Training:
    """A training from the sections of a file that was read from a source.

    Raises:
        InputError: If a section or key is unknown or missing, or a value does not fit.
    """
    refuse_unknown(source, document, SECTIONS)
    missing = [name for name in SECTIONS if not isinstance(document.get(name), dict)]
    if missing:
        raise InputError(f"{source}: the section [{missing[0]}] is missing; expected [task], [network] and [training].")
    task = build("task", document["task"], kinds_below(Task))
    section = ({"queries": 1} if task.prompts == "sequence" else {}) | document["training"]
    network = sized(dict(document["network"]), task, section.get("points", Training.points))
    masks = read_masks(network)
    allowed = {f.name for f in dataclasses.fields(Training)} - {"task", "architecture", "recipe", "masks"}
    recipes = {f.name for f in dataclasses.fields(Recipe)}
    refuse_unknown("training", section, allowed | recipes)
    recipe = called("training", Recipe, {k: frozen(v) for k, v in section.items() if k in recipes})
    options = {k: v for k, v in section.items() if k in allowed}
    architecture = build("network", network, {k: v.architecture_class for k, v in network_kinds().items()})
    parts = {"task": task, "architecture": architecture, "recipe": recipe, "masks": masks}
    return called("training", Training, parts | options)


def refuse_wide(section: str, dim: Any) -> None:
    """Refuse inputs whose covariance, a matrix, would not fit into memory."""
    available = memory(torch.device("cpu"))
    if isinstance(dim, int) and 8 * dim**2 > available:
        raise InputError(
            f"{section}: dim is {shortened(str(dim))}; a covariance of that size does not fit into the "
            f"{available / 1e9:,.0f} GB of memory that there are."
        )


def sized(network: dict[str, Any], task: Task, points: Any) -> dict[str, Any]:
    """A network's section with what the task and the length of the prompts decide filled in."""
    kind = network_kinds().get(str(network.get("kind")))
    if kind is None:
        return network
    fields = {field.name for field in dataclasses.fields(kind.architecture_class)}
    for name, size in {"dim": task.dim, "out": task.out}.items():
        if name in fields and network.setdefault(name, size) != size:
            raise InputError(f"network: {name} is {network[name]}, but the task's is {size}; leave it out.")
    require_count("training", "points", points, least=1)
    return kind.sizes_for(points) | network


def read_masks(network: dict[str, Any]) -> tuple[str, ...]:
    """Replace the mask of a section by an object, the first if there are several; the names of several masks."""
    if "mask" not in network:
        return ()
    several = isinstance(network["mask"], list)
    names = tuple(network["mask"]) if several else (network["mask"],)
    for name in names:
        require_one_of("network", "mask", name, tuple(MASKS))
    if not names or len(set(names)) < len(names):
        raise InputError(f"network: mask must be one name or different ones; got {list(names)}.")
    network["mask"] = MASKS[names[0]]
    return names if several else ()


def build(section: str, table: Mapping[str, Any], kinds: Mapping[str, Callable[..., Any]]) -> Any:
    """The object that a section describes by ``kind`` and its other keys; a nested table describes a task or a law."""
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        hint = near_matches(kind, kinds) if isinstance(kind, str) else f"there are: {', '.join(sorted(kinds))}."
        raise InputError(f"{section}: kind {kind!r} is not known; {hint}")
    keys = {name: value for name, value in table.items() if name != "kind"}
    parameters = inspect.signature(kinds[kind]).parameters
    refuse_unknown(section, keys, parameters)
    if kind in kinds_below(Law):
        refuse_wide(section, keys.get("dim"))
    values = {name: part(f"{section}.{name}", value, parameters[name].annotation) for name, value in keys.items()}
    return called(section, kinds[kind], values)


def part(section: str, value: Any, annotation: Any) -> Any:
    """The value of a key: a table as the task or law that it describes, a number for a seed, lists as tuples."""
    if isinstance(value, dict):
        return build(section, value, kinds_below(Task) | kinds_below(Law))
    if annotation is Seed:
        return Seed(value)
    return frozen(value)


def called(section: str, kind: Callable[..., Any], keys: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(kind).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in keys]
    if missing:
        example = ', such as law = { kind = "Gaussian", dim = 5 }' if missing[0] == "law" else ""
        raise InputError(f"{section}: {missing[0]} is missing{example}.")
    large = [name for name, value in keys.items() if isinstance(value, int) and abs(value) > LARGEST]
    if large:
        raise InputError(f"{section}: {large[0]} is too large; got {shortened(str(keys[large[0]]))}.")
    try:
        # Checks that build a part of a network must not allocate it: its size is not checked yet.
        with torch.device("meta") if section == "network" else contextlib.nullcontext():
            return kind(**keys)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError, RecursionError) as error:
        raise InputError(f"{section}: a value does not fit: {shortened(str(error), 200)}.") from None


def frozen(value: Any) -> Any:
    """Lists as tuples, so that what is built from them can be compared and hashed."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


def refuse_unknown(section: str, keys: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse keys that a section does not have.

    Raises:
        InputError: If there is one; the message names the nearest that it has.
    """
    unknown = sorted(set(keys) - set(allowed))
    if unknown:
        raise InputError(f"{section}: {unknown[0]!r} is not a key here; {near_matches(unknown[0], allowed)}")
