"""The gallery draws into the axes that it is given, with what is public; faults of the built site are noticed."""

import ast
import importlib
import re
import runpy
from pathlib import Path

import check_site
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from insitu.report.figures import COLOURS

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("*/*.py"))
# Drawn in a moment, and one for each kind of axes: curves, cells, several axes.
QUICK = ("sander_heads", "who_sees_whom", "zhang_random_covariances")


def by_name(scripts):
    return pytest.mark.parametrize("script", scripts, ids=lambda script: script.stem)


@pytest.fixture
def windows(monkeypatch):
    """Figures are drawn without a screen and closed; the style goes no further."""
    monkeypatch.setattr(plt, "show", lambda: None)
    with mpl.rc_context():
        yield
    plt.close("all")


def test_there_are_scripts_of_both_kinds():
    assert len(SCRIPTS) >= 16
    assert {script.parent.name for script in SCRIPTS} == {"papers", "laboratory"}


@pytest.mark.usefixtures("as_users_run", "windows")
@by_name([script for script in SCRIPTS if script.stem in QUICK])
def test_a_script_draws_labelled_axes(script):
    drawn = runpy.run_path(str(script))
    axes = [place for number in plt.get_fignums() for place in plt.figure(number).axes]
    assert axes
    assert callable(drawn["plot"])
    assert all(place.get_xlabel() or place.get_ylabel() for place in axes)


@pytest.mark.usefixtures("as_users_run", "windows")
def test_a_figure_goes_where_it_is_told():
    script = next(script for script in SCRIPTS if script.stem == "sander_heads")
    plot = runpy.run_path(str(script))["plot"]
    mine = plt.figure().subplots()
    assert plot(mine) is mine
    assert mine.lines


@by_name(SCRIPTS)
def test_a_script_says_in_words_what_it_shows(script):
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    title, bar, _, *words = text.splitlines()
    assert bar == "=" * len(title)
    sentences = re.split(r"(?<=[.?!]) ", " ".join(words))
    assert 1 < len(sentences) < 5


@by_name(SCRIPTS)
def test_a_script_has_a_function_that_takes_axes_and_returns_them(script):
    tree = ast.parse(script.read_text(encoding="utf-8"))
    (plot,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "plot")
    assert ast.unparse(plot.args.args[0]) == "axes: Axes"
    assert ast.unparse(plot.returns) == "Axes"


@by_name(SCRIPTS)
def test_a_script_uses_public_names_alone(script):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("insitu"):
            assert {name.name for name in node.names} <= set(importlib.import_module(node.module).__all__)


def test_the_style_is_that_of_the_reports():
    sheet = mpl.rc_params_from_file(ROOT / "src" / "insitu" / "style.mplstyle", use_default_template=False)
    curves = [light for name, (light, _) in COLOURS.items() if name.startswith("curve-")]
    assert sheet["axes.prop_cycle"].by_key()["color"] == curves
    assert f"#{sheet['text.color']}".replace("##", "#") == COLOURS["axis-text"][0]


# The check of the built site.


def site(folder, body):
    folder.mkdir(exist_ok=True)
    (folder / "other.html").write_text('<h1 id="top">Other</h1>')
    (folder / "dot.svg").write_text("<svg/>")
    (folder / "index.html").write_text(body)
    return check_site.faults(folder)


def test_a_sound_page_has_no_faults(tmp_path):
    body = '<h1>One</h1><a href="other.html#top">x</a><h2 id="a">Two</h2><a href="#a">y</a>'
    body += '<img src="dot.svg" alt="A dot.">'
    assert site(tmp_path, body) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<h1>One</h1><a href="none.html">x</a>', "link none.html"),
        ('<h1>One</h1><a href="other.html#bottom">x</a>', "link other.html#bottom"),
        ('<h1>One</h1><img src="dot.svg">', "no text"),
        ('<h1>One</h1><img src="https://example.org/dot.svg" alt="A dot.">', "not part of the site"),
        ("<h1>One</h1><h3>Two</h3>", "level 3 follows one of level 1"),
        ("<h2>One</h2>", "0 main headings"),
    ],
)
def test_a_fault_of_the_site_is_named_with_its_page(body, fault, tmp_path):
    (found,) = site(tmp_path, body)
    assert found.startswith("index.html: ")
    assert fault in found


def test_pages_are_repaired_for_keyboards_and_screen_readers(monkeypatch):
    pytest.importorskip("sphinx", reason="the site is built with the extra docs")
    monkeypatch.syspath_prepend(ROOT / "docs" / "extensions")
    accessible = importlib.import_module("accessible")
    page = '<p class="caption" role="heading">A</p><pre>x</pre><pre tabindex="0">y</pre><div class="table-wrapper">'
    page += '<dl>\n<dd><em class="sig-param">x</em>,</dd>\n</dl>\n\n<span class="sig-paren">)</span>'
    found = accessible.repaired(page)
    assert '<div>\n<div class="parameter"><em class="sig-param">x</em>,</div>\n</div>' in found
    assert found.count('tabindex="0"') == 3
    assert 'aria-level="2"' in found
    assert accessible.repaired("<p>plain</p>") == "<p>plain</p>"


def test_source_links_back_to_the_page_that_shows_a_thing(monkeypatch):
    pytest.importorskip("sphinx", reason="the site is built with the extra docs")
    monkeypatch.syspath_prepend(ROOT / "docs" / "extensions")
    reference = importlib.import_module("reference")
    link = '<a class="viewcode-back" href="../../api/insitu.tasks.html#{}.FunctionTask.inputs">[docs]</a>'
    assert reference.with_ways_back(link.format("insitu")) == link.format("insitu.tasks")
    assert reference.with_ways_back(link.format("insitu.tasks")) == link.format("insitu.tasks")


def test_links_above_the_documentation_lead_to_its_pages(monkeypatch):
    pytest.importorskip("sphinx", reason="the site is built with the extra docs")
    monkeypatch.syspath_prepend(ROOT / "docs" / "extensions")
    repository = importlib.import_module("repository")
    text = "[a](../CHANGELOG.md#added) [b](../src/insitu/seed.py) [c](theory.md)"
    assert repository.site_links(text, "../") == "[a](/changes.md#added) b (`insitu.seed`) [c](theory.md)"
