"""Tables of sweeps: one row per network or quantity, as a record, CSV and Parquet; and claims over seeds."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import special

from insitu.claims.claim import Check, overall
from insitu.claims.job import ClaimJob
from insitu.metrics import Estimate
from insitu.metrics.estimate import CONFIDENCE
from insitu.records import key_of, plain, store_record
from insitu.storage import write_atomically
from insitu.sweeps.over_trainings import OverTrainings, over_trainings
from insitu.sweeps.sweep import Row
from insitu.work import Job

__all__ = ["SEEDS", "SWEEP", "seed_rows", "store_table", "write_tables"]

SWEEP, SEEDS = "sweep", "seeds"
"""The kinds of the records that hold a table."""


def store_table(kind: str, jobs: Sequence[Job], fields: Sequence[str], rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write a table as a record, from which its page is drawn, and as CSV and Parquet; the files of the latter.

    Args:
        kind: ``SWEEP`` or ``SEEDS``.
        jobs: All jobs of the list, done or not.
        fields: The fields that vary.
        rows: The rows of those that are done.
        folder: The folder of the records.

    Raises:
        StorageError: If a file cannot be written.
    """
    key = key_of({"kind": kind, "jobs": [job.key for job in jobs]})
    content = {"kind": kind, "jobs": len(jobs), "fields": list(fields), "rows": list(rows)}
    store_record(folder, kind, key, content)
    return write_tables(rows, folder / kind)


def write_tables(rows: Sequence[Row], stem: Path) -> list[Path]:
    """Write rows as CSV, and as Parquet where pyarrow is installed; the files."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [{name: cell(row.get(name)) for name in columns} for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    path = stem.with_suffix(".csv")
    write_atomically(path, text.getvalue().encode())
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return [path]
    table = pyarrow.table({name: uniform([row[name] for row in cells]) for name in columns})
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    write_atomically(stem.with_suffix(".parquet"), content.getvalue())
    return [path, stem.with_suffix(".parquet")]


def cell(value: Any) -> Any:
    """A value as one cell: lists as JSON, and what records hold as text because it is not finite as a number."""
    if isinstance(value, dict | list | tuple):
        return json.dumps(plain(value))
    return float(value) if value in ("inf", "-inf") else value


def uniform(values: Sequence[Any]) -> Sequence[Any]:
    """A column of one type: numbers, or text where its values differ in type."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) == 2:
        return [None if value is None else float(value) for value in values]
    return values if len(kinds) < 2 else [None if value is None else str(value) for value in values]


def seed_rows(jobs: Sequence[ClaimJob], records: Sequence[Any]) -> list[Row]:
    """A row for each quantity of each claim: its mean over seeds, with the interval over trainings, and its verdict.

    Claims with results at fewer than two seeds are left out.
    """
    together: dict[tuple[str, str], list[tuple[ClaimJob, Any]]] = {}
    for job, record in zip(jobs, records, strict=True):
        if not record.error:
            together.setdefault((record.claim, json.dumps(record.setting)), []).append((job, record))
    return [row for runs in together.values() if len(runs) > 1 for row in rows_of_claim(runs)]


def rows_of_claim(runs: Sequence[tuple[ClaimJob, Any]]) -> list[Row]:
    """The rows of one claim from its runs at several seeds."""
    claim, records = runs[0][0].claim, [record for _, record in runs]
    pooled = {rule.quantity: pool(records, rule.quantity) for rule in claim.rules}
    checks = tuple(Check(rule, pooled[rule.quantity].mean) for rule in claim.rules)
    alone = Counter(record.verdict for record in records)
    counts = {str(verdict): alone[str(verdict)] for verdict in ("holds", "fails", "undecided")}
    whole = {"claim": claim.id, "seeds": len(records), "verdict": str(overall(checks)[0]), **counts}
    return [{**whole, **row_of_check(check, pooled[check.rule.quantity])} for check in checks]


def row_of_check(check: Check, pooled: OverTrainings) -> Row:
    low, high = check.estimate.interval()
    return plain(
        {
            "quantity": check.rule.quantity,
            "value": check.estimate.value,
            "low": low,
            "high": high,
            "bound": check.rule.bound,
            "decision": str(check.verdict),
            "between": pooled.between,
            "within": pooled.within,
        }
    )


def pool(records: Sequence[Any], quantity: str) -> OverTrainings:
    """One quantity over the trainings of several records."""
    checks = [next(check for check in record.checks if check["quantity"] == quantity) for record in records]
    return over_trainings([estimate_of(check) for check in checks])


def estimate_of(check: Mapping[str, Any]) -> Estimate:
    """The estimate of a stored check: its error from the width of its interval, as of many samples."""
    value, low, high = (float(check[name]) for name in ("value", "low", "high"))
    half = (high - low) / 2 if math.isfinite(value) else 0.0
    return Estimate(value, half / float(special.ndtri((1 + CONFIDENCE) / 2)))
