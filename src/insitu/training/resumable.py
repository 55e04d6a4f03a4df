"""Training that goes on where an interrupted one stopped."""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from insitu.errors import InputError
from insitu.storage import write_atomically
from insitu.training.ensemble import Ensemble
from insitu.training.loop import Progress, Recipe, Step, train

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
    """As :func:`~insitu.training.train`, with the state on disk at intervals and picked up from there.

    The weights, the optimiser and the number of updates are written to ``training.pt`` in the folder; a training that
    finds the file goes on from it, to the same last bit as one that was never interrupted. The file stays at the end,
    so that a finished training is not repeated.

    Args:
        ensemble: The networks; their weights are updated in place.
        losses: The loss of every copy at a step, drawn from a seed by the step's number.
        recipe: How long and how fast.
        folder: Where the state lies; nothing is written or read where none is given.
        seconds: How long to train between two writes.

    Raises:
        InputError: If the file is damaged or holds weights of another shape.
        DivergenceError: If a loss runs away.
        StorageError: If the state cannot be written.
    """
    progress = restored(ensemble, folder / STATE) if folder is not None else Progress()
    written = time.monotonic()
    for step in train(ensemble.trained, losses, recipe, progress):
        if folder is not None and (progress.done == recipe.steps or time.monotonic() - written > seconds):
            store(ensemble, progress, folder / STATE)
            written = time.monotonic()
        yield step


def store(ensemble: Ensemble[nn.Module], progress: Progress, path: Path) -> None:
    held = io.BytesIO()
    torch.save({"weights": ensemble.matrix.detach(), "done": progress.done, "optimiser": progress.optimiser}, held)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, held.getvalue())


def restored(ensemble: Ensemble[nn.Module], path: Path) -> Progress:
    """The progress that a file holds, its weights put into the ensemble; a fresh start where there is no file."""
    if not path.exists():
        return Progress()
    try:
        state = torch.load(path, weights_only=True, map_location=ensemble.matrix.device)
        with torch.no_grad():
            ensemble.matrix.copy_(state["weights"])
        return Progress(state["done"], state["optimiser"])
    except Exception as error:
        raise InputError(
            f"{path} is not the state of this training ({type(error).__name__}: {error}). Remove the file to start "
            "again from the first step."
        ) from None
