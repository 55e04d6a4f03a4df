"""`insitu sweep` and `insitu reproduce --seeds` at the command line."""

import json
import re

import pytest
from tests.cli.test_budget import command  # noqa: F401
from tests.sweeps.test_sweeps import CHEAP

PLAN = """
test = 16
[task]
kind = "LinearRegression"
law = { kind = "Gaussian", dim = 2 }
[network]
kind = "Transformer"
layers = 1
width = 8
heads = 1
[training]
steps = 5
rate = 0.01
batch = 4
points = 3
queries = 2
[grid]
seed = [0, 1]
"training.rate" = [0.01, 0.03]
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "rates.toml"
    path.write_text(PLAN)
    return path


def test_a_plan_creates_nothing(command, plan, tmp_path, capsys):  # noqa: F811
    assert command("sweep", plan, "--out", tmp_path / "new", "--plan") == 0
    assert command("reproduce", CHEAP, "--out", tmp_path / "new", "--plan") == 0
    out = capsys.readouterr().out
    assert "operations" in out
    assert "at least" in out
    assert [path.name for path in tmp_path.iterdir()] == ["rates.toml"]


def test_a_sweep_from_plan_to_page(command, plan, tmp_path, capsys):  # noqa: F811
    folder = tmp_path / "new"
    assert command("sweep", plan, "--out", folder, "--shard", "1/2") == 0
    assert command("status", folder, "--json") == 0
    out = capsys.readouterr().out
    status = json.loads(out[out.index("{") :])
    assert (status["jobs"], status["done"], len(status["left"])) == (2, 1, 1)
    assert command("sweep", plan, "--out", folder, "--resume", "--json") == 0
    out = capsys.readouterr()
    assert len(json.loads(out.out)) == 4
    assert "2 jobs, 1 done" in out.err
    assert {"sweep.csv", "sweep.parquet", "sweep.html", "plan.toml"} <= {path.name for path in folder.iterdir()}
    page = (folder / "sweep.html").read_text()
    assert re.findall(r"<h\d>(.*?)</h\d>", page) == ["A sweep", "Results", "Table"]
    assert "training.rate" in page
    assert "insitu · sweep" in page


def test_claims_over_seeds_show_their_verdicts_and_a_page(command, tmp_path, capsys):  # noqa: F811
    words = ["reproduce", CHEAP, "--out", tmp_path, "--workers", "1"]
    assert command(*words, "--seeds", "0", "1") == 0
    assert f"holds  {CHEAP}  over 2 seeds (alone: 2 holds)" in capsys.readouterr().out
    assert "Claims over seeds" in (tmp_path / "seeds.html").read_text()
    assert "seed 1" in (tmp_path / "report.html").read_text()
