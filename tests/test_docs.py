"""The documentation cannot go stale unnoticed: its code runs, its tables are fresh, its names and links exist."""

import ast
import doctest
import fnmatch
import re
import shutil
import sys
import textwrap
import types
from pathlib import Path

import generate
import pytest
import typer

from insitu import theory
from insitu.cli.app import app
from insitu.kinds import kinds_below
from insitu.language.texts.templates import read_templates
from insitu.learners import Learner, learner
from insitu.papers import claims
from insitu.papers.ding2024.trained import Cell, prompts_of, task_of, transformer
from insitu.seed import Seed
from insitu.sweeps import read_sweep
from insitu.training.config import read_training

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in ("results", "build", "dist") for part in path.relative_to(ROOT).parts)
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = [name for name in NAMES if name.startswith("docs/guide/") and not name.endswith("index.md")]


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with the number of lines before it."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


# The code.


def run_page(text: str, name: str) -> None:
    """Run the Python blocks of a page in order, as one program: examples with prompts, and plain code.

    Raises:
        AssertionError: If an example prints something else than it shows.
    """
    # A module of its own, as dataclasses look theirs up.
    module = types.ModuleType(re.sub(r"\W", "_", name))
    sys.modules[module.__name__] = module
    try:
        for line, code in blocks(text, "python"):
            if not code.startswith(">>>"):
                exec(compile("\n" * line + code, name, "exec"), module.__dict__)
                continue
            test = doctest.DocTestParser().get_doctest(code, {}, name, name, line)
            test.globs = module.__dict__
            told: list[str] = []
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
            failed, _ = runner.run(test, out=told.append, clear_globs=False)
            assert not failed, "".join(told)
    finally:
        del sys.modules[module.__name__]


# Readers run it without the checks of shapes, which take half of the time.
@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    "name", [name for name in NAMES if blocks((ROOT / name).read_text(encoding="utf-8"), "python")]
)
def test_the_code_of_the_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page((ROOT / name).read_text(encoding="utf-8"), name)


@pytest.mark.parametrize("name", GUIDE)
def test_every_page_of_the_guide_has_code(name):
    assert blocks((ROOT / name).read_text(encoding="utf-8"), "python")


@pytest.mark.parametrize("code", [">>> 1 + 1\n3\n", ">>> 1 / 0\n", ">>> x = 1\n```\n\n```python\n>>> x\n2\n"])
def test_an_example_that_is_wrong_is_noticed(code):
    with pytest.raises(AssertionError):
        run_page(f"```python\n{code}```\n", "wrong.md")


