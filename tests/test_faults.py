"""The campaigns of faults notice what they are there for; they themselves run for minutes, outside of the suite."""

import json
import random

import pytest
from benchmarks.damage import Kind, damaged, same, tries
from benchmarks.faults import Case, Findings, Place, compare, contents, gone, kill, prepared

from insitu.errors import InputError
from insitu.storage import read_with_digest, write_with_digest


def careless(path):
    """A reader that trusts what it reads."""
    return path.read_bytes()


def clumsy(path):
    """A reader that falls over damage."""
    return json.loads(path.read_text())["key"]


def test_readers_that_trust_or_fall_are_found_out(tmp_path):
    path, findings = tmp_path / "file", Findings()
    write_with_digest(path, b"weights")
    tries("sealed", Kind(path, lambda: read_with_digest(path), True), 50, random.Random(0), findings)
    assert (findings.tried, findings.wrong) == (50, [])
    tries("trusted", Kind(path, lambda: careless(path), True), 5, random.Random(0), findings)
    assert findings.wrong[-1] == "trusted: reads as something else"
    path.write_text('{"key": 1}')
    tries("fallen over", Kind(path, lambda: clumsy(path), False), 20, random.Random(0), findings)
    assert any("JSONDecodeError" in words for words in findings.wrong)
    with pytest.raises(InputError):
        read_with_digest(path)


def test_damage_is_damage():
    draw = random.Random(0)
    content = bytes(range(100))
    assert all(damaged(content, draw) != content for _ in range(100))
    assert same({"a": [1, 2]}, {"a": [1, 2]})
    assert not same({"a": [1, 2]}, {"a": [1, 3]})


def test_results_that_differ_and_files_that_are_left_are_noticed(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "log").write_text("")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "record.json").write_text('{"value": 1, "seconds": 3}')
    given = Case("own", place, contents(tmp_path / "out"), 1.0)
    findings = Findings()
    (tmp_path / "out" / "record.json").write_text('{"value": 1, "seconds": 4}')
    compare(given, tmp_path / "out", "same", findings)
    assert findings.wrong == []
    (tmp_path / "out" / "record.json").write_text('{"value": 2, "seconds": 3}')
    (tmp_path / "out" / ".rest.part").write_text("")
    (tmp_path / "tmp" / "socket").mkdir()
    (tmp_path / "log").write_text("Traceback (most recent call last)")
    compare(given, tmp_path / "out", "other", findings)
    assert [words.split(":")[0] for words in findings.wrong] == ["other"] * 4


def test_a_process_that_lives_on_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.faults.LAST_BREATH", 0.2)
    process = prepared(tmp_path / "place").start(["sleep", "60"])
    assert "sleep 60" in gone(process.pid)
    process.wait()
    assert gone(process.pid) == ""


def test_a_command_that_leaves_nothing_behind_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(Place, "command", lambda self, name, out: ["mkdir", "-p", str(out)])
    given, findings = Case("own", prepared(tmp_path / "place"), {}, 0.1), Findings()
    kill(given, [0.01], findings)
    # mkdir knows no --resume and says so.
    assert findings.tried == 1
    assert all("lives on" not in words for words in findings.wrong)
