"""Prompts and answers as files, for models that live in other frameworks.

``P.npz`` holds ``xs (batch, point, dim)``, ``ys (batch, point)`` or ``(batch, point, out)`` and ``queries (batch,
query, dim)``; ``A.npz`` holds ``answers (batch, query)`` or ``(batch, query, out)``. Both are written as float32 or
float64 and are read without pickle; float16 is read as well, as the float32 numbers that it holds.
"""

import io
from collections.abc import Sequence
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

__all__ = ["PromptFile", "load_answers", "load_prompts", "save_answers", "save_prompts"]

ARRAYS = ("xs", "ys", "queries")
# An optional array of text.
NAMES = "diagnostic"
LAYOUT = "arrays xs (batch, point, dim), ys (batch, point) or (batch, point, out) and queries (batch, query, dim)"
ANSWERS = "the array answers (batch, query) or (batch, query, out)"


@final
@dataclass(frozen=True)
class PromptFile:
    """A prompt as read from a file.

    Args:
        prompt: The prompt.
        scalar: Whether the file's labels have no output axis; answers to it then have none either.
        names: The diagnostic of each prompt, if the file names them.
    """

    prompt: Prompt
    scalar: bool
    names: tuple[str, ...] = ()


def load_prompts(path: Path | str) -> PromptFile:
    """Read prompts.

    Raises:
        InputError: If the file is missing, is not such an npz, needs pickle, or its arrays are not a prompt.
    """
    raw = read_arrays(path, ARRAYS, LAYOUT)
    named = raw.pop(NAMES, None)
    arrays = {name: checked(path, name, real_numbers(path, name, array)) for name, array in raw.items()}
    scalar = arrays["ys"].ndim == 2
    if scalar:
        arrays["ys"] = arrays["ys"][..., None]
    # Of mixed precisions the highest is used.
    kind = np.result_type(*arrays.values())
    try:
        prompt = Prompt(**{name: torch.from_numpy(array.astype(kind)) for name, array in arrays.items()})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return PromptFile(prompt, scalar, diagnostics(path, named, prompt.batch))


def diagnostics(path: Path | str, named: np.ndarray | None, batch: int) -> tuple[str, ...]:
    """The name of every prompt's diagnostic; none where the file has no such array."""
    if named is None:
        return ()
    if named.shape != (batch,) or named.dtype.kind != "U":
        raise InputError(
            f"{path}: {NAMES} has dtype {named.dtype} and shape {named.shape}; expected text, one name for each of the "
            f"{batch} prompts. Leave it out if the prompts have no names."
        )
    return tuple(named.tolist())


def load_answers(path: Path | str, prompts: PromptFile) -> Float[Tensor, "batch query out"]:
    """Read answers to prompts.

    Raises:
        InputError: If the file is missing, is not such an npz, needs pickle, or its array does not fit the prompts.
    """
    array = real_numbers(path, "answers", read_arrays(path, ("answers",), ANSWERS)["answers"])
    prompt = prompts.prompt
    expected = (prompt.batch, prompt.queries.shape[1], prompt.out)
    if array.shape == expected[:2] and prompt.out == 1:
        array = array[..., None]
    if array.shape != expected:
        shapes = " or ".join(map(str, [expected[:2], expected] if prompt.out == 1 else [expected]))
        raise InputError(
            f"{path}: answers has shape {array.shape}; expected {shapes}, one answer to every query of every "
            "prompt, in their order."
        )
    return torch.from_numpy(array)


def read_arrays(path: Path | str, names: Sequence[str], layout: str) -> dict[str, np.ndarray]:
    try:
        with Path(path).open("rb") as file:
            start = file.read(6)
            if start.startswith(b"\x93NUMPY"):
                raise InputError(f"{path}: expected an npz with {layout}; this is a single npy array.")
            if not start.startswith(b"PK"):
                raise InputError(f"{path} is not an npz file; expected one with {layout}, as numpy.savez writes it.")
            file.seek(0)
            return named_arrays(path, np.load(file, allow_pickle=False), names, layout)
    except InputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:  # A damaged archive makes zipfile, zlib and NumPy raise almost anything.
        reason = "it needs pickle" if "pickle" in str(error) else "it is damaged or cut short"
    raise InputError(
        f"{path} could not be read: {reason}. Expected an npz with {layout} as plain numbers, as numpy.savez writes "
        "them; nothing in it is ever unpickled."
    )


