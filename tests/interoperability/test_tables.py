"""Records as a table, and seeds from NumPy's generators."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from insitu import Seed
from insitu.claims.record import claim_record
from insitu.claims.table import COLUMNS, as_csv, rows
from insitu.errors import InputError
from insitu.front_door import Records

STORED = Path(__file__).parents[2] / "results" / "quick-lm" / "seed-0.json"


@pytest.fixture(scope="module")
def records() -> Records:
    contents = json.loads(STORED.read_text(encoding="utf-8"))
    return Records(tuple(claim_record({**content, "figure": None}) for content in contents), Path())


def test_the_table_has_a_row_for_every_rule(records, tmp_path):
    table = records.table()
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == sum(len(record.checks) for record in records)
    table.to_parquet(tmp_path / "claims.parquet")
    assert pd.read_parquet(tmp_path / "claims.parquet").equals(table)
    # The verdict of a claim follows from those of its rows.
    for _, own in table.groupby("claim"):
        worst = min(own.quantity_verdict, key=("fails", "undecided", "holds").index)
        assert (own.verdict == worst).all()


def test_numbers_that_are_not_finite_are_numbers_again(records):
    check = {**records[0].checks[0], "value": "inf"}
    one = claim_record({**records[0].summary(), "figure": None, "checks": [check]})
    assert rows([one])[0]["value"] == math.inf
    assert as_csv([one]).splitlines()[0] == ",".join(COLUMNS)


def test_without_pandas_the_message_says_the_way_out(records, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"needs the package pandas, which is not installed.*insitu\[pandas\]"):
        records.table()


def test_seeds_from_a_generator_are_those_of_its_numbers():
    generator = np.random.default_rng(3)
    first, second = Seed.from_numpy(generator), Seed.from_numpy(generator)
    assert first != second
    assert first == Seed(int(np.random.default_rng(3).integers(2**63)))
    assert not bool((first.normal(4) == second.normal(4)).any())
