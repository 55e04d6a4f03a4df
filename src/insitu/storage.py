"""Files on disk: written atomically, checked when they are read, and by one process at a time."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

from insitu.errors import InputError

__all__ = [
    "SEAL",
    "StorageError",
    "append",
    "file_digest",
    "locked",
    "read_with_digest",
    "require_folder",
    "require_intact",
    "seal",
    "write_atomically",
    "write_with_digest",
    "writing",
]

LOCK = ".lock"
SEAL = "sha256.json"
DIGEST_SIZE = hashlib.sha256().digest_size


class StorageError(InputError):
    """A file could not be written."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically, through a temporary file beside it; a device such as ``/dev/stdout`` directly.

    Raises:
        StorageError: If it cannot be written; the temporary file is removed and an older file is unchanged.
    """
    temporary = None
    try:
        path = path.resolve()  # Write the target of a link, not over the link.
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.part")
        write_new(temporary, content)
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            f"could not write {path}: {error.strerror or error}. Nothing half-written was left and what was there "
            "before is intact; make room or choose another place, then run the command again."
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_new(path: Path, content: bytes) -> None:
    """Write a new file; where the system can, it has no name before it is whole, so that a kill leaves nothing."""
    nameless = open_nameless(path.parent)
    with open(path, "xb") if nameless is None else open(nameless, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if nameless is not None:
            # A folder for the source, which an absolute path does not need, makes Python follow the link in /proc.
            os.link(f"/proc/self/fd/{nameless}", path, src_dir_fd=nameless, follow_symlinks=True)


def open_nameless(folder: Path) -> int | None:
    """The descriptor of a new file without a name in a folder; none where the system or its file system has no such."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return None
        raise


def append(path: Path, text: str) -> None:
    """Add text at the end of a file.

    Raises:
        StorageError: If it cannot be written; a part of the text may have been.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(
            f"could not write {path}: {error.strerror or error}. Make room or choose another place, then run the "
            "command again."
        ) from None


def write_with_digest(path: Path, content: bytes) -> None:
    """Write a file that ends with the SHA-256 of its content, so that damage is noticed.

    Raises:
        StorageError: If it cannot be written; an older file is unchanged.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_with_digest(Path(folder) / "state", b"weights")
        ...     read_with_digest(Path(folder) / "state")
        b'weights'
    """
    write_atomically(path, content + hashlib.sha256(content).digest())


def read_with_digest(path: Path) -> bytes:
    """The content of a file that :func:`write_with_digest` wrote.

    Raises:
        InputError: If it cannot be read, or does not match its digest.
    """
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    content, digest = whole[:-DIGEST_SIZE], whole[-DIGEST_SIZE:]
    if hashlib.sha256(content).digest() != digest:
        raise InputError(f"{path} is damaged: its content does not match the digest at its end.")
    return content


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A context in which other libraries write into a folder.

    Raises:
        StorageError: If they cannot; what they say of it is of many types.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StorageError(
            f"could not write into {folder}: {reason}. Make room or choose another place, then run the command again."
        ) from None


def seal(folder: Path, patterns: Iterable[str] = ("*",)) -> None:
    """Write the SHA-256 of the files of a folder beside them: it is whole, and damage is noticed.

    Raises:
        StorageError: If it cannot be written.
    """
    found = {path.name for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    names = sorted(found - {SEAL, LOCK})
    digests = {name: file_digest(folder / name) for name in names}
    write_atomically(folder / SEAL, (json.dumps(digests, indent=1) + "\n").encode())


def require_intact(folder: Path) -> bool:
    """Whether a folder was sealed; if so its files are as they were then, whatever was added.

    Raises:
        InputError: If a file is missing or changed, or the seal cannot be read.

    Example:
        >>> with tempfile.TemporaryDirectory() as name:
        ...     write_atomically(Path(name) / "weights", b"1 2 3")
        ...     seal(Path(name))
        ...     require_intact(Path(name))
        True
    """
    if not (folder / SEAL).exists():
        return False
    try:
        digests = dict(json.loads((folder / SEAL).read_text(encoding="utf-8")))
        changed = [name for name, digest in digests.items() if file_digest(folder / name) != digest]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{folder} is damaged: its files cannot be compared with {SEAL} ({error}).") from None
    if changed:
        raise InputError(
            f"{folder} is damaged: {', '.join(changed)} does not match its digest in {SEAL}. If you changed it "
            f"yourself, remove {SEAL}."
        )
    return True


def file_digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder, created if missing, against writes by other processes.

    The lock ends with the process, even if it is killed.

    Raises:
        StorageError: If another process holds it, or nothing can be written there.
    """
    file = acquire(folder / LOCK)
    try:
        yield
    finally:
        # Removed before the lock is released, so that a process that opened it earlier notices that it is gone.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        file.close()


def acquire(path: Path) -> IO[str]:
    """The lock file, opened and locked."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("a+", encoding="utf-8")
            if not try_lock(file):
                file.seek(0)
                holder = file.read(20).strip() or "unknown"
                file.close()
                raise StorageError(
                    f"{path.parent} is in use by another process (id {holder}). Wait for its end, or choose another "
                    "folder."
                )
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
            file.close()
        # Who holds it is said for people; on a full disk it is held all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
    except OSError as error:
        raise StorageError(
            f"nothing can be written into {path.parent}: {error.strerror or error}. Choose another folder, or make "
            "room."
        ) from None
    return file


def try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process, unless another one has."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some cluster file systems have no locks; work goes on without one.
        return error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
    return True


def require_folder(folder: Path) -> None:
    """Create a folder, and check that files can be written into it.

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
