"""Drift of weights along pretraining, beside accuracy in context."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insitu.errors import InputError
from insitu.language import Attention, Reader, read
from insitu.language.measure.bench import Bench
from insitu.language.measure.sparsity import drift, find_weights

__all__ = ["accuracy_in_context", "drift_along"]


def accuracy_in_context(bench: Bench, shots: int, sets: int, attention: Attention = "causal") -> tuple[Tensor, Tensor]:
    """The accuracy in context of every demonstration set: over the whole vocabulary, and over the label words."""
    reader = Reader(bench.model)
    whole, restricted = [], []
    for number in range(sets):
        shown = bench.demonstrate(number, shots)
        answers = read(
            bench.model, bench.template, shown, bench.texts, attention=attention, reader=reader, batch=bench.batch
        )
        whole.append((answers.chosen(bench.firsts) == bench.right).double().mean())
        restricted.append((answers.labels.argmax(-1) == bench.right).double().mean())
    return torch.stack(whole), torch.stack(restricted)


def drift_along(
    checkpoints: Sequence[Path], open_bench: Callable[[Path], Bench] | None, shots: int, sets: int
) -> Iterator[dict[str, Any]]:
    """For each checkpoint the mean absolute change of its weights from the first one and from the one before.

    Args:
        checkpoints: Folders, in the order of pretraining.
        open_bench: Gives the model of a folder its questions; without it no accuracy is measured.
        shots: How many demonstrations.
        sets: How many demonstration sets.

    Raises:
        InputError: If there is one checkpoint only, or they do not belong to the same model.
    """
    if len(checkpoints) == 1:
        raise InputError("drift needs at least two checkpoints; got one.")
    found = [find_weights(path) for path in checkpoints]
    for i, (path, weights) in enumerate(zip(checkpoints, found, strict=True)):
        row: dict[str, Any] = {
            "checkpoint": path.name,
            "change from the first": drift(found[0], weights),
            "change from the one before": drift(found[max(0, i - 1)], weights),
        }
        if open_bench is not None:
            whole, restricted = accuracy_in_context(open_bench(path), shots, sets)
            row |= {"accuracy": whole.mean().item(), "restricted accuracy": restricted.mean().item()}
            row["restricted accuracy of each set"] = restricted.tolist()
        yield row
