"""States of the Trainer of transformers: sealed when they are whole, and checked when they are taken up."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from insitu.errors import InputError
from insitu.storage import require_intact, seal, writing

__all__ = ["newest_state", "sealing_trainer", "step_of"]


def newest_state(folder: Path) -> Path | None:
    """The last whole state of a training; none if there is none. Those that were being written are passed over.

    Raises:
        InputError: If it is damaged.
    """
    for state in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        try:
            if require_intact(state):
                return state
        except InputError as error:
            raise InputError(f"{error} Remove {folder} to start again from the first step.") from None
    return None


def step_of(state: Path) -> int:
    """The step of a state."""
    return int(state.name.rpartition("-")[2])


def sealing_trainer(folder: Path, loss: Callable[[Any, dict[str, Tensor]], Tensor] | None = None) -> Any:
    """The Trainer of transformers, which seals the states that it writes and keeps the newest alone.

    Args:
        folder: Where it writes them.
        loss: The loss of a network on a batch; the network's own if none.
    """
    from transformers import Trainer

    class SealingTrainer(Trainer):
        def compute_loss(self, model: Any, inputs: dict[str, Tensor], *rest: Any, **more: Any) -> Any:
            return super().compute_loss(model, inputs, *rest, **more) if loss is None else loss(model, inputs)

        def _save_checkpoint(self, *of: Any, **more: Any) -> None:
            with writing(folder):
                super()._save_checkpoint(*of, **more)
            newest = folder / f"checkpoint-{self.state.global_step}"
            seal(newest)
            for older in set(folder.glob("checkpoint-*")) - {newest}:
                shutil.rmtree(older, ignore_errors=True)

    return SealingTrainer
