"""A training from its description to files: networks, learning curves, and a state to go on from."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.models import (
    Architecture,
    AttentionNetwork,
    Decoder,
    Transformer,
    TransformerArchitecture,
    initialise,
    save_network,
)
from insitu.models.block import initialise_blocks
from insitu.prompt import Episode
from insitu.seed import Seed
from insitu.storage import write_atomically
from insitu.training.config import AnyArchitecture, Training
from insitu.training.ensemble import Ensemble
from insitu.training.loop import Step
from insitu.training.resumable import STATE, train_resumably
from insitu.training.supervision import token_losses

__all__ = ["METRICS", "read_metrics", "run_training"]

METRICS = "metrics.jsonl"


def run_training(
    training: Training, seed: Seed, folder: Path, device: torch.device, *, resume: bool = False, seconds: float = 20.0
) -> Iterator[Step]:
    """Train in a folder, one yield per step.

    ``metrics.jsonl`` grows by one line per step and network; at the end the networks are written as checkpoints under
    the names that :attr:`Training.networks` gives them. Step i sees the prompts at ``seed / "batch" / i``, so a resumed
    training ends with the bits of one that was never interrupted.

    Args:
        training: What to train.
        seed: Where to draw.
        folder: Where everything is written.
        device: Where to compute.
        resume: Whether to go on from the state in the folder; without it, what an earlier training left is replaced.
        seconds: How long to train between two writes of the state.

    Raises:
        DivergenceError: If a loss runs away.
        InputError: If the state in the folder belongs to another training.
        StorageError: If something cannot be written.
    """
    if not resume:
        (folder / STATE).unlink(missing_ok=True)
        write_atomically(folder / METRICS, b"")
    networks = [
        started(shape, seed / "start" / start, training.std).to(device) for shape, start in training.networks.values()
    ]
    ensemble = Ensemble(networks)
    wrong = objective(training, ensemble, device)

    def losses(step: int) -> Float[Tensor, " copy"]:
        return wrong(training.prompts.at(step, training.task, seed / "batch"))

    kept: list[str] | None = None
    for step in train_resumably(ensemble, losses, training.recipe, folder, seconds=seconds):
        if kept is None:
            # Steps after the last stored state are made again.
            kept = [json.dumps(row) for row in read_metrics(folder) if row["step"] < step.index]
            write_atomically(folder / METRICS, "".join(f"{line}\n" for line in kept).encode())
        rate = training.recipe.rate_at(step.index)
        with (folder / METRICS).open("a") as lines:
            for name, loss in zip(training.networks, step.losses, strict=True):
                lines.write(json.dumps({"step": step.index, "network": name, "loss": loss, "rate": rate}) + "\n")
        yield step
    for name, network in zip(training.networks, ensemble.unstack(), strict=True):
        save_network(network.cpu(), folder / name)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``; a last line that was cut off is left out."""
    if not (folder / METRICS).exists():
        return []
    found = []
    for line in (folder / METRICS).read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def started(shape: AnyArchitecture, seed: Seed, std: float) -> AttentionNetwork | Transformer | Decoder:
    """A network of a shape at its start."""
    if isinstance(shape, Architecture):
        attention = AttentionNetwork(shape)
        initialise(attention, seed, std)
        return attention
    network = Transformer(shape) if isinstance(shape, TransformerArchitecture) else Decoder(shape)
    initialise_blocks(network, seed, shape.layers, positions=0.5)
    return network


def objective(
    training: Training, ensemble: Ensemble[Any], device: torch.device
) -> Callable[[Episode], Float[Tensor, " copy"]]:
    """The squared error of every copy: at the tokens, and for a decoder at every place of one sequence."""
    copies = len(ensemble.networks)

    def decoder(episode: Episode) -> Tensor:
        xs = torch.cat([episode.prompt.xs, episode.prompt.queries[:, :1]], dim=1).float().to(device)
        ys = torch.cat([episode.prompt.ys, episode.answers[:, :1]], dim=1).float().to(device)
        asked = (part.expand(copies, *part.shape) for part in (xs, ys))
        return (ensemble(*asked) - ys).square().sum(-1).mean((1, 2))

    if isinstance(ensemble.networks[0], Decoder):
        return decoder
    losses = token_losses(ensemble, [training.context_loss] * copies, device)
    return lambda episode: losses([episode] * copies)
