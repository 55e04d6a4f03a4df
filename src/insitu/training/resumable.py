"""Training that resumes after an interruption."""

import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.budget import OutOfTimeError, budget
from insitu.errors import InputError, shortened
from insitu.storage import locked, read_with_digest, write_with_digest
from insitu.training.ensemble import Ensemble
from insitu.training.loop import DivergenceError, Progress, Recipe, Step, train

__all__ = ["train_resumably"]

STATE = "training.pt"


def train_resumably(
    ensemble: Ensemble[Any],
    losses: Callable[[int], Float[Tensor, " copy"]],
    recipe: Recipe,
    folder: Path | None,
    *,
    seconds: float = 120.0,
) -> Iterator[Step]:
    """Train as :func:`~insitu.training.train`, store the state at intervals, and resume from it.

    The weights, the optimiser and the number of updates are written to ``training.pt`` in the folder; a training that
    finds the file goes on from it, to the same last bit as one that was never interrupted. The file stays at the end,
    so that a finished training is not repeated. No other process trains in the folder meanwhile.

    Args:
        ensemble: The networks; their weights are updated in place.
        losses: The loss of every copy at a step, drawn from a seed by the step's number.
        recipe: The number of steps and the learning rate.
        folder: The folder of the state (default: none is written or read).
        seconds: The time between two writes of the state.

    Raises:
        InputError: If the file is damaged or belongs to another training.
        DivergenceError: If a loss runs away.
        OutOfTimeError: If the :func:`~insitu.budget.budget` of the process is spent before the last step; the state is
            stored.
        StorageError: If the state cannot be written, or another process trains in the folder.
    """
    if folder is None:
        yield from train(ensemble.trained, losses, recipe)
        return
    with locked(folder):
        yield from steps_in(folder, ensemble, losses, recipe, {}, seconds)


def steps_in(
    folder: Path,
    ensemble: Ensemble[Any],
    losses: Callable[[int], Float[Tensor, " copy"]],
    recipe: Recipe,
    identity: Mapping[str, str],
    seconds: float,
) -> Iterator[Step]:
    """The remaining steps of a training in a folder that this process has locked.

    ``identity`` distinguishes it from other trainings of such networks by such a recipe.
    """
    own = {"recipe": recipe, "copies": len(ensemble.networks), "weights": list(ensemble.shapes.items())}
    fingerprint = {**identity, **{name: repr(value) for name, value in own.items()}}
    path = folder / STATE
    progress = restored(ensemble, path, fingerprint)
    written = time.monotonic()
    for step in train(ensemble.trained, losses, recipe, progress):
        spent = budget().spent
        if progress.done == recipe.steps or spent or time.monotonic() - written > seconds:
            store(ensemble, progress, path, fingerprint)
            written = time.monotonic()
        yield step
        if spent and progress.done < recipe.steps:
            raise OutOfTimeError(
                f"the time is over after {progress.done} of {recipe.steps} steps, which are stored in {folder}; the "
                "same training continues from there."
            )


def store(ensemble: Ensemble[nn.Module], progress: Progress, path: Path, fingerprint: Mapping[str, str]) -> None:
    """Write the state of a training.

    Raises:
        DivergenceError: If a weight is not finite.
        StorageError: If it cannot be written.
    """
    weights = ensemble.matrix.detach()
    if not weights.isfinite().all():
        raise DivergenceError(f"training diverged before step {progress.done}: a weight is not finite. Lower the rate.")
    state = {"fingerprint": dict(fingerprint), "weights": weights}
    content = io.BytesIO()
    torch.save({**state, "done": progress.done, "optimiser": progress.optimiser}, content)
    write_with_digest(path, content.getvalue())


def restored(ensemble: Ensemble[nn.Module], path: Path, fingerprint: Mapping[str, str]) -> Progress:
    """Load the weights of a state into the ensemble; its progress, or a fresh one if there is no file."""
    if not path.exists():
        return Progress()
    try:
        content = io.BytesIO(read_with_digest(path))
        state = torch.load(content, weights_only=True, map_location=ensemble.matrix.device)
        require_same(path, state["fingerprint"], fingerprint)
        with torch.no_grad():
            ensemble.matrix.copy_(state["weights"])
        return Progress(state["done"], state["optimiser"])
    except InputError as error:
        raise InputError(f"{error} Remove the file to start again from the first step.") from None
    except Exception as error:
        raise InputError(
            f"{path} is not the state of a training ({type(error).__name__}: {error}). Remove the file to start again "
            "from the first step."
        ) from None


def require_same(path: Path, stored: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Refuse the state of another training.

    Raises:
        InputError: If a part of the fingerprints differs; the message names it.
    """
    for name in sorted(stored.keys() | expected.keys()):
        old, new = (parts.get(name, "nothing") for parts in (stored, expected))
        if old != new:
            raise InputError(
                f"{path} is the state of another training, whose {name} was {shortened(old, 200)} and not "
                f"{shortened(new, 200)}. Give the same configuration and seed, or choose another folder."
            )
