"""The records of claims: configuration, numbers, verdict, and the curves behind the figure."""

import dataclasses
import hashlib
import html
import json
import types
from pathlib import Path
from typing import Any, final, get_args, get_origin, get_type_hints

from insitu.claims.claim import Check, Claim, Measurement, Paper, Run, Scale, Verdict, overall
from insitu.device import describe_device
from insitu.errors import InputError, shortened
from insitu.records import (
    Damage,
    commit,
    content_digest,
    now,
    plain,
    read_folder,
    read_json,
    record_path,
    store_record,
    versions,
)

__all__ = [
    "CLAIM",
    "Record",
    "claim_name",
    "claim_record",
    "make_record",
    "read_record",
    "read_records",
    "run_key",
    "write_record",
]

CLAIM = "claim"
"""The kind of these records."""
CHECK = {"quantity", "value", "low", "high", "bound", "printed", "verdict"}


@final
@dataclasses.dataclass(frozen=True, repr=False)
class Record:
    """One claim, run once: configuration, numbers, verdict, and the curves behind its figure.

    The fields are the keys of the JSON file. ``value``, ``low`` and ``high`` are those of the check that decided;
    ``checks`` holds all. ``position`` is the claim's place in its paper, ``headline`` whether its figure stands for
    the paper, ``finished`` the time in UTC, ``digest`` is the SHA-256 of everything else, so that damage is noticed.
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
    headline: bool = False
    kind: str = CLAIM
    digest: str = ""

    def sealed(self) -> "Record":
        """The same record with its digest."""
        return dataclasses.replace(self, digest=content_digest(dataclasses.asdict(self)))

    def __repr__(self) -> str:
        return f"Record({self.claim!r}, {self.scale}, seed {self.seed}: {self.verdict})"

    def __str__(self) -> str:
        check = self.decisive
        decided = f"{check['quantity']} = {check['value']} in [{check['low']}, {check['high']}], {check['bound']}"
        return f"{self.claim} {self.verdict} ({self.source})\n{self.statement}\n{decided if check else self.error}"

    def _repr_html_(self) -> str:
        first, *rest = (html.escape(line) for line in str(self).splitlines())
        return f"<p><b>{first}</b><br>{'<br>'.join(rest)}</p>"

    @property
    def decisive(self) -> dict[str, Any]:
        """The check that decided; empty for an error."""
        same = (check for check in self.checks if check["verdict"] == self.verdict)
        return next(same, self.checks[0] if self.checks else {})

    def summary(self) -> dict[str, Any]:
        """The record without its curves."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "figure"}


def run_key(claim: Claim, scale: Scale, run: Run) -> str:
    """The key of a run: claim and version, setting, seed, device, and the versions of all code."""
    parts = {
        "claim": claim.id,
        "version": claim.version,
        "rules": [str(rule) for rule in claim.rules],
        "scale": scale,
        "work": work_key(run),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def work_key(run: Run) -> str:
    """The key of the numbers that a run draws and computes: setting, streams, device, versions of all code."""
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
        finished=now(),
        versions=versions(),
        commit=commit(),
        key=run_key(claim, scale, run),
        notes=list(measurement.notes) if measurement else [],
        error=error,
        figure=plain(measurement.figure) if measurement and measurement.figure else None,
        headline=claim.id == f"{paper.id}.{paper.headline}",
    ).sealed()


def check_to_json(check: Check) -> dict[str, Any]:
    low, high = check.estimate.interval()
    numbers = {"value": check.estimate.value, "low": low, "high": high}
    words = {"bound": check.rule.bound, "printed": check.rule.printed, "verdict": str(check.verdict)}
    return {"quantity": check.rule.quantity, **plain(numbers), **words}


def claim_name(claim: str, scale: str) -> str:
    """The name of a claim's record."""
    return f"{claim}.{scale}"


def write_record(record: Record, folder: Path) -> Path:
    """Write a record so that its file is either whole or not there.

    Raises:
        StorageError: If it cannot be written; no partial file remains.
    """
    name = claim_name(record.claim, record.scale)
    store_record(folder, name, record.key, dataclasses.asdict(record))
    return record_path(folder, name, record.key)


def claim_record(content: dict[str, Any]) -> Record:
    """The record of a claim from the content of a file.

    Raises:
        InputError: If its keys are not those of a claim's record, or a value has another type.
    """
    kinds = get_type_hints(Record)
    # A field with a default came later than records that lack it.
    required = {f.name for f in dataclasses.fields(Record) if f.default is dataclasses.MISSING}
    if not required <= content.keys() <= kinds.keys():
        raise InputError("its keys are not those of a claim's record")
    for name, kind in kinds.items():
        if name in content and not has_type(content[name], kind):
            raise InputError(f"its {name} is {shortened(repr(content[name]))}, which has the wrong type")
    if not all(check.keys() == CHECK and check["verdict"] in set(Verdict) for check in content["checks"]):
        raise InputError("its checks are not those of a claim's record")
    return Record(**content)


def has_type(value: Any, kind: Any) -> bool:
    """Whether a JSON value has a type, that of its items included.

    Example:
        >>> [has_type(value, list[dict[str, float] | None]) for value in ([{"a": 1}, None], [{"a": "b"}], {})]
        [True, False, False]
    """
    if kind is Any:
        return True
    outer, inner = get_origin(kind), get_args(kind)
    if outer is types.UnionType:
        return any(has_type(value, one) for one in inner)
    if outer is list:
        return isinstance(value, list) and all(has_type(item, inner[0]) for item in value)
    if outer is dict:
        return isinstance(value, dict) and all(has_type(item, inner[1]) for item in value.values())
    return isinstance(value, (float, int) if kind is float else kind) and not (kind is int and value is True)


def read_record(path: Path) -> Record:
    """Read the record of one claim.

    Raises:
        InputError: If the file is not the intact record of a claim; the message says what is wrong with it.
    """
    return claim_record(read_json(path))


def read_records(folder: Path) -> tuple[list[Record], list[Damage]]:
    """All intact records of claims in a folder, and the files there that are no records."""
    contents, damaged = read_folder(folder)
    records = []
    for path, content in contents.items():
        if content["kind"] != CLAIM:
            continue
        try:
            records.append(claim_record(content))
        except InputError as error:
            damaged.append(Damage(path, str(error)))
    return records, damaged
