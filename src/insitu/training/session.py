"""A training from its configuration to files: networks, learning curves, and a state to resume from."""

import dataclasses
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.models import save_network
from insitu.models.network import Network, kind_of
from insitu.seed import Seed
from insitu.storage import append, locked, write_atomically
from insitu.training.config import Training
from insitu.training.ensemble import Ensemble
from insitu.training.history import Past, is_kept, keep_step, save_past
from insitu.training.loop import Step
from insitu.training.memory import require_memory
from insitu.training.resumable import STATE, steps_in
from insitu.training.supervision import token_losses

__all__ = ["METRICS", "checked", "metric_rows", "read_metrics", "run_training", "unchecked"]

METRICS = "metrics.jsonl"


def run_training(
    training: Training, seed: Seed, folder: Path, device: torch.device, *, resume: bool = False, seconds: float = 20.0
) -> Iterator[Step]:
    """Train in a folder, one yield per step.

    ``metrics.jsonl`` grows by one line per step and network; at the end the networks are written as checkpoints under
    the names that :attr:`Training.networks` gives them, with what they were trained on. What they are after 1, 2, 4, 8,
    ... steps lies below the same names. Step i sees the prompts at ``seed / "batch" / i``, so a resumed
    training ends with the bits of one that was never interrupted.

    Args:
        training: The configuration.
        seed: The seed of prompts and initial weights.
        folder: The folder of all files.
        device: The device to compute on.
        resume: Whether to resume from the state in the folder; otherwise the files of an earlier training are replaced.
        seconds: The time between two writes of the state.

    Raises:
        DivergenceError: If a loss runs away.
        InputError: If the state in the folder is damaged or belongs to another training, its learning curves do not
            reach up to it, or the training needs more memory than there is.
        OutOfTimeError: If the budget of the process is spent before the last step; everything is stored.
        StorageError: If something cannot be written, or another process trains in the folder.
    """
    require_memory(training, device)
    with locked(folder):
        yield from session(training, seed, folder, device, resume, seconds)


def session(
    training: Training, seed: Seed, folder: Path, device: torch.device, resume: bool, seconds: float
) -> Iterator[Step]:
    """Train in a folder that this process has locked."""
    if not resume:
        (folder / STATE).unlink(missing_ok=True)
        write_atomically(folder / METRICS, b"")
    ensemble = Ensemble(
        [started(shape, seed / "start" / start, training.std).to(device) for shape, start in training.networks.values()]
    )
    copies = len(ensemble.networks)
    loss_of = token_losses(ensemble, [training.context_loss] * copies, device)

    def losses(step: int) -> Float[Tensor, " copy"]:
        return loss_of([training.prompts.at(step, training.task, seed / "batch")] * copies)

    identity = {f.name: repr(getattr(training, f.name)) for f in dataclasses.fields(training)} | {"seed": str(seed)}
    fresh = True
    for step in steps_in(folder, ensemble, losses, training.recipe, identity, seconds):
        if fresh:
            cut_metrics(folder, training, step.index)
            fresh = False
        rows = metric_rows(training, step)
        append(folder / METRICS, "".join(f"{json.dumps(checked(row))}\n" for row in rows))
        if is_kept(step.index + 1):
            for name, network in zip(training.networks, ensemble.unstack(), strict=True):
                keep_step(network, folder / name, step.index + 1)
        yield step
    for name, network in zip(training.networks, ensemble.unstack(), strict=True):
        save_network(network.cpu(), folder / name)
        save_past(Past(training.task, training.points), folder / name)


def metric_rows(training: Training, step: Step) -> list[dict[str, Any]]:
    """The metrics of a step, a row per network."""
    rate = training.recipe.rate_at(step.index)
    return [
        {"step": step.index, "network": name, "loss": loss, "rate": rate}
        for name, loss in zip(training.networks, step.losses, strict=True)
    ]


def checked(row: dict[str, Any]) -> dict[str, Any]:
    """A row with a checksum of the rest of it."""
    content = unchecked(row)
    return {**content, "check": f"{zlib.crc32(json.dumps(content).encode()):08x}"}


def unchecked(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its checksum."""
    return {key: value for key, value in row.items() if key != "check"}


def cut_metrics(folder: Path, training: Training, done: int) -> None:
    """Keep the rows of the steps that were done; those after the last stored state are made again.

    Raises:
        InputError: If a row of these steps is missing or damaged.
    """
    rows = [row for row in read_metrics(folder) if row["step"] < done]
    expected = [(step, name) for step in range(done) for name in training.networks]
    if [(row["step"], row["network"]) for row in rows] != expected:
        raise InputError(
            f"{folder / METRICS} does not hold the losses of all {done} steps that were trained. Restore the file, or "
            "start again without --resume."
        )
    write_atomically(folder / METRICS, "".join(f"{json.dumps(row)}\n" for row in rows).encode())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; a last line that was cut off while it was written is left out.

    Raises:
        InputError: If the file cannot be read, or a line is damaged.
    """
    path = folder / METRICS
    try:
        *lines, _unfinished = path.read_bytes().split(b"\n") if path.exists() else [b""]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    return [row_of(path, number, line) for number, line in enumerate(lines, start=1)]


def row_of(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """A line as a row."""
    try:
        row = json.loads(line)
        if row == checked(row):
            return row
    except (ValueError, AttributeError, RecursionError):
        pass
    raise InputError(
        f"line {number} of {path} is damaged: it does not match its own checksum. Restore the file, or start again "
        "without --resume."
    )


def started(architecture: Any, seed: Seed, std: float | None) -> Network:
    """A network of an architecture at its start."""
    kind = kind_of(architecture)
    network = kind(architecture)
    network.initialise(seed, **({} if std is None else {"std": std}))
    return network
