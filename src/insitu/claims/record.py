"""Records: the numbers of one run on disk, keyed by what produced them."""

import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
from pathlib import Path
from typing import Any, final

from insitu.claims.claim import Check, Claim, Measurement, Paper, Run, Scale, Verdict, overall
from insitu.device import describe_device
from insitu.errors import InputError
from insitu.storage import write_atomically

__all__ = ["Damage", "Record", "read_records", "record_path", "run_key", "write_record"]

# Layers whose code cannot change a number: editing them leaves stored records valid.
PRESENTATION = ("report", "cli", "exchange.py", "storage.py", "__main__.py")


@final
@dataclasses.dataclass(frozen=True)
class Record:
    """One claim, run once: configuration, numbers, verdict, and the curves behind its figure.

    The fields are the keys of the JSON file. ``value``, ``low`` and ``high`` are those of the check that decided;
    ``checks`` holds all. ``position`` is the claim's place in its paper, ``finished`` the time in UTC, ``digest``
    is the SHA-256 of everything else, so that damage is noticed.
    """

    claim: str
    paper: str
    paper_title: str
    paper_authors: str
    paper_venue: str
    position: int
    statement: str
    source: str
    scale: str
    reduced: str
    verdict: str
    value: float | str | None
    low: float | str | None
    high: float | str | None
    rule: str
    checks: list[dict[str, Any]]
    setting: dict[str, Any]
    seed: int
    device: str
    seconds: float
    finished: str
    versions: dict[str, str]
    commit: str
    key: str
    notes: list[str]
    error: str
    figure: dict[str, Any] | None
    digest: str = ""

    def sealed(self) -> "Record":
        """The same record with its digest."""
        return dataclasses.replace(self, digest=content_digest(dataclasses.asdict(self)))

    @property
    def decisive(self) -> dict[str, Any]:
        """The check that decided; empty for an error."""
        same = (check for check in self.checks if check["verdict"] == self.verdict)
        return next(same, self.checks[0] if self.checks else {})

    def summary(self) -> dict[str, Any]:
        """The record without its curves."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "figure"}


@final
@dataclasses.dataclass(frozen=True)
class Damage:
    """A file among the records that is not an intact record."""

    path: Path
    reason: str


def content_digest(fields: dict[str, Any]) -> str:
    content = {k: v for k, v in fields.items() if k != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dataclasses as objects, numbers that are not finite as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return fields
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
    found = {name: installed_version(name) for name in names}
    return {"python": platform.python_version(), **found, "source": source_digest()}


def installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def source_digest() -> str:
    """A digest of every file of the package that can change a number, code and bundled data alike."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        if path.is_file() and path.suffix != ".pyc" and place.parts[0] not in PRESENTATION:
            digest.update(str(place).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def commit() -> str:
    """The commit of the checkout that the package runs from; *unknown* outside one."""
    folder = Path(__file__).parents[1]
    try:
        name = git(folder, "rev-parse", "HEAD")
        return name + ("+changes" if git(folder, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def run_key(claim: Claim, scale: Scale, run: Run) -> str:
    """What identifies a run: claim and version, setting, seed, device, and the versions of all code."""
    parts = {
        "claim": claim.id,
        "version": claim.version,
        "rules": [str(rule) for rule in claim.rules],
        "scale": scale,
        "work": work_key(run),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def work_key(run: Run) -> str:
    """What identifies the numbers that a run draws and computes: setting, streams, device, versions of all code."""
    parts = {
        "setting": plain(run.setting),
        "seed": str(run.seed),
        "device": describe_device(run.device),
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def make_record(
    claim: Claim,
    paper: Paper,
    scale: Scale,
    run: Run,
    *,
    measurement: Measurement | None,
    error: str,
    seconds: float,
) -> Record:
    """The record of a run: judged where it was measured, with its traceback where it raised."""
    checks = claim.judge(measurement) if measurement else ()
    verdict, decisive = overall(checks) if checks else (Verdict.ERROR, None)
    low, high = decisive.estimate.interval() if decisive else (None, None)
    return Record(
        claim=claim.id,
        paper=claim.paper,
        paper_title=paper.title,
        paper_authors=paper.authors,
        paper_venue=paper.venue,
        position=[c.id for c in paper.claims].index(claim.id),
        statement=claim.statement,
        source=claim.source,
        scale=scale,
        reduced=claim.reduced if scale == "quick" else "",
        verdict=str(verdict),
        value=plain(decisive.estimate.value) if decisive else None,
        low=plain(low),
        high=plain(high),
        rule="; ".join(map(str, claim.rules)),
        checks=[check_to_json(check) for check in checks],
        setting=plain(run.setting),
        seed=run.seed.root,
        device=describe_device(run.device),
        seconds=round(seconds, 3),
        finished=datetime.datetime.now(datetime.UTC).isoformat(),
        versions=versions(),
        commit=commit(),
        key=run_key(claim, scale, run),
        notes=list(measurement.notes) if measurement else [],
        error=error,
        figure=plain(measurement.figure) if measurement and measurement.figure else None,
    ).sealed()


def check_to_json(check: Check) -> dict[str, Any]:
    low, high = check.estimate.interval()
    numbers = {"value": check.estimate.value, "low": low, "high": high}
    words = {"bound": check.rule.bound, "printed": check.rule.printed, "verdict": str(check.verdict)}
    return {"quantity": check.rule.quantity, **plain(numbers), **words}


def record_path(folder: Path, claim: str, scale: str, key: str) -> Path:
    """Where the record of a run lies."""
    return folder / "records" / f"{claim}.{scale}.{key[:12]}.json"


def write_record(record: Record, folder: Path) -> Path:
    """Write a record so that its file is either whole or not there.

    Raises:
        StorageError: If it cannot be written; nothing half-written stays.
    """
    path = record_path(folder, record.claim, record.scale, record.key)
    text = json.dumps(dataclasses.asdict(record), indent=1, allow_nan=False)
    write_atomically(path, text.encode())
    return path


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        InputError: If the file is not an intact record; the message says what is wrong with it.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**fields)
    except OSError as error:
        raise InputError(f"it could not be read ({error.strerror})") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise InputError("it is not readable JSON (truncated?)") from None
    except TypeError:
        raise InputError("its keys are not those of a record") from None
    if record.digest != content_digest(fields):
        raise InputError("its content does not match its digest (edited by hand?)")
    return record


def read_records(folder: Path) -> tuple[list[Record], list[Damage]]:
    """All intact records of a folder, and the files there that are not."""
    records, damaged = [], []
    for path in sorted((folder / "records").glob("*.json")):
        try:
            records.append(read_record(path))
        except InputError as error:
            damaged.append(Damage(path, str(error)))
    return records, damaged
