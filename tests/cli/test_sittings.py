"""Sittings that end right after a few files: the results are those of one undisturbed run.

Any command of the campaigns may stand in the list; others are tried where their parts are (tests/language, training).
``python -m benchmarks.faults sittings`` does the same with budgets, on real processes, for every long command.
"""

import os
import sys
from pathlib import Path

import pytest
from benchmarks.faults import BEFORE, contents, prepared

import insitu.cli.app as app

# How many files a sitting may write, and how many sittings are enough.
FILES, ENOUGH = 6, 20


class OverError(BaseException):
    """The end of a sitting."""


def start(monkeypatch, words):
    """Run a command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["insitu", *words])
    return app.run()


def sitting(monkeypatch, words, files):
    """Whether a command came to its end before it had written so many records and pieces."""
    replace, left = os.replace, iter(range(files))

    def counted(source, target):
        replace(source, target)
        if {"records", "unfinished"} & set(Path(target).parts) and next(left, None) is None:
            raise OverError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted)
        try:
            return start(patch, words) == 0
        except OverError:
            return False


@pytest.mark.parametrize("name", ["identify --lm"])
def test_sittings_end_with_the_results_of_one_undisturbed_run(name, tmp_path, monkeypatch):
    place = prepared(tmp_path)
    if name in BEFORE:
        assert start(monkeypatch, place.program(*BEFORE[name])[3:]) == 0
    whole, parts = (place.command(name, tmp_path / folder)[3:] for folder in ("whole", "parts"))
    assert start(monkeypatch, whole) == 0
    ends = (sitting(monkeypatch, [*parts, "--resume"], FILES) for _ in range(ENOUGH))
    assert next(number for number, end in enumerate(ends, start=1) if end) > 1
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert not (tmp_path / "parts" / "unfinished").exists()
