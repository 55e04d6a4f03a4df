"""`--budget`: a command stops in time with everything stored, says so, and the same command goes on."""

import contextlib
import io
import json
import math
import os
import re
import signal
import sys
import time

import pytest
import typer
from rich.console import Console
from tests.claims.test_engine import job
from tests.training.test_session import PLAIN, written

import insitu.budget as budget_module
import insitu.cli.app as app
import insitu.cli.options as options
import insitu.cli.reproduce as reproduce
from insitu.budget import Budget, OutOfTimeError, begin, budget, limited, parse_duration
from insitu.cli import main
from insitu.cli.work import parse_shard
from insitu.errors import InputError
from insitu.records import store_record
from insitu.training.session import read_metrics
from insitu.work import Finished, run_job

LONG = PLAIN.replace("steps = 30", "steps = 3000")


@pytest.fixture
def command(monkeypatch):
    """Run a command line as a program that has just begun."""

    def run(*words):
        begin()
        monkeypatch.setattr(sys, "argv", ["insitu", *map(str, words)])
        return app.run()

    return run


def test_training_in_sittings(command, tmp_path, capsys):
    words = ["train", written(tmp_path, LONG), "--out", tmp_path / "run", "--budget", "0.6s"]
    assert command(*words) == 75
    assert "the time is over after" in " ".join(capsys.readouterr().err.split())
    first = read_metrics(tmp_path / "run")
    assert 0 < len(first) < 6000
    assert command(*words) == 75
    second = read_metrics(tmp_path / "run")
    assert len(second) > len(first)
    assert second[: len(first)] == first


def test_a_run_of_claims_whose_time_is_over_says_how_far_it_came(command, tmp_path, capsys):
    words = ["reproduce", "zhang2024.loss-is-not-convex", "--out", tmp_path, "--budget", "0.001s"]
    assert command(*words) == 75
    assert "0 of 1 have their records" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["", "9x", "m", "-5s", "0s", "5 m", "1e3s", "nan"])
def test_a_budget_that_is_no_time_is_refused(words):
    with pytest.raises(InputError, match="expected a time such as 90s, 9m or 1h30m; got"):
        parse_duration(words)


def test_a_budget_by_a_clock_of_its_own():
    now = [100.0]
    time_left = Budget(30.0, clock=lambda: now[0])
    assert (time_left.left, time_left.spent) == (30.0, False)
    now[0] = 130.0
    assert time_left.spent
    now[0] = 90.0
    time_left.end()
    assert time_left.spent


def forever():
    """Work that looks at no clock and goes on after an error."""
    with contextlib.suppress(Exception):
        while True:
            time.sleep(0.01)


def cut(work, seconds=0.05, stored="what is finished is stored"):
    """Do work in a sitting of so many seconds, without a grace period, after something was stored."""
    with limited(seconds, grace=0.0) as time_left:
        time_left.stored, time_left.advanced = stored, True
        work()


needs_timers = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no timers")


@needs_timers
def test_work_that_looks_at_no_clock_is_cut_short():
    with pytest.raises(OutOfTimeError, match=r"the time is over: 3 of 7 records are stored\. The same command with"):
        cut(forever, stored="3 of 7 records are stored")
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@needs_timers
def test_a_sitting_in_which_nothing_was_stored_says_that_it_is_too_short(tmp_path):
    def work(store):
        with limited(grace=0.0):
            store()
            os.kill(os.getpid(), signal.SIGUSR1)
            forever()

    with pytest.raises(OutOfTimeError, match=r"Nothing was stored in this sitting, which has to be longer\. The same"):
        work(lambda: None)
    with pytest.raises(OutOfTimeError, match=r"the time is over: what is finished is stored\. The same command"):
        work(lambda: store_record(tmp_path, "own", "key", {"kind": "own"}))


@needs_timers
def test_a_signal_cuts_short_what_has_nothing_to_store():
    with pytest.raises(OutOfTimeError, match="what is finished is stored"):
        cut(lambda: (os.kill(os.getpid(), signal.SIGUSR1), forever()), seconds=math.inf)


@needs_timers
def test_an_error_that_a_library_makes_of_the_cut_is_the_end_of_the_time_too():
    def wrapped():
        try:
            forever()
        except BaseException:
            raise RuntimeError("the iterator failed") from None

    with pytest.raises(OutOfTimeError, match="the time is over"):
        cut(wrapped)


def test_other_errors_pass_and_work_that_ends_in_time_is_not_cut():
    with pytest.raises(ZeroDivisionError), limited(60.0, grace=0.0):
        raise ZeroDivisionError
    with limited(60.0, grace=0.0) as time_left:
        assert budget() is time_left
    assert budget().left == math.inf


def test_a_part_of_a_budget_is_kept_for_what_comes_after(monkeypatch):
    monkeypatch.setattr(options, "elapsed", lambda: 10.0)
    assert options.seconds_of("1m", reserve=20.0) == pytest.approx(30.0, abs=0.1)
    assert options.seconds_of("20s", reserve=20.0) == pytest.approx(0.0, abs=0.1)


