"""Softmax transformers trained under both masks: the networks, their test errors, and linear probes on their states."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from insitu.claims import Run, Study
from insitu.models import Causal, Prefix, Transformer, TransformerArchitecture, initialise_transformer
from insitu.models.block import Norm, Scores
from insitu.prompt import Episode, Prompt
from insitu.seed import Seed
from insitu.tasks import FunctionTask, LinearClassification, LinearRegression, SigmoidRegression, UniformCube
from insitu.training import (
    Batches,
    Ensemble,
    Recipe,
    forward_operations,
    token_losses,
    train_resumably,
    training_hours,
)

__all__ = [
    "MASKS",
    "TASKS",
    "TRAINED_CELLS",
    "TRAINED_ON_FEW",
    "Cell",
    "Transformers",
    "alone_changes",
    "cells_of",
    "data_cells_of",
    "few_errors",
    "held_out_errors",
    "hours_of",
    "probe_errors",
    "train_cells",
    "train_on_few",
]

MASKS = {"prefix": Prefix(), "causal": Causal()}
TASKS: dict[str, Callable[[UniformCube], FunctionTask]] = {
    "linear": LinearRegression,
    "sigmoid": SigmoidRegression,
    "classes": lambda law: LinearClassification(law, out=3),
}
Encode = Callable[[Episode], Tensor] | None


@dataclass(frozen=True)
class Transformers:
    """Transformers for every cell of task, sharing, loss and mask.

    Args:
        dim: The dimension of an input, uniform on the cube.
        points: Examples in a training prompt.
        queries: Independent queries in a prompt.
        width: The width of a token.
        layers: The number of layers.
        heads: Heads per layer.
        batch: Prompts per step.
        recipe: How long and how fast.
        batches: How many different batches there are, used in turn; 0 for fresh ones at every step.
        prompts: Test prompts; five times as many where the error is a share of missed classes, which is coarser.
        head_width: The width of a head (see ``TransformerArchitecture``).
        positions: Whether places have learned embeddings.
        scores: How attention scores a pair.
        norm: Where the stream is normalised.
        sizes: How many different batches the networks of the data study get.
    """

    dim: int
    points: int
    queries: int
    width: int
    layers: int
    heads: int
    batch: int
    recipe: Recipe
    batches: int
    prompts: int
    head_width: int | None = None
    positions: bool = False
    scores: Scores = "product"
    norm: Norm = "branch"
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cell:
    """What one network is trained for.

    Args:
        task: The name of its task.
        shared: Whether its layers are one block.
        mask: The name of its mask.
        quiet: Whether its loss has a term for outputs at context tokens, whose target is zero (the paper's L2).
        batches: How many different batches it sees; 0 for fresh ones.
        permuted: Whether the examples of a batch come in a new order at every step.
    """

    task: str
    shared: bool
    mask: str
    quiet: bool
    batches: int = 0
    permuted: bool = False


def architecture_of(setting: Transformers, cell: Cell) -> TransformerArchitecture:
    """The shape of a cell's network."""
    return TransformerArchitecture(
        setting.dim,
        out=task_of(setting, cell.task).out,
        width=setting.width,
        layers=setting.layers,
        heads=setting.heads,
        head_width=setting.head_width,
        mask=MASKS[cell.mask],
        shared=cell.shared,
        positions=setting.points if setting.positions else 0,
        scores=setting.scores,
        norm=setting.norm,
    )


def transformer(setting: Transformers, cell: Cell, seed: Seed) -> Transformer:
    """The network of a cell at its start; cells that differ in mask or loss alone start alike."""
    network = Transformer(architecture_of(setting, cell))
    initialise_transformer(network, seed / "start" / cell.task / str(cell.shared))
    return network


def task_of(setting: Transformers, name: str) -> FunctionTask:
    return TASKS[name](UniformCube(setting.dim))


def prompts_of(setting: Transformers, cell: Cell) -> Batches:
    """What a cell's network is trained on."""
    return Batches(setting.batch, setting.points, setting.queries, cell.batches, cell.permuted)


def train_cells(run: Run, *, encode: Encode = None) -> dict[Cell, Transformer]:
    """One network for every task, sharing, loss and mask."""
    return trained(run, cells_of(run.setting), encode)


TRAINED_CELLS = Study("ding2024.train_cells", train_cells)


def cells_of(setting: Transformers) -> list[Cell]:
    """All combinations of task, sharing, loss and mask."""
    return [Cell(*four, batches=setting.batches) for four in product(TASKS, (True, False), MASKS, (True, False))]


def train_on_few(run: Run) -> dict[Cell, Transformer]:
    """Networks on fixed sets of batches: shared ones by how many, separate ones with and without new orders."""
    return trained(run, data_cells_of(run.setting))


TRAINED_ON_FEW = Study("ding2024.train_on_few", train_on_few)


def data_cells_of(setting: Transformers) -> list[Cell]:
    """The cells on fixed sets of batches."""
    cells = [Cell("linear", True, mask, True, batches=size) for size, mask in product(setting.sizes, MASKS)]
    cells += [Cell("linear", False, mask, False, setting.sizes[-1], new) for mask, new in product(MASKS, (False, True))]
    return cells


def hours_of(setting: Transformers, cells: list[Cell]) -> float:
    """The hours of training such cells."""
    sizes: dict[str, Any] = {"batch": setting.batch, "context": setting.points, "queries": setting.queries}
    operations = sum(forward_operations(architecture_of(setting, cell), **sizes) for cell in cells)
    return training_hours(operations, setting.recipe.steps)


def trained(run: Run, cells: list[Cell], encode: Encode = None) -> dict[Cell, Transformer]:
    """Train every cell, those whose weights have the same shapes as one ensemble."""
    networks: dict[Cell, Transformer] = {}
    for shared, outs in product((True, False), ({"linear", "sigmoid"}, {"classes"})):
        together = [cell for cell in cells if cell.shared == shared and cell.task in outs]
        if together:
            folder = run.folder and run.folder / f"{'shared' if shared else 'separate'}-{min(outs)}"
            networks |= zip(together, ensemble_of(run, together, encode, folder), strict=True)
    return networks


def ensemble_of(run: Run, cells: list[Cell], encode: Encode, folder: Any) -> list[Transformer]:
    """Train cells as one ensemble."""
    setting: Transformers = run.setting
    networks = [transformer(setting, cell, run.seed).to(run.device) for cell in cells]
    ensemble = Ensemble(networks)
    wrong = token_losses(ensemble, [cell.quiet for cell in cells], run.device, encode)

    def losses(step: int) -> Float[Tensor, " copy"]:
        # Cells that differ in mask or loss alone see the same prompts.
        @functools.cache
        def episode(task: str, batches: Batches) -> Episode:
            return batches.at(step, task_of(setting, task), run.seed / "batch" / task)

        return wrong([episode(cell.task, prompts_of(setting, cell)) for cell in cells])

    for _ in train_resumably(ensemble, losses, setting.recipe, folder):
        pass
    return ensemble.unstack()


def held_out(run: Run, task: str, name: str = "test") -> Episode:
    """Prompts that no network was trained on."""
    return drawn_once(run.setting, run.seed.root, task, name)


@functools.lru_cache(maxsize=2 * len(TASKS))
def drawn_once(setting: Transformers, root: int, task: str, name: str) -> Episode:
    """Every cell of a task is tested on the same prompts."""
    count = 5 * setting.prompts if task == "classes" else setting.prompts
    return task_of(setting, task).sample(
        Seed(root, ("ding2024.trained", name, task)), count, setting.points, setting.queries
    )


def wrong(task: str, answers: Tensor, truth: Tensor) -> Float[Tensor, "*place prompt"]:
    """The error of every prompt, averaged over its queries: squared, or the share of classes missed."""
    if task == "classes":
        return (answers.argmax(-1) != truth.argmax(-1)).double().mean(-1)
    return (answers - truth).square().sum(-1).mean(-1)


def held_out_errors(run: Run, cell: Cell, share: float = 1.0) -> Float[Tensor, " prompt"]:
    """The error of a cell's network on held-out prompts cut to a share of the training context."""
    episode = held_out(run, cell.task)
    cut = episode.prompt.prefix(round(share * episode.prompt.points)).to(torch.float32).to(run.device)
    with torch.no_grad():
        answers = torch.cat([run.study[cell].predict(part) for part in parts(cut)]).cpu().double()
    return wrong(cell.task, answers, episode.answers)


def alone_changes(run: Run, cell: Cell) -> float:
    """How much a network's answers to the first query change without the others, over the largest answer."""
    prompt = next(parts(held_out(run, cell.task).prompt.to(torch.float32).to(run.device), 64))
    lone = Prompt(prompt.xs, prompt.ys, prompt.queries[:, :1])
    with torch.no_grad():
        together, alone = (run.study[cell].predict(part)[:, :1] for part in (prompt, lone))
    return ((together - alone).abs().max() / together.abs().max()).item()


def few_errors(run: Run, size: int, mask: str) -> Float[Tensor, " prompt"]:
    """The error of a network that saw few different batches."""
    return held_out_errors(run, Cell("linear", True, mask, True, batches=size))


def probe_errors(run: Run, cell: Cell) -> Float[Tensor, "layer prompt"]:
    """The error of the least-squares map from a layer's query states to the answers, fitted on other prompts."""
    fit, test = (held_out(run, cell.task, name) for name in ("probe", "test"))
    errors = []
    for before, now in zip(layer_states(run, cell, fit), layer_states(run, cell, test), strict=True):
        solution = torch.linalg.lstsq(before.flatten(0, 1), fit.answers.flatten(0, 1), driver="gelsd").solution
        errors.append(wrong(cell.task, now @ solution, test.answers))
    return torch.stack(errors)


def layer_states(run: Run, cell: Cell, episode: Episode) -> list[Float[Tensor, "batch query inner"]]:
    """The states of the queries before the first layer and after each, with a one for the intercept."""
    network = run.study[cell]
    with torch.no_grad():
        chunks = [list(network.states(part)) for part in parts(episode.prompt.to(torch.float32).to(run.device))]
    layers = [torch.cat(layer)[:, episode.prompt.points :].cpu().double() for layer in zip(*chunks, strict=True)]
    return [torch.cat([layer, torch.ones_like(layer[..., :1])], dim=-1) for layer in layers]


def parts(prompt: Prompt, size: int = 512) -> Iterator[Prompt]:
    """A prompt in smaller batches."""
    for start in range(0, prompt.batch, size):
        cut = slice(start, start + size)
        yield Prompt(prompt.xs[cut], prompt.ys[cut], prompt.queries[cut])
