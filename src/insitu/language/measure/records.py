"""Records of measurements on language models: one JSON file for one arm and one demonstration set."""

import datetime
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.claims.record import commit, content_digest, plain, versions
from insitu.storage import write_atomically

__all__ = ["find_record", "key_of", "store_record"]


def key_of(configuration: Mapping[str, Any]) -> str:
    """What identifies a measurement: its whole configuration and the versions of all code."""
    content = json.dumps({"configuration": configuration, "versions": versions()}, sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def place_of(folder: Path, name: str, key: str) -> Path:
    words = "".join(c if c.isalnum() or c in "-." else "-" for c in name)
    return folder / "records" / f"{words}.{key[:12]}.json"


def find_record(folder: Path, name: str, key: str) -> dict[str, Any] | None:
    """The intact record of a configuration that an earlier run left, if any."""
    path = place_of(folder, name, key)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    intact = isinstance(record, dict) and record.get("key") == key and record.get("digest") == content_digest(record)
    return record if intact else None


def store_record(folder: Path, name: str, key: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write a record, whole or not at all, and return it.

    Raises:
        StorageError: If it cannot be written.
    """
    record = {
        **content,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(),
        "versions": versions(),
        "commit": commit(),
        "key": key,
    }
    record = json.loads(json.dumps(plain(record)))
    record["digest"] = content_digest(record)
    write_atomically(place_of(folder, name, key), json.dumps(record, indent=1, allow_nan=False).encode())
    return record