def test_code_that_raises_is_noticed():
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```\n", "wrong.md")


def literal_blocks(source: str) -> list[str]:
    """The indented blocks behind two colons in the docstrings of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [textwrap.dedent(found[1]) for doc in docs for found in re.finditer(r"::\n\n((?: +.*\n?|\n)+)", doc)]


def test_the_files_of_settings_of_pages_and_docstrings_can_be_read(tmp_path):
    """Trainings, plans and templates; nothing else stands in a literal block of a docstring."""
    shown = [code for page in PAGES for _, code in blocks(page.read_text(encoding="utf-8"), "toml")]
    described = [text for path in (ROOT / "src").rglob("*.py") for text in literal_blocks(path.read_text("utf-8"))]
    assert shown
    assert described
    for text in shown + described:
        (tmp_path / "shown.toml").write_text(text, encoding="utf-8")
        read = read_sweep if "[grid]" in text else read_templates if "question" in text else read_training
        assert read(tmp_path / "shown.toml")


def test_the_papers_own_network_in_the_guide_is_that_of_the_claims(tmp_path):
    page = ROOT / "docs" / "guide" / "train-and-identify.md"
    (*_, (_, text)) = blocks(page.read_text(encoding="utf-8"), "toml")
    (tmp_path / "shown.toml").write_text(text, encoding="utf-8")
    shown = read_training(tmp_path / "shown.toml")
    full = claims()["ding2024.prefix-beats-causal-after-training"].full
    cell = Cell("linear", shared=True, mask="prefix", quiet=True, batches=full.batches)
    assert shown.architecture == transformer(full, cell, Seed(0)).architecture
    assert (shown.task, shown.recipe) == (task_of(full, "linear"), full.recipe)
    assert (shown.prompts, shown.context_loss) == (prompts_of(full, cell), cell.quiet)


def test_no_python_is_left_out():
    """A block in another spelling of the language, or of none, would not run; the tree of the package has none."""
    for name in NAMES:
        fences = re.findall(r"^```(\S*)\n.*?^```$", (ROOT / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
        assert set(fences) <= {"python", "bash", "toml", *([""] if name == "CONTRIBUTING.md" else [])}, name


# What is generated.


def test_generated_parts_are_fresh():
    assert generate.stale() == [], "run: python docs/generate.py"


def test_a_stale_table_is_noticed(monkeypatch, tmp_path):
    shutil.copytree(ROOT / "docs" / "papers", tmp_path / "docs" / "papers")
    shutil.copytree(ROOT / "results" / "full", tmp_path / "results" / "full")
    shutil.copytree(ROOT / "results" / "quick-lm", tmp_path / "results" / "quick-lm")
    (tmp_path / "README.md").write_text(README.replace("| [`sander2024`]", "| [`sander2023`]"), encoding="utf-8")
    (tmp_path / "docs" / "verdicts.json").write_text((ROOT / "docs" / "verdicts.json").read_text())
    (tmp_path / "docs" / "papers" / "wei2023.md").unlink()
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.stale() == ["README.md", "docs/papers/wei2023.md", "src/insitu/papers/index.json"]
    (tmp_path / "README.md").write_text("no table", encoding="utf-8")
    with pytest.raises(ValueError, match="markers"):
        generate.stale()


# What is named.


def commands(text: str) -> list[list[str]]:
    """Every call of the program in a page, in a block or in a line, as words."""
    lines = [line for _, block in blocks(text, "bash") for line in block.splitlines()]
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    calls = [*lines, *re.findall(r"`([^`\n]+)`", outside)]
    words = [re.sub(r"'[^']*'|#.*", "", call).split() for call in calls]
    return [call[1:] for call in words if call and Path(call[0]).name == "insitu" and len(call) > 1]


def unknown(calls: list[list[str]]) -> list[str]:
    """The commands and options that the program does not have."""
    known = typer.main.get_command(app).commands
    wrong = []
    for name, *rest in calls:
        if name in ("--help", "--install-completion", "--version"):
            continue
        if name not in known:
            wrong.append(name)
            continue
        command = known[name]
        if rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest[0]]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        wrong += [f"{name} {word}" for word in rest if word.startswith("--") and word not in options]
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_every_command_exists(name):
    assert unknown(commands((ROOT / name).read_text(encoding="utf-8"))) == []


def test_a_command_that_does_not_exist_is_noticed():
    text = "`insitu fly`\n\n```bash\ninsitu claims --wings  # high\n.venv/bin/insitu soar\n```\n`insitu.cli.app`"
    assert sorted(unknown(commands(text))) == ["claims --wings", "fly", "soar"]


def test_the_readme_shows_every_command():
    shown = {call[0] for call in commands(README) if not call[0].startswith("-")}
    assert shown == set(typer.main.get_command(app).commands)


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:`|^)make (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, page


def test_the_page_of_learners_lists_every_one_as_it_prints():
    section = (ROOT / "docs" / "learners.md").read_text(encoding="utf-8")
    shown = [expression for expression in re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)]
    assert shown.pop() == 'Checkpoint("folder")'
    assert [repr(learner(expression)) for expression in shown] == shown
    assert {expression.partition("(")[0] for expression in shown} == set(kinds_below(Learner))


def test_the_index_of_theory_answers_with_every_function():
    page = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    index, *answers = re.split(r"^### ", page, flags=re.MULTILINE)
    assert re.findall(r"^\| \[(.+)\]\(#", index, re.MULTILINE) == [answer.splitlines()[0] for answer in answers]
    assert all(blocks(answer, "python") for answer in answers)
    named = set(re.findall(r"`([A-Za-z_]+)", index))
    kinds = {kind for kind in theory.__all__ if not isinstance(getattr(theory, kind), types.ModuleType)}
    assert kinds <= named


def test_the_tree_of_the_guidelines_is_that_of_the_package():
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("src/insitu/\n")[1].split("\ntests/")[0]
    shown = {word for line in tree.splitlines() for word in re.findall(r"\S+", line) if word.endswith(("/", ".py"))}
    package = ROOT / "src" / "insitu"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    files = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert shown == folders | files


def test_the_page_of_commands_names_the_pinned_torch():
    pin = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert f"`{pin}`" in page
    floor = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert f"any PyTorch from {floor} on" in page


# Links, and what no page may hold.


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, page: Path) -> list[str]:
    """The links to files or headings that do not exist."""
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", plain):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        whole = text if place == page else place.read_text(encoding="utf-8") if place.is_file() else ""
        if not place.exists() or (anchor and anchor not in anchors(whole)):
            found.append(target)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name):
    assert broken_links((ROOT / name).read_text(encoding="utf-8"), ROOT / name) == []


def test_a_broken_link_is_noticed():
    text = "# One, two\n[a](README.md) [b](nowhere.md) [c](#one-two) [d](#three) [e](https://example.org/none)"
    assert broken_links(text, ROOT / "README.md") == ["nowhere.md", "#three"]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/") and name != "docs/index.md"])
def test_every_page_is_found_from_the_index_of_the_documentation(name):
    """It is listed in the index of its folder, and that in the index of all; a star there stands for any name."""
    page = ROOT / name
    folder = page.parent.parent if page.name == "index.md" else page.parent
    entries = re.findall(r"^[\w*/\[\]-]+$", (folder / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    place = page.relative_to(folder).with_suffix("").as_posix()
    assert any(fnmatch.fnmatchcase(place, entry) for entry in entries)


FORBIDDEN = re.compile(
    r"(?<![\w./-])/(?:home|root|work|tmp|Users|usr|opt|mnt|srv)/|[A-Z]:\\"
    r"|pypi\.org|pythonhosted\.org|anaconda\.(?:org|com)|npmjs\.|crates\.io|download\.pytorch\.org"
)


@pytest.mark.parametrize("name", NAMES)
def test_no_page_names_a_place_on_one_machine_or_a_registry(name):
    assert FORBIDDEN.findall((ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", ["see /home/me/x", "`/tmp/out`", "C:\\Users", "https://pypi.org/simple"])
def test_such_a_place_is_noticed(text):
    assert FORBIDDEN.findall(text)
