"""The second tab: a record of an identification on the page."""

import json

import pytest

import insitu
from insitu import InputError
from insitu.explorer.identifying import identification_record
from insitu.explorer.record import read_record, record_parts


@pytest.fixture(scope="module")
def record():
    found = insitu.identify("GradientDescent(steps=2, rate=0.4)", dim=3, points=(4, 10), count=16)
    return json.loads(json.dumps(found.as_json()))


def test_a_record_shows_verdict_properties_gains_and_candidates(record):
    page = "".join(record_parts(read_record(json.dumps(record))))
    assert "indistinguishable" in page
    assert "GradientDescent(steps=2, rate=0.4)" in page
    assert "By which factor directions are fitted" in page
    assert page.count("<svg") == len([g for g in record["gains"] if g["curve"]])
    for given in record["properties"]:
        assert given["name"] in page


def test_a_record_of_anything_else_is_shown_as_far_as_it_goes():
    """A language model's record may say less, and more."""
    numbers = {"model": "smollm2", "lengths": [{"points": 8, "root mean squared error": {"model": 12.5}}]}
    record = {"verdict": "closest", "reason": "Near <ridge>.", "shots": [1, 2], "numbers": numbers}
    page = "".join(record_parts(record))
    assert "<td>12.5</td>" in page
    assert "[1, 2]" in page
    assert "Near &lt;ridge&gt;." in page
    assert "smollm2" in page
    assert "Nearest learners" not in page


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON"), ("[1]", "is no record of an identification.* got list"), ('{"a": 1}', "got a")],
)
def test_what_is_no_record_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        read_record(text)


def test_a_model_is_identified_with_its_stages():
    stages = []
    record = identification_record("Mean()", "2", stages.append, count=16)
    assert record["best"]["learner"] == "Mean()"
    assert stages


@pytest.mark.parametrize(
    ("model", "dim", "message"),
    [("", "", "a model such as"), ("Mean()", "two", "got 'Mean\\(\\)' and 'two'")],
)
def test_what_cannot_be_identified_is_refused(model, dim, message):
    with pytest.raises(InputError, match=message):
        identification_record(model, dim, lambda stage: None)
