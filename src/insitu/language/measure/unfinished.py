"""What a measurement has worked out and no record holds yet: one file for each piece, until it is not needed any more.

Records compare with readings, and a training may last longer than a sitting: without such files a short budget would
read the same again in every sitting, and never come to its end.
"""

import contextlib
import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, final

import torch

from insitu.budget import budget
from insitu.records import key_of
from insitu.storage import read_with_digest, write_with_digest
from insitu.work.job import UNFINISHED

__all__ = ["NOWHERE", "Piece", "Unfinished"]

Value = TypeVar("Value")


@final
@dataclass(frozen=True)
class Piece:
    """One piece of unfinished work.

    Args:
        path: Its file; nothing is kept if none.
        resume: Whether what an earlier sitting left counts.
    """

    path: Path | None
    resume: bool

    def once(self, kind: type[Value], work: Callable[[], Value], *parts: type) -> Value:
        """What an earlier sitting has worked out, or what is worked out now, which is kept.

        Args:
            kind: The type of the value.
            work: Makes it.
            parts: The other types that it holds, beside tensors and plain values.

        Raises:
            StorageError: If it cannot be written.
        """
        found = self.load(kind, *parts)
        if not isinstance(found, kind):
            found = work()
            self.store(found)
        return found

    def load(self, *kinds: type) -> Any:
        """What an earlier sitting left; none where there is nothing, or what there is cannot be used."""
        if self.path is None or not self.resume or not self.path.exists():
            return None
        try:
            content = io.BytesIO(read_with_digest(self.path))
            with torch.serialization.safe_globals(list(kinds)):
                return torch.load(content, weights_only=True)
        except Exception:  # a damaged file may fail in any way, and is worked out again
            return None

    def store(self, value: Any) -> None:
        """Keep a value.

        Raises:
            StorageError: If it cannot be written.
        """
        if self.path is not None:
            content = io.BytesIO()
            torch.save(value, content)
            write_with_digest(self.path, content.getvalue())
            budget().advanced = True


@final
@dataclass(frozen=True)
class Unfinished:
    """The pieces of one part of a measurement, in a folder of their own by a key of its content.

    Args:
        folder: The folder of the records; nothing is kept if none.
        resume: Whether what an earlier sitting left counts.
        content: All that decides what the pieces hold, where the folder does not.

    Example:
        >>> Unfinished(None).piece("zero-shot").once(int, lambda: 7)
        7
    """

    folder: Path | None
    resume: bool = True
    content: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def own(self) -> Path | None:
        """The folder of the pieces."""
        return None if self.folder is None else self.folder / UNFINISHED / f"pieces-{key_of(self.content)[:16]}"

    def piece(self, name: str) -> Piece:
        """The piece of a name."""
        return Piece(None if self.own is None else self.own / f"{name}.pt", self.resume)

    def forget(self) -> None:
        """Remove all pieces: the records that need them are there."""
        if self.own is not None:
            shutil.rmtree(self.own, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.own.parent.rmdir()


NOWHERE = Unfinished(None)
