"""Hostile files: whatever the parsers read, they end in a value or in one clear refusal, and never in a traceback.

INSITU_EXAMPLES=5000 pytest tests/sweeps/test_hostile.py tries that many of each; the suite tries a few.
"""

import json
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.claims.test_engine import job

from insitu.claims.record import claim_record, read_records
from insitu.errors import InputError
from insitu.models import named_predictor
from insitu.records import content_digest, read_json
from insitu.sweeps.plan_file import read_sweep, sweep_from
from insitu.training.config import read_training, training_from
from insitu.work import run_job

tries = settings(
    max_examples=int(os.environ.get("INSITU_EXAMPLES", "25")),
    deadline=None,
    derandomize="INSITU_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NAMES = """
    task network training grid list claims scale seed together test kind law dim mask layers width heads steps rate
    batch points queries starts std betas clip warmup decay cosine noise covariance LinearRegression Gaussian
    UniformCube Shifted Pool Transformer prefix causal training.rate task.law.dim network.mask quick ding2024
"""
WORDS = NAMES.split()
numbers = st.one_of(
    st.integers(-3, 5),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.sampled_from([0, 1, -1, 2**53, 2**63, 1e308, 5e-324]),
)
words = st.one_of(st.sampled_from(WORDS), st.text(max_size=5))
values = st.recursive(
    st.one_of(numbers, words, st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=4)),
    max_leaves=8,
)
PLAIN = {
    "task": {"kind": "LinearRegression", "law": {"kind": "Gaussian", "dim": 2}},
    "network": {"kind": "Transformer", "layers": 1, "width": 8, "heads": 1, "mask": "prefix"},
    "training": {"steps": 6, "rate": 0.01, "batch": 4, "points": 3, "queries": 2},
}


def refused_or_done(function, *given):
    """Whether something was refused, in a paragraph; any other exception goes on."""
    try:
        function(*given)
    except InputError as error:
        return 10 < len(str(error)) < 2000
    return False


@st.composite
def changed_documents(draw):
    """A whole training with one entry replaced or added somewhere."""
    document = json.loads(json.dumps(PLAIN))
    section = draw(st.sampled_from([*PLAIN, "grid", "list", "law"]))
    place = document["task"]["law"] if section == "law" else document.setdefault(section, {})
    known = list(place) or ["seed", "training.rate", "network.mask"]
    place[draw(st.one_of(st.sampled_from(known), words))] = draw(values)
    return document


@tries
@given(st.one_of(changed_documents(), st.dictionaries(words, values, max_size=5)))
def test_a_hostile_plan_is_refused_or_read(document):
    refused_or_done(lambda: sweep_from(document, "the file").jobs(Path("nowhere"), "cpu"))


@tries
@given(changed_documents())
def test_a_hostile_training_is_refused_or_read(document):
    refused_or_done(training_from, document, "the file")


@tries
@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_a_file_of_any_bytes_is_refused_or_read(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.toml"
        path.write_bytes(content)
        assert refused_or_done(read_sweep, path)
        assert refused_or_done(read_training, path)


names = ["Ridge", "GradientDescent", "LeastSquares", "Checkpoint", "FinitePool", "penalty", "rate", "steps", "nan", "x"]
pieces = st.one_of(
    st.sampled_from([*"()[],=.-+*'\"{}:\\\n ", "**", "1e999", "9" * 5000, "lambda", "__import__", *names]),
    st.floats().map(repr),
    st.text(max_size=3),
)


@tries
@given(st.one_of(st.lists(pieces, max_size=12).map("".join), st.builds("Ridge(penalty={})".format, pieces)))
def test_a_hostile_learner_is_refused_or_read(text):
    refused_or_done(named_predictor, text)


@tries
@given(st.data())
def test_a_record_with_any_value_in_it_is_refused_or_read(data):
    with tempfile.TemporaryDirectory() as folder:
        record = run_job(job(folder))
        (path,) = (Path(folder) / "records").iterdir()
        content = json.loads(path.read_text())
        content[data.draw(st.sampled_from(sorted(content)))] = data.draw(values)
        content["digest"] = content_digest(content)
        path.write_text(json.dumps(content))
        refused_or_done(lambda: claim_record(read_json(path)))
        records, damaged = read_records(Path(folder))
        assert len(records) + len(damaged) <= 1
        assert record.verdict == "holds"


@tries
@given(st.integers(0, 10**9), st.integers(0, 255))
def test_a_flipped_byte_of_a_record_is_damage(place, byte):
    with tempfile.TemporaryDirectory() as folder:
        run_job(job(folder))
        (path,) = (Path(folder) / "records").iterdir()
        content = bytearray(path.read_bytes())
        before = content[place % len(content)]
        content[place % len(content)] = byte
        path.write_bytes(content)
        records, damaged = read_records(Path(folder))
        # White space between entries may change without a change of content.
        same = byte == before or chr(before).isspace()
        assert (len(records), len(damaged)) == (0, 1) or same
