"""Records of claims as one table: a row for every quantity that a rule decides."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from insitu.claims.record import Record

__all__ = ["COLUMNS", "as_csv", "rows"]

NUMBERS = ("value", "low", "high")
COLUMNS = (
    *("claim", "paper", "statement", "source", "scale", "seed", "device", "verdict"),
    *("quantity", *NUMBERS, "bound", "printed", "quantity_verdict", "seconds", "finished", "commit", "key"),
)
"""The columns: ``verdict`` is that of the claim, ``quantity_verdict`` that of the row."""


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The rows of records; a measurement that stopped has one, without a quantity.

    Args:
        records: The records, in the order of the rows.
    """
    return [row(record, check) for record in records for check in record.checks or [{}]]


def row(record: Record, check: dict[str, Any]) -> dict[str, Any]:
    # Records hold numbers that are not finite as text.
    numbers = {name: None if check.get(name) is None else float(check[name]) for name in NUMBERS}
    words = {name: check.get(name, "") for name in ("quantity", "bound", "printed")}
    own = {**words, **numbers, "quantity_verdict": check.get("verdict", "")}
    return {name: own[name] if name in own else getattr(record, name) for name in COLUMNS}


def as_csv(records: Sequence[Record]) -> str:
    """The table as comma-separated values with a line of titles."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(records))
    return text.getvalue()
