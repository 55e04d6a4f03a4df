"""How much memory a comparison needs beyond the model itself, before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import psutil
import torch

from insitu.errors import InputError
from insitu.language import Descent, runs_at_once, select_submodel
from insitu.language.measure.bench import Bench

__all__ = ["GIGA", "Memory", "free_memory", "memory_needed", "require_memory"]

GIGA = 2**30


@final
@dataclass(frozen=True)
class Memory:
    """Bytes beyond the model itself.

    Args:
        training: Weights, slopes and moments of runs trained together, and what the backward pass keeps.
        reading: The logits of sequences read together.
        answers: The distributions that are held to be compared.
    """

    training: int
    reading: int
    answers: int

    @property
    def peak(self) -> int:
        """The most at one time: training and reading take turns, while trained weights are held."""
        return max(self.training, self.reading) + self.answers


def memory_needed(bench: Bench, shots: int, sets: int, descents: Sequence[Descent]) -> Memory:
    """The bytes that a comparison needs beyond the model, with so many demonstrations at most."""
    network = bench.model.network
    vocabulary, item = int(network.config.vocab_size), torch.empty(0, dtype=network.dtype).element_size()
    words = len({len(question.prompt) for question in bench.questions})
    reading = bench.batch * min(bench.batch, words) * vocabulary * (item + 8)
    held = sets + 4
    training = max((training_bytes(bench, how, shots, sets) for how in descents), default=0)
    return Memory(training, reading, held * len(bench.items) * vocabulary * 8)


def training_bytes(bench: Bench, how: Descent, shots: int, sets: int) -> int:
    """Six copies of the trained weights of every run, moments, and what the backward pass keeps."""
    network = bench.model.network
    trained = sum(w.numel() * w.element_size() for w in select_submodel(bench.model, how.part).start.values())
    runs, lessons = min(sets, runs_at_once(bench.model, how)), min(how.batch or shots, shots)
    # The weights, those looked at last and the best ones; the slopes, their parts and the sum of both.
    copies = 6 + (2 if how.optimiser == "adam" else 0)
    longest = max(len(bench.model.encode(bench.template.prompt(d.text))) for d in bench.demonstrate(0, shots))
    activations = longest * token_bytes(network) + 3 * lessons * logits_bytes(network)
    return runs * (copies * trained + lessons * activations)


def token_bytes(network: Any) -> int:
    """What a token leaves for the backward pass: about twice what goes into and out of every matrix of the blocks."""
    matrices = [w for w in network.parameters() if w.ndim == 2]
    inside = sum(sum(w.shape) for w in matrices if max(w.shape) < network.config.vocab_size)
    return 2 * inside * matrices[0].element_size()


def logits_bytes(network: Any) -> int:
    """The logits at one place."""
    return int(network.config.vocab_size) * next(network.parameters()).element_size()


def free_memory(device: torch.device) -> int:
    """How many bytes are free where the model lies."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)


def require_memory(bench: Bench, shots: int, sets: int, descents: Sequence[Descent]) -> Memory:
    """What is needed, if there is so much.

    Raises:
        InputError: If there is less.
    """
    needed, free = memory_needed(bench, shots, sets, descents), free_memory(bench.model.device)
    if needed.peak > free:
        raise InputError(
            f"lm compare: about {needed.peak / GIGA:.1f} GB of memory are needed beside the model "
            f"({needed.training / GIGA:.1f} for training, {needed.reading / GIGA:.1f} for reading "
            f"{bench.batch} sequences together, {needed.answers / GIGA:.1f} for answers), and {free / GIGA:.1f} are "
            "free. Train a part of the model (--parts value:deep, or lora:8), read fewer sequences together (--batch), "
            "ask about fewer items, or close other programs."
        )
    return needed
