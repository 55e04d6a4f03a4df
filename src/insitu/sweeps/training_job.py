"""Jobs that train networks: those of one shape as one ensemble, each tested on prompts that no training saw."""

import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.budget import OutOfTimeError
from insitu.device import describe_device
from insitu.errors import InputError
from insitu.metrics import Estimate, squared_error
from insitu.models.network import Network, kind_of
from insitu.processes import product_speed
from insitu.prompt import Episode
from insitu.records import Damage, find_record, key_of, store_record
from insitu.seed import Seed
from insitu.storage import StorageError
from insitu.training import Ensemble, token_losses, train_resumably
from insitu.training.config import Training
from insitu.training.memory import least_memory
from insitu.training.operations import forward_numbers, forward_operations
from insitu.training.session import started
from insitu.work.job import UNFINISHED, Job

__all__ = ["TRAINING", "Member", "TrainingJob", "TrainingRecord", "shape_of"]

TRAINING = "training"
"""The kind of these records."""


@final
@dataclass(frozen=True)
class Pace:
    """How quick a device is.

    Args:
        speed: Operations in a second, in products as small as those of these networks.
        step: The seconds of a step whatever it computes.
        layer: Those of a layer.
        number: The seconds for each number that a forward pass writes; in training with the backward pass, which finds
            much of them in the cache, as testing does not.
    """

    speed: float
    step: float
    layer: float = 0.0
    number: float = 0.0


# A core of an AMD EPYC, measured on seven shapes, on which a product of large matrices makes so many operations in a
# second; an H100 as in training.operations.
PACES = {"cpu": Pace(1.3e11, 2e-3, 2e-3, 1.5e-9), "cuda": Pace(0.2 * 67e12, 5e-3)}
PRODUCT_SPEED = 2.2e11


@final
@dataclass(frozen=True)
class Member:
    """A training of a sweep: one combination of its fields.

    Args:
        training: The configuration.
        seed: The seed of prompts and initial weights; their streams are those of ``insitu train``.
        point: The values of the fields that the sweep varies.
    """

    training: Training
    seed: int
    point: tuple[tuple[str, Any], ...] = ()

    @property
    def streams(self) -> Seed:
        """The random streams."""
        return Seed(self.seed)


def shape_of(training: Training) -> tuple[Any, ...]:
    """What trainings must share to be one ensemble: all sizes and the recipe, but no seed and no mask that is input."""
    architecture = training.architecture
    fields = {field.name: getattr(architecture, field.name) for field in dataclasses.fields(architecture)}
    if kind_of(architecture).mask_is_input:
        fields.pop("mask", None)
    task = training.task
    sizes = training.batch, training.points, training.queries, task.dim, task.out, task.prompts
    return type(architecture), tuple(fields.items()), training.recipe, sizes


@final
@dataclass(frozen=True)
class TrainingRecord:
    """The numbers of an ensemble: a row for each network."""

    rows: tuple[Mapping[str, Any], ...]
    seconds: float
    error: str = ""