def test_a_budget_counts_from_the_command_and_not_from_the_process(monkeypatch):
    """A process that was an hour old gave every command a budget that was spent."""
    monkeypatch.setattr(budget_module.Current, "begun", time.monotonic() - 3600)
    assert options.seconds_of("9m", reserve=20.0) < 0
    seen = []
    monkeypatch.setattr(app, "run", lambda: seen.append(options.seconds_of("9m", reserve=20.0)))
    with pytest.raises(SystemExit):
        main()
    assert seen == [pytest.approx(520.0, abs=5.0)]


def test_a_pipe_gets_the_line_of_a_verdict_at_once(tmp_path, monkeypatch):
    class Pipe(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    pipe = Pipe()
    monkeypatch.setattr(reproduce, "console", Console(file=pipe))
    one = job(tmp_path)
    reproduce.show_finished(Finished(one, run_job(one), left=200.0))
    assert "holds  toy.mean-is-zero" in pipe.flushed
    assert pipe.flushed.endswith("s, 3 min left\n")


@pytest.mark.parametrize("words", ["", "3", "a/b", "1/2/3", "-1/4", "1.5/2"])
def test_a_shard_that_is_none_is_refused(words):
    with pytest.raises(InputError, match="expected K/N, such as 3/40; got"):
        parse_shard(words)


def test_a_plan_runs_nothing(command, tmp_path, capsys):
    assert command("reproduce", "zhang2024", "--out", tmp_path, "--plan", "--workers", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("zhang2024.")
    assert lines[-1].startswith(f"0 done, {len(lines) - 1} left, about ")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_share_is_no_error(command, tmp_path, capsys):
    assert command("reproduce", "zhang2024.loss-is-not-convex", "--out", tmp_path, "--shard", "2/2") == 0
    assert capsys.readouterr().out == ""


def test_an_interruption_says_what_is_kept_and_how_to_go_on(command, tmp_path, monkeypatch, capsys):
    def interrupt(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr("insitu.training.config.read_training", interrupt)
    assert command("train", written(tmp_path, LONG), "--out", tmp_path / "run") == 130
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("interrupted; finished work is kept. Resume with: insitu train")
    assert said.endswith("--resume")


@needs_timers
def test_a_timer_inside_another_leaves_it_running():
    def inner():
        with limited(60.0, grace=0.0):
            pass
        forever()

    with pytest.raises(OutOfTimeError, match="what is finished is stored"):
        cut(inner, seconds=0.2)


def test_the_plan_of_a_training_counts_its_operations(command, tmp_path, capsys):
    assert command("train", written(tmp_path, LONG), "--out", tmp_path / "run", "--plan") == 0
    assert re.search(r"operations, at least [\d.]+ MB", capsys.readouterr().out)
    assert not (tmp_path / "run").exists()


def test_the_plan_of_a_pretraining_counts_its_weights(command, tmp_path, capsys):
    words = ["lm", "pretrain", tmp_path / "text.txt", "--out", tmp_path / "run", "--plan", "--json"]
    assert command(*words) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["parameters"] == 1115264
    assert planned["operations"] > 6 * planned["parameters"] * planned["tokens"]


def test_a_budget_of_an_identification_needs_a_folder(command, capsys):
    assert command("identify", "--model", "Mean()", "--budget", "1m") == 2
    assert "give one with --out" in " ".join(capsys.readouterr().err.split())


def all_commands():
    """Every command with the words that call it."""
    program = typer.main.get_command(app.app)
    for name, command in program.commands.items():
        below = getattr(command, "commands", None)
        yield from (([name, inner], own) for inner, own in below.items()) if below else [([name], command)]


def test_what_can_resume_says_so_when_it_is_interrupted_and_nothing_else_does():
    for words, command in all_commands():
        resumes = any(parameter.name == "resume" for parameter in command.params)
        assert app.keeps([*words, "--out", "folder"]) == app.keeps([*words, "--out=folder"]) == resumes, words
    assert not app.keeps(["identify", "run"]), "without a folder nothing is kept"
    assert not app.keeps([])


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: you tried to allocate 8 bytes")])
def test_where_memory_runs_out_a_paragraph_says_so(command, tmp_path, monkeypatch, capsys, error):
    def exhausted(*given):
        raise error

    monkeypatch.setattr("insitu.training.config.read_training", exhausted)
    assert command("train", written(tmp_path, LONG), "--out", tmp_path / "run") == 2
    assert "error: memory ran out (" in " ".join(capsys.readouterr().err.split())


def test_other_errors_of_a_run_are_not_taken_for_a_lack_of_memory(command, tmp_path, monkeypatch):
    def wrong(*given):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("insitu.training.config.read_training", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        command("train", written(tmp_path, LONG), "--out", tmp_path / "run")
