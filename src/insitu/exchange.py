"""Prompts and answers as files, for models that live in other frameworks.

``P.npz`` holds ``xs (batch, point, dim)``, ``ys (batch, point)`` or ``(batch, point, out)`` and ``queries (batch,
query, dim)``; ``A.npz`` holds ``answers (batch, query)`` or ``(batch, query, out)``. Both are float32 or float64
and are read without pickle.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from insitu.errors import InputError
from insitu.prompt import Prompt
from insitu.storage import write_atomically

__all__ = ["PromptFile", "load_prompts", "save_answers", "save_prompts"]

ARRAYS = ("xs", "ys", "queries")
LAYOUT = "arrays xs (batch, point, dim), ys (batch, point) or (batch, point, out) and queries (batch, query, dim)"


@final
@dataclass(frozen=True)
class PromptFile:
    """A prompt as a file holds it.

    Args:
        prompt: The prompt.
        scalar: Whether the file's labels have no output axis; answers to it then have none either.
    """

    prompt: Prompt
    scalar: bool


def load_prompts(path: Path | str) -> PromptFile:
    """Read prompts.

    Raises:
        InputError: If the file is missing, is not such an npz, needs pickle, or holds arrays that are no prompt.
    """
    arrays = {name: checked(path, name, array) for name, array in read_arrays(path).items()}
    scalar = arrays["ys"].ndim == 2
    if scalar:
        arrays["ys"] = arrays["ys"][..., None]
    # Mixed precisions meet in the finer one; nothing is lost.
    kind = np.result_type(*arrays.values()).newbyteorder("=")
    try:
        prompt = Prompt(**{name: torch.from_numpy(array.astype(kind)) for name, array in arrays.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return PromptFile(prompt, scalar)


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    try:
        with Path(path).open("rb") as file:
            start = file.read(6)
            if start.startswith(b"\x93NUMPY"):
                raise InputError(f"{path}: expected an npz with {LAYOUT}; this is a single npy array.")
            if not start.startswith(b"PK"):
                raise InputError(f"{path} is not an npz file; expected one with {LAYOUT}, as numpy.savez writes it.")
            file.seek(0)
            return named_arrays(path, np.load(file, allow_pickle=False))
    except InputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:  # A damaged archive makes zipfile, zlib and NumPy raise almost anything.
        reason = "it needs pickle" if "pickle" in str(error) else "it is damaged or cut short"
    raise InputError(
        f"{path} could not be read: {reason}. Expected an npz with {LAYOUT} as plain numbers, as numpy.savez writes "
        "them; nothing in it is ever unpickled."
    )


def named_arrays(path: Path | str, file: Any) -> dict[str, np.ndarray]:
    missing = [name for name in ARRAYS if name not in file.files]
    if missing:
        raise InputError(
            f"{path}: the array {' and '.join(missing)} is missing; expected {LAYOUT}, and the file holds "
            f"{', '.join(file.files) or 'nothing'}."
        )
    arrays = {name: file[name] for name in ARRAYS}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: {name} is not an array as NumPy stores it; expected {LAYOUT}.")
    return arrays


def checked(path: Path | str, name: str, array: np.ndarray) -> np.ndarray:
    """One array, refused unless it is finite floating-point numbers with the right number of axes."""
    axes = (2, 3) if name == "ys" else (3,)
    if array.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise InputError(
            f"{path}: {name} has dtype {array.dtype}; expected float32 or float64. Convert it, for example with "
            f"{name}.astype('float64')."
        )
    if array.ndim not in axes:
        raise InputError(
            f"{path}: {name} has shape {array.shape}; expected {' or '.join(map(str, axes))} axes ({LAYOUT})."
        )
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        raise InputError(
            f"{path}: {name} holds {len(wrong)} numbers that are NaN or infinite, the first at {place}. Every number "
            "must be finite; drop or repair these prompts."
        )
    return array


def save_prompts(path: Path | str, prompt: Prompt) -> None:
    """Write prompts as ``P.npz``; a single output is written without its axis."""
    ys = prompt.ys[..., 0] if prompt.out == 1 else prompt.ys
    write_arrays(path, xs=prompt.xs, ys=ys, queries=prompt.queries)


def save_answers(path: Path | str, answers: Float[Tensor, "batch query out"], *, scalar: bool) -> None:
    """Write answers as ``A.npz``.

    Raises:
        StorageError: If the file cannot be written; nothing half-written stays.
    """
    write_arrays(path, answers=answers[..., 0] if scalar else answers)


def write_arrays(path: Path | str, **arrays: Tensor) -> None:
    buffer = io.BytesIO()
    plain: dict[str, Any] = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
    np.savez(buffer, **plain)
    write_atomically(Path(path), buffer.getvalue())
