"""Distributions that a language model answered in an earlier sitting, as records in a folder."""

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from insitu.budget import budget
from insitu.language.measure.bench import weights_digest
from insitu.language.numbers.reading import NumberAnswers, NumberReader
from insitu.prompt import Prompt
from insitu.records import find_record, key_of, store_record

__all__ = ["StoredAnswers"]

KIND = "identify numbers"
# How many prompts one record holds: a sitting that is cut short loses as many.
TOGETHER = 4


@final
@dataclass
class StoredAnswers:
    """Reads prompts, and keeps the distributions, a few prompts at a time.

    Args:
        folder: Where their records are written; nowhere if none.
        resume: Whether to take records of the same model and prompts that the folder holds.
        count: How many prompts have been read so far.
    """

    folder: Path | None = None
    resume: bool = False
    count: int = 0

    def read(self, reader: NumberReader, whole: Prompt, tell: Callable[[], None]) -> NumberAnswers:
        """The distributions behind prompts, see :meth:`NumberReader.answers`.

        Raises:
            StorageError: If a record cannot be written.
        """
        parts = [
            Prompt(*(t[start : start + TOGETHER] for t in (whole.xs, whole.ys, whole.queries)))
            for start in range(0, whole.batch, TOGETHER)
        ]
        return NumberAnswers(torch.cat([self.logs(reader, part, tell) for part in parts]), reader.lines.numbers)

    def logs(self, reader: NumberReader, whole: Prompt, tell: Callable[[], None]) -> Tensor:
        """The log-probabilities behind a few prompts."""
        if self.folder is None:
            return reader.answers(whole, tell=tell).logs
        configuration = {"kind": KIND, "lines": repr(reader.lines), **digests(reader, whole)}
        key = key_of(configuration)
        record = find_record(self.folder, KIND, key) if self.resume else None
        if isinstance(record, dict):
            logs = unpacked(record["logs"], whole)
        else:
            logs = reader.answers(whole, tell=tell).logs.double()
            store_record(self.folder, KIND, key, {**configuration, "logs": packed(logs)})
        self.count += whole.batch
        budget().stored = f"the answers to {self.count} prompts are stored, of the search for learners nothing"
        return logs


def digests(reader: NumberReader, whole: Prompt) -> dict[str, str]:
    """Digests of what decides the answers: the weights, those in place of them, and the prompts."""
    weights = reader.weights
    return {
        "model": weights_digest(reader.model),
        "weights": digest_of(weight for _, weight in sorted(weights.items())) if weights else "",
        "prompts": digest_of((whole.xs, whole.ys, whole.queries)),
    }


def digest_of(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def packed(logs: Tensor) -> str:
    """Numbers in double precision as text, to the last bit."""
    return base64.b64encode(logs.numpy().astype("<f8").tobytes()).decode()


def unpacked(text: Any, whole: Prompt) -> Tensor:
    """The numbers of a text: as many for every query as there are."""
    numbers = torch.from_numpy(np.frombuffer(base64.b64decode(str(text)), dtype="<f8").copy())
    return numbers.reshape(whole.batch, whole.queries.shape[1], -1)