@final
@dataclass(frozen=True)
class TrainingJob(Job):
    """Trainings of one shape, as one ensemble.

    Args:
        members: The trainings.
        test: Prompts on which each network is tested.
        device: *cpu* or *cuda*.
        folder: The folder of the record.
    """

    members: tuple[Member, ...]
    test: int
    device: str
    folder: Path

    @property
    def name(self) -> str:
        varied = [", ".join(f"{name}={value}" for name, value in member.point) for member in self.members]
        return varied[0] if len(varied) == 1 else f"{varied[0]} … {varied[-1]} ({len(varied)} trainings)"

    @functools.cached_property
    def key(self) -> str:
        return key_of({"kind": TRAINING, "job": repr(self.members), "test": self.test, "device": self.described})

    @property
    def described(self) -> str:
        """The device as a record names it."""
        return describe_device(torch.device(self.device))

    @property
    def copies(self) -> list[tuple[Member, str, Any, int]]:
        """Every network: its training, its name there, its architecture, and its start."""
        return [(member, name, *shape) for member in self.members for name, shape in member.training.networks.items()]

    @functools.cached_property
    def operations(self) -> int | None:
        try:
            return sum(self.operations_of(member) for member in self.members)
        except InputError:
            return None

    def operations_of(self, member: Member) -> int:
        """The operations of a training, three forward passes a step, and of the test, for every network."""
        updates = 3 * member.training.recipe.steps
        return updates * self.counted(forward_operations, member) + self.counted(forward_operations, member, self.test)

    def counted(self, count: Callable[..., int], member: Member, test: int | None = None) -> int:
        """What a count says of the forward passes of a step, of every network; of those of a test if there is one."""
        training = member.training
        kind = kind_of(training.architecture)
        repeats = training.queries if kind.one_query and test else 1
        batch, queries = (test or training.batch) * repeats, 1 if kind.one_query else training.queries
        alone = bool(test) or (kind.outputs_at_examples and not training.context_loss)
        sizes = {"batch": batch, "context": training.points, "queries": queries, "alone": alone}
        return sum(count(shape, **sizes) for shape, _ in training.networks.values())

    @property
    def bytes_needed(self) -> int | None:
        return sum(least_memory(member.training) for member in self.members)

    @property
    def stated_seconds(self) -> float:
        pace, training = PACES[self.device], self.members[0].training
        steps, layers = training.recipe.steps, training.architecture.layers
        numbers = sum(
            steps * self.counted(forward_numbers, member) + self.counted(forward_numbers, member, self.test)
            for member in self.members
        )
        launched = steps * (pace.step + layers * pace.layer)
        return (self.operations or 0) / pace.speed + numbers * pace.number + launched

    @property
    def expected_seconds(self) -> float:
        """As stated, on a processor by how quick this one is."""
        return self.stated_seconds * (PRODUCT_SPEED / product_speed() if self.device == "cpu" else 1.0)

    @property
    def state(self) -> Path:
        """The folder of the state of an unfinished training."""
        return self.folder / UNFINISHED / f"{TRAINING}-{self.key[:12]}"

    def states(self) -> Iterable[Path]:
        return (self.state,)

    def resembles(self, record: Mapping[str, Any]) -> bool:
        return record.get("kind") == TRAINING and record.get("shape") == self.shape

    @property
    def shape(self) -> str:
        """What decides how long it takes."""
        return repr((shape_of(self.members[0].training), len(self.copies), self.described))

    def run(self) -> TrainingRecord:
        began = time.perf_counter()
        try:
            rows, error = self.tested(self.trained()), ""
        except (StorageError, OutOfTimeError):
            raise
        except Exception:
            rows, error = [], traceback.format_exc()
        return self.recorded(rows, error, time.perf_counter() - began)

    def failed(self, reason: str) -> TrainingRecord:
        return self.recorded([], reason, 0.0)

    def recorded(self, rows: Iterable[Mapping[str, Any]], error: str, seconds: float) -> TrainingRecord:
        """Write the record."""
        content = {
            "kind": TRAINING,
            "shape": self.shape,
            "rows": list(rows),
            "device": self.described,
            "seconds": round(seconds, 3),
            "error": error,
        }
        return record_of(store_record(self.folder, TRAINING, self.key, content))

    def stored(self) -> TrainingRecord | Damage | None:
        stored = find_record(self.folder, TRAINING, self.key)
        return stored if stored is None or isinstance(stored, Damage) else record_of(stored)

    def trained(self) -> list[Network]:
        """The networks at the end of their training, which resumes from an earlier state."""
        device = torch.device(self.device)
        networks = [
            started(shape, member.streams / "start" / start, member.training.std).to(device)
            for member, _, shape, start in self.copies
        ]
        ensemble = Ensemble(networks)
        loss_of = token_losses(ensemble, [member.training.context_loss for member, *_ in self.copies], device)

        def losses(step: int) -> Float[Tensor, " copy"]:
            drawn: dict[Any, Episode] = {}
            return loss_of([self.episode(member, step, drawn) for member, *_ in self.copies])

        for _ in train_resumably(ensemble, losses, self.members[0].training.recipe, self.state, seconds=20.0):
            pass
        return [network.cpu() for network in ensemble.unstack()]

    def episode(self, member: Member, step: int, drawn: dict[Any, Episode]) -> Episode:
        """The prompts of a step; trainings that differ in their network alone share them."""
        training = member.training
        same = training.task, training.prompts, member.seed
        if same not in drawn:
            drawn[same] = training.prompts.at(step, training.task, member.streams / "batch")
        return drawn[same]

    def tested(self, networks: Iterable[Network]) -> list[dict[str, Any]]:
        """A row for each network: its squared error on prompts that no training saw."""
        rows = []
        for (member, name, *_), network in zip(self.copies, networks, strict=True):
            training = member.training
            episode = training.task.sample(member.streams / "test", self.test, training.points, training.queries)
            with torch.no_grad():
                error = Estimate.mean(squared_error(network.predict(episode.prompt), episode))
            low, high = error.interval()
            numbers = {"error": error.value, "error_low": low, "error_high": high, "standard_error": error.error}
            rows.append({"point": dict(member.point) | {"seed": member.seed}, "network": name, **numbers})
        return rows


def record_of(content: Mapping[str, Any]) -> TrainingRecord:
    """A record from the content of its file."""
    return TrainingRecord(tuple(content["rows"]), float(content["seconds"]), str(content["error"]))
