"""Records: the numbers of one run on disk, keyed by what produced them. One file each, whole or not there.

A record is a JSON object. Its ``kind`` says what was run (a claim, ``lm compare``, ...), its ``key`` identifies the
whole configuration with the versions of all code, and its ``digest`` is the SHA-256 of everything else, so that damage
is noticed. Pages read records and run nothing.
"""

import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from insitu.budget import budget
from insitu.errors import InputError
from insitu.storage import write_atomically

__all__ = [
    "Damage",
    "commit",
    "content_digest",
    "find_record",
    "key_of",
    "now",
    "plain",
    "read_folder",
    "read_json",
    "record_path",
    "store_record",
    "versions",
]

# Parts whose code cannot change a number: editing them leaves stored records valid.
PRESENTATION = ("report", "cli", "exchange.py", "storage.py", "front_door.py", "__main__.py", "lazy.py")


@final
@dataclasses.dataclass(frozen=True)
class Damage:
    """A file among the records that is not an intact record."""

    path: Path
    reason: str


def content_digest(fields: dict[str, Any]) -> str:
    """The SHA-256 of a record's content, its digest left out."""
    content = {k: v for k, v in fields.items() if k != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dataclasses as objects, numbers that are not finite as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


@functools.cache
def versions() -> dict[str, str]:
    """The versions of what computes, and a digest of the package's own code."""
    names = ("insitu", "torch", "numpy", "scipy", "transformers")
    packages = {name: installed_version(name) for name in names}
    return {"python": platform.python_version(), **packages, "source": source_digest()}


def installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def source_digest() -> str:
    """A digest of every file of the package that can change a number, code and bundled data alike."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        # Compiled code comes and goes while other processes import.
        if "__pycache__" not in place.parts and place.parts[0] not in PRESENTATION and path.is_file():
            digest.update(str(place).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def commit() -> str:
    """The commit of the checkout that the package runs from; *unknown* outside one."""
    folder = Path(__file__).parent
    try:
        name = git(folder, "rev-parse", "HEAD")
        return name + ("+changes" if git(folder, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(folder: Path, *words: str) -> str:
    process = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def key_of(configuration: Mapping[str, Any]) -> str:
    """The key of a run: its whole configuration and the versions of all code."""
    content = json.dumps({"configuration": configuration, "versions": versions()}, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def record_path(folder: Path, name: str, key: str) -> Path:
    """The path of a run's record: its name, then the beginning of its key."""
    words = "".join(c if c.isalnum() or c in "-." else "-" for c in name)
    return folder / "records" / f"{words}.{key[:12]}.json"


def store_record(folder: Path, name: str, key: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record, whole or not at all, and return it with time, versions, commit, key and digest.

    Raises:
        StorageError: If it cannot be written.
    """
    origin = {"finished": now(), "versions": versions(), "commit": commit(), "key": key}
    # Through JSON, so that what is returned is what a reader gets.
    record = json.loads(json.dumps(plain({**origin, **content})))
    record["digest"] = content_digest(record)
    write_atomically(record_path(folder, name, key), json.dumps(record, indent=1, allow_nan=False).encode())
    budget().advanced = True
    return record


def now() -> str:
    """The time in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def find_record(folder: Path, name: str, key: str) -> dict[str, Any] | Damage | None:
    """The record that an earlier run of the same configuration left, or why it cannot be used; none if it left none."""
    path = record_path(folder, name, key)
    if not path.exists():
        return None
    try:
        record = read_json(path)
    except InputError as error:
        return Damage(path, str(error))
    return record if record["key"] == key else Damage(path, "its key is that of another configuration")


def read_json(path: Path) -> dict[str, Any]:
    """Read one record.

    Raises:
        InputError: If the file is not an intact record; the message says what is wrong with it.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"it could not be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        # UnicodeDecodeError, JSONDecodeError and a number of too many digits are all ValueErrors.
        raise InputError("it is not readable JSON (truncated?)") from None
    if not isinstance(record, dict) or not isinstance(record.get("key"), str) or "kind" not in record:
        raise InputError("its keys are not those of a record")
    if record.get("digest") != content_digest(record):
        raise InputError("its content does not match its digest (edited by hand?)")
    return record


def read_folder(folder: Path) -> tuple[dict[Path, dict[str, Any]], list[Damage]]:
    """All intact records of a folder by their files, and the files there that are not."""
    records, damaged = {}, []
    for path in sorted((folder / "records").glob("*.json")):
        try:
            records[path] = read_json(path)
        except InputError as error:
            damaged.append(Damage(path, str(error)))
    return records, damaged
