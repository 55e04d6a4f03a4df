r"""Sparsity of the matrices of keys, queries and values, and their drift along pretraining: ``insitu lm weights``.

The sparsity of a matrix at a threshold :math:`\delta` is the share of its entries with :math:`|w| < \delta`. Two
references stand beside it: what Gaussian entries of the same mean square would give,
:math:`\operatorname{erf}(\delta / (\sqrt 2\, \sigma))`, and what weights constructed to run gradient descent need. The
files are read matrix by matrix; no model is built.
"""

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from insitu.errors import InputError, near_matches
from insitu.language import BUNDLED_MODELS
from insitu.language.models.pretrained import model_folder
from insitu.language.models.submodels import KINDS, AttentionPart, parts_of

__all__ = [
    "CONSTRUCTED",
    "THRESHOLDS",
    "MatrixSparsity",
    "average_over_layers",
    "drift",
    "find_weights",
    "gaussian_sparsity",
    "sparsities",
]

THRESHOLDS = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
# What the construction of von Oswald et al. (2023) implies, as Shen et al. (2024) print it.
CONSTRUCTED = {"query": 0.9999, "key": 0.9999, "value": 0.75}


@final
@dataclass(frozen=True)
class MatrixSparsity:
    """How many entries of one matrix are small.

    Args:
        layer: The layer, counted from 0.
        kind: *query*, *key* or *value*.
        size: How many entries it has.
        spread: The root of their mean square.
        shares: The share below each threshold.
        gaussian: What Gaussian entries of the same spread would give.
    """

    layer: int
    kind: str
    size: int
    spread: float
    shares: tuple[float, ...]
    gaussian: tuple[float, ...]


@final
@dataclass(frozen=True)
class Weights:
    """Weight files of a model and what its configuration says of them."""

    folder: Path
    files: Mapping[str, Path]

    def read(self, name: str) -> Tensor:
        """One weight, in float32."""
        from safetensors import safe_open

        with safe_open(str(self.files[name]), framework="pt") as opened:
            return opened.get_tensor(name).float()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight, which is not read."""
        from safetensors import safe_open

        with safe_open(str(self.files[name]), framework="pt") as opened:
            return tuple(opened.get_slice(name).get_shape())

    def parts(self) -> list[AttentionPart]:
        """Where the queries, keys and values lie; biases are left out.

        Raises:
            InputError: If none is known.
        """
        from transformers import AutoConfig

        shapes = {name: self.shape(name) for name in self.files}
        config = functools.partial(AutoConfig.from_pretrained, str(self.folder), trust_remote_code=False)
        parts = [part for part in parts_of(shapes, config) if not part.name.endswith("bias")]
        if {part.kind for part in parts} != set(KINDS):
            raise InputError(
                f"{self.folder}: no matrix of queries, keys and values was recognised among {len(self.files)} weights, "
                f"such as {next(iter(self.files), 'none')}; known are the layouts of Llama, GPT-2, GPT-NeoX, "
                "GPT-BigCode, Falcon, Phi-3, MPT, RoBERTa and their kin."
            )
        return parts

    def matrices(self) -> Iterator[tuple[int, str, Tensor]]:
        """Layer, kind and matrix of all queries, keys and values."""
        held: dict[str, Tensor] = {}
        for part in self.parts():
            if part.name not in held:
                held = {part.name: self.read(part.name)}
            yield part.layer, part.kind, part.of(held[part.name])


def find_weights(name: str | Path) -> Weights:
    """The weight files of a bundled model or a folder: ``model.safetensors`` or several with an index.

    Raises:
        InputError: If there is no folder, no configuration or no safetensors file.
    """
    folder = model_folder(name)
    if not folder.is_dir():
        raise InputError(
            f"no model is called {str(name)!r} and no folder has that path; {near_matches(str(name), BUNDLED_MODELS)}"
        )
    try:
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        index = folder / "model.safetensors.index.json"
        if index.exists():
            shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = {weight: folder / file for weight, file in shards.items()}
        else:
            files = names_in(folder / "model.safetensors")
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} holds no weights that can be read ({type(error).__name__}: {error}); expected config.json and "
            "model.safetensors, or several of them with model.safetensors.index.json."
        ) from None
    return Weights(folder, files)


def names_in(file: Path) -> dict[str, Path]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as opened:
            return dict.fromkeys(opened.keys(), file)
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def sparsities(
    weights: Weights, thresholds: Sequence[float] = THRESHOLDS, change: Callable[[Tensor], Tensor] = lambda w: w
) -> Iterator[MatrixSparsity]:
    """The sparsity of every matrix of queries, keys and values, layer by layer, after ``change`` to each.

    Raises:
        InputError: If no such matrix is recognised.
    """
    for layer, kind, matrix in weights.matrices():
        size = change(matrix).abs().flatten()
        spread = size.double().square().mean().sqrt().item()
        shares = tuple((size < t).double().mean().item() for t in thresholds)
        yield MatrixSparsity(layer, kind, len(size), spread, shares, gaussian_sparsity(spread, thresholds))


def gaussian_sparsity(spread: float, thresholds: Sequence[float] = THRESHOLDS) -> tuple[float, ...]:
    """The share of Gaussian numbers of mean 0 below each threshold.

    Example:
        >>> [round(share, 4) for share in gaussian_sparsity(0.02, (1e-2, 1e-3))]
        [0.3829, 0.0399]
    """
    return tuple(math.erf(t / (math.sqrt(2) * spread)) if spread else 1.0 for t in thresholds)


def drift(one: Weights, other: Weights) -> float:
    r"""The mean absolute change of all weights, :math:`\frac{1}{n} \sum_i |w_i - w'_i|`.

    Raises:
        InputError: If the two do not have the same weights.
    """
    if set(one.files) != set(other.files):
        raise InputError(
            f"{one.folder} and {other.folder} do not hold the same weights; give checkpoints of one model."
        )
    total, count = 0.0, 0
    for name in one.files:
        a, b = one.read(name), other.read(name)
        if a.shape != b.shape:
            raise InputError(f"{name} has another shape in {other.folder} than in {one.folder}.")
        total += (a - b).abs().double().sum().item()
        count += a.numel()
    return total / count


def average_over_layers(found: Sequence[MatrixSparsity], kind: str) -> tuple[list[float], list[float]]:
    """The mean over layers of the shares of a kind, and of their Gaussian references."""
    own = [m for m in found if m.kind == kind]
    shares, gaussian = (
        torch.tensor([getattr(m, name) for m in own]).mean(0).tolist() for name in ("shares", "gaussian")
    )
    return shares, gaussian
