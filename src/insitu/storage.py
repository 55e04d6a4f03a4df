"""Writing files so that they are either whole or not there."""

import os
import tempfile
from pathlib import Path

from insitu.errors import InputError

__all__ = ["StorageError", "require_folder", "write_atomically"]


class StorageError(InputError):
    """A file could not be written."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it; a device such as ``/dev/stdout`` is written to directly.

    Raises:
        StorageError: If it cannot be written; the temporary file is removed and an older file stays as it was.
    """
    temporary = None
    try:
        path = path.resolve()  # A link stays one; what it points to is written.
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~current_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"could not write {path}: {error.strerror or error}. Nothing half-written was left and what was there "
            "before is intact; make room or choose another place, then run the command again."
        ) from None


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def require_folder(folder: Path) -> None:
    """Make a folder and see that files can be written into it.

    Raises:
        StorageError: If it is a file, or nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file; expected a folder to write results into. Choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise StorageError(
            f"nothing can be written into {folder}: {error.strerror or error}. Choose another folder, or make room."
        ) from None
