"""The commands that pages and help texts show: every one runs as it stands there, or says here why it does not.

All of them are read by the program's own parser. Trainings are shortened to a few steps.
"""

import fnmatch
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path
from unittest import mock

import pytest
import typer
from tests.cli.test_cli import insitu
from tests.test_docs import NAMES, ROOT, blocks

from insitu.cli.app import UsageError, app

GUIDE = ROOT / "docs" / "guide"
# Files that pages name, with the page whose first block of TOML it is.
SETTINGS = {"regression.toml": GUIDE / "train-and-identify.md", "rates.toml": GUIDE / "sweeps.md"}
STEPS = "steps = 4"
# Why a command is not run, by its pattern. Each must be needed.
NOT_RUN = {
    "make*": "makes an environment, and tests or builds everything",
    "pip install *": "installs packages",
    "ray *": "a program of another project, on several machines",
    "insitu lm *": "needs a pretrained language model, or trains one for minutes",
    "insitu identify --lm *": "needs a pretrained language model",
    "insitu explore*": "serves a page until it is interrupted",
    "insitu reproduce --resume --workers *": "runs all claims, which takes minutes",
    "insitu reproduce --strict": "runs all claims, which takes minutes",
    "insitu reproduce --seed 1 --json": "runs all claims, which takes minutes",
    "insitu reproduce --seeds *": "runs all claims, which takes minutes",
    "insitu reproduce * sander2024 *": "runs a paper, which takes minutes",
    "insitu reproduce ding2024 *": "runs a paper, which takes minutes",
    "insitu reproduce zhang2024.* --seed 7 *": "trains a network for a claim; tests/papers runs it smaller",
    "insitu report results/*": "draws what a run of claims that takes minutes has left",
    "insitu status results/quick": "shows what a run of claims that takes minutes has left",
    "insitu reproduce --device cuda *": "needs a GPU",
    "insitu reproduce --scale full *": "takes hours, or an array of jobs of Slurm",
    "insitu train * --budget 9m": "the same training as without a budget",
    "insitu identify --model runs/regression/prefix-0": "a minute for a network that answers like no learner",
    "insitu identify --model results/network *": "a minute for a network that answers like no learner",
    "insitu identify --prompts *": "as long as the identification of a network",
    "insitu identify runs/regression *": "identifies every snapshot of a training",
    "insitu identify results/training *": "identifies every snapshot of a training",
    "insitu sweep * --shard *": "an array of jobs of Slurm",
    "insitu sweep * --ray *": "needs a Ray cluster",
    "*python -m benchmarks*": "measures for minutes, or breaks processes and disks",
}


LOOP = r"for (\w+) in (\S+)[^;]*; do"


def joined(text):
    """The commands of a script as words, without comments; of a loop those of its first round."""
    for variable, first in re.findall(LOOP, text):
        text = text.replace(f"${variable}", first)
    text = re.sub(rf"{LOOP}|\bdone\b;?", "", text).replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := tuple(shlex.split(line, comments=True)))]


def shown(name):
    """The commands of a page."""
    return [c for _, block in blocks((ROOT / name).read_text(encoding="utf-8"), "bash") for c in joined(block)]


def helped(command):
    """The commands that the help texts show, of a command and those below it."""
    texts = re.findall(r"Example: (insitu .*)", getattr(command.callback, "__doc__", None) or "")
    below = getattr(command, "commands", {}).values()
    return joined("\n".join(texts)) + [words for child in below for words in helped(child)]


PAGES = {name: commands for name in NAMES if (commands := shown(name))}
PAGES["--help"] = helped(typer.main.get_command(app))
ALL = list(dict.fromkeys(words for commands in PAGES.values() for words in commands))


def is_run(words):
    """Whether there is no reason not to run a command."""
    return not any(fnmatch.fnmatchcase(" ".join(words), pattern) for pattern in NOT_RUN)


def read(program, *words):
    """Let whoever a command is for read its words, without doing anything."""
    readers = {"insitu": read_own, "make": read_make, "pip": read_pip, "python": read_module, "ray": list}
    readers[Path(program).name](words)


def read_own(words):
    """The program's own parser, option by option."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not words or words[0].startswith("-") or not hasattr(command, "commands"), f"no command {words[0]}"
    command.make_context("insitu", list(words))


def read_make(targets):
    """The targets of the Makefile."""
    assert set(targets) <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read_pip(words):
    """The extras of the package."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[0] == "install"
    assert set(re.findall(r"insitu\[(\w+)\]", words[1])) <= extras.keys()


def read_module(words):
    """The help of the module, which names every option and every choice."""
    name = words[1] if words[1] != "benchmarks" else "benchmarks.__main__"
    main = importlib.import_module(name).main
    with mock.patch.object(sys, "argv", [name, *words[2:], "--help"]), pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which one is, with the files that the guide shows."""
    for name, page in SETTINGS.items():
        (_, text), *_ = blocks(page.read_text(encoding="utf-8"), "toml")
        (tmp_path / name).write_text(re.sub(r"\bsteps = \d+", STEPS, text), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_a_command_is_understood(words, folder):
    for word in words:
        if re.fullmatch(r"[\w.]+\.(?:npz|csv|json|xz|txt)", word):
            (folder / word).touch()
    read(*words)


@pytest.mark.usefixtures("as_users_run", "folder")
@pytest.mark.parametrize("page", [page for page, commands in PAGES.items() if any(map(is_run, commands))])
def test_the_commands_of_a_page_run(page):
    """One after the other, in a folder of their own, so that what one needs is made by one before."""
    for program, *words in filter(is_run, PAGES[page]):
        assert program == "insitu"
        done = insitu(*words)
        assert done.returncode == 0, f"{words}\n{done.stderr}"


def test_every_reason_not_to_run_is_needed():
    assert [pattern for pattern in NOT_RUN if not fnmatch.filter(map(" ".join, ALL), pattern)] == []


WRONG = "insitu fly\ninsitu claims --wings\ninsitu lm mask --shots many\nmake wings\npip install 'insitu[wings]'"


@pytest.mark.parametrize("words", joined(WRONG), ids=" ".join)
def test_a_command_that_is_wrong_is_noticed(words):
    with pytest.raises((AssertionError, UsageError)):
        read(*words)


def test_commands_of_a_script_are_found_whole():
    text = "# a comment\nfor x in 0.1 2; do\n  insitu lm order --rates $x \\\n    --orders 2  # few\ndone\n\n"
    assert joined(text) == [("insitu", "lm", "order", "--rates", "0.1", "--orders", "2")]