def named_arrays(path: Path | str, file: Any, names: Sequence[str], layout: str) -> dict[str, np.ndarray]:
    missing = [name for name in names if name not in file.files]
    if missing:
        raise InputError(
            f"{path}: {missing_arrays(missing)}; expected {layout}, and the file holds "
            f"{', '.join(file.files) or 'nothing'}."
        )
    arrays = {name: file[name] for name in (*names, NAMES) if name in file.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path}: {name} is not an array as NumPy stores it; expected {layout}.")
    return arrays


def missing_arrays(names: Sequence[str]) -> str:
    """Which arrays are missing.

    Example:
        >>> missing_arrays(["xs"]), missing_arrays(["xs", "ys", "queries"])
        ('the array xs is missing', 'the arrays xs, ys and queries are missing')
    """
    *others, last = names
    return f"the arrays {', '.join(others)} and {last} are missing" if others else f"the array {last} is missing"


def real_numbers(path: Path | str, name: str, array: np.ndarray) -> np.ndarray:
    """The same numbers in the byte order of this machine; float16 becomes float32."""
    kind = array.dtype.newbyteorder("=")
    if kind in (np.float16, np.float32, np.float64):
        return array.astype(np.promote_types(kind, np.float32))
    raise InputError(
        f"{path}: {name} has dtype {array.dtype}; expected float16, float32 or float64. {conversion(name, kind)}"
    )


def conversion(name: str, dtype: np.dtype) -> str:
    """How an array of another dtype becomes one that can be read."""
    if dtype.kind == "V" and dtype.names is None:
        # NumPy stores the types of ml_dtypes (JAX) without their name; those of two bytes are bfloat16.
        again = (
            f" If the file is all there is and holds bfloat16, ({name}.view('uint16').astype('uint32') << "
            "16).view('float32') gives its numbers."
        )
        return f"Save {name}.astype('float32') where the array is made.{again if dtype.itemsize == 2 else ''}"
    if dtype.kind in "biuf":
        return f"Convert it: {name}.astype('float64')."
    return f"Save real numbers, such as {name}.real." if dtype.kind == "c" else "Save an array of plain numbers."


def checked(path: Path | str, name: str, array: np.ndarray) -> np.ndarray:
    """One array, refused unless its numbers are finite and it has the right number of axes."""
    axes = (2, 3) if name == "ys" else (3,)
    if array.ndim not in axes:
        raise InputError(
            f"{path}: {name} has shape {array.shape}; expected {' or '.join(map(str, axes))} axes ({LAYOUT}). "
            "A single point, input or query is an axis of size 1, such as xs[..., None] or queries[:, None]."
        )
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise InputError(
            f"{path}: {name} holds {len(bad)} numbers that are NaN or infinite, the first at {place}. Every number "
            "must be finite; drop or repair these prompts."
        )
    return array


def save_prompts(path: Path | str, prompt: Prompt, names: Sequence[str] = ()) -> None:
    """Write prompts as ``P.npz``; a single output is written without its axis.

    Args:
        path: The file.
        prompt: The prompts.
        names: The diagnostic that each prompt belongs to, kept as a fourth array.
    """
    ys = prompt.ys[..., 0] if prompt.out == 1 else prompt.ys
    text = {NAMES: np.array(names)} if names else {}
    write_arrays(path, xs=prompt.xs, ys=ys, queries=prompt.queries, **text)


def save_answers(path: Path | str, answers: Float[Tensor, "batch query out"], *, scalar: bool) -> None:
    """Write answers as ``A.npz``.

    Raises:
        StorageError: If the file cannot be written; no partial file remains.
    """
    write_arrays(path, answers=answers[..., 0] if scalar else answers)


def write_arrays(path: Path | str, **arrays: Tensor | np.ndarray) -> None:
    buffer = io.BytesIO()
    plain: dict[str, Any] = {
        name: a.detach().cpu().numpy() if isinstance(a, Tensor) else a for name, a in arrays.items()
    }
    np.savez(buffer, **plain)
    write_atomically(Path(path), buffer.getvalue())
