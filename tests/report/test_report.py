"""The report: a pure function of records, whole, closed to the network, and readable in light and dark."""

import base64
import csv
import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from insitu.claims import Claim, Figure, Heatmap, Line, Measurement, Panel, Paper, Rule, Run, line
from insitu.claims.record import Record, make_record, write_record
from insitu.errors import InputError
from insitu.metrics import Estimate
from insitu.records import content_digest
from insitu.report import Report, build_report
from insitu.report.document import style_sheet
from insitu.report.figures import COLOURS, canvas, draw, looks
from insitu.report.numbers import bound_text, interval_text, number
from insitu.seed import Seed
from insitu.storage import StorageError

NASTY = "if n < 3 & x > \"y\", <script>alert(1)</script> is 'text'"
TRACEBACK = 'Traceback (most recent call last):\n  File "<x>", line 1\nRuntimeError: the tower & <b>all</b> fell\n'
VOID = {"meta", "br", "hr", "link", "img", "input"}


@dataclass(frozen=True)
class Setting:
    """Numbers of a made-up claim."""

    dim: int = 5
    rate: float = 1e-6
    note: str = "a <b> & c"


def curves() -> Figure:
    """Three panels: numbers that cannot be drawn, a logarithmic axis with a band, a matrix."""
    broken = Line("kept & <dropped>", (1.0, 2.0, 3.0, math.inf), (1.0, math.nan, -math.inf, 2.0), look="points")
    low, high = (0.5, 0.0, -1.0), (2.0, 1.0, 0.5)
    steep = Line("measured", (1.0, 10.0, 100.0), (1.0, 0.1, 0.01), low=low, high=high, colour=2)
    theory = Line("theory", (1.0, 3.0, 10.0, 30.0, 100.0), (1.0, 0.3, -1.0, 0.03, 0.01), look="dashed", colour=2)
    level = Line("", (1.0, 100.0), (0.02, 0.02), look="dotted", colour=-1)
    panels = (
        Panel("x", "y", (broken,), title="Linear"),
        Panel("n", "error", (steep, theory, level), title="Log", x_scale="log", y_scale="log"),
        Panel("column", "row", heatmap=Heatmap(((1.0, -2.0), (0.0, math.nan)))),
    )
    return Figure(panels, caption="A caption with <, & and more.", alt='Three "panels" & <one> matrix')


def simple() -> Figure:
    panel = Panel("step", "value", (Line("a line", (0.0, 1.0, 2.0), (3.0, 2.0, 1.0)),))
    return Figure((panel,), caption="Simple.", alt="A line falls")


def record_of(
    name: str, rule: Rule, estimate: Estimate | None, figure: Figure | None = None, *, seed: int = 0, dim: int = 5
) -> Record:
    """A record of a made-up claim, as a run makes it."""
    claim = Claim(
        name, f"Statement of {name}.", "Theorem 1", (rule,), unused, Setting(), Setting(), 1.0, 1.0, reduced="fewer"
    )
    paper = Paper(claim.paper, "Title", "Authors", "Venue", (claim,))
    found = Measurement({rule.quantity: estimate}, figure, ("a note",)) if estimate else None
    told = "" if found else TRACEBACK
    run = Run(Setting(dim=dim), Seed(seed))
    return make_record(claim, paper, "quick", run, measurement=found, error=told, seconds=1.25)


def unused(run: Run) -> Measurement:
    raise AssertionError("a report runs nothing")


RECORDS = [
    record_of("zhang2024.holds", Rule("gap", low=0.5, printed="about 0.7"), Estimate(0.7321, 0.01), curves()),
    record_of("ding2024.fails", Rule("gap", high=1e-9), Estimate(5.1234e-7), simple()),
    record_of("ding2024.diverges", Rule("norm", low=10.0), Estimate(math.inf)),
    record_of("other.undecided", Rule("gap", high=1.0), Estimate(1.0, 0.25)),
    record_of("sander2024.stops", Rule("gap", high=1.0), None),
    dataclasses.replace(
        record_of("shen2024.nasty", Rule('<i>"q"</i>', 0.0, 1.0, printed="<u>0.5</u>"), Estimate(0.5)),
        statement=NASTY,
        source="<i>Section</i> 2 & 3",
        notes=["<b>bold</b> & plain"],
    ).sealed(),
]


def write(folder: Path, records: list[Record]) -> Path:
    for record in records:
        write_record(record, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six records and a damaged one."""
    folder = write(tmp_path_factory.mktemp("report"), RECORDS)
    (folder / "records" / "half & written.json").write_text('{"claim": "ding2024')
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return build_report(folder)


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return report.page.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """The elements of a page with their attributes and text; notes tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()
        self.problems += [f"{tag} is never closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.words.append((tuple(self.open), data))

    def attributes(self, *names: str) -> list[str]:
        return [attrs[name] for _, attrs in self.elements for name in names if name in attrs]

    def within(self, tag: str) -> str:
        return " ".join(data for place, data in self.words if tag in place)


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    return Outline(text)


def inline_pictures(text: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)


def claim_groups(text: str) -> dict[str, str]:
    """The part of the table of claims that belongs to each."""
    parts = re.split(r'(?=<tbody role="rowgroup" class="claim" id=")', text)[1:]
    return {re.findall(r'<code class="id">(.*?)</code>', part)[0]: part for part in parts}


def verdict_rows(text: str) -> dict[str, Outline]:
    """The rows of runs in the table of claims, by claim."""
    return {
        claim: Outline(part.partition('<tr role="row" class="more">')[0]) for claim, part in claim_groups(text).items()
    }


def test_report_says_what_it_wrote(folder, report):
    assert report.page == folder / "report.html"
    assert (report.records, report.older) == (len(RECORDS), 0)
    assert [damage.path.name for damage in report.damaged] == ["half & written.json"]
    stems = ("ding2024.fails.quick", "zhang2024.holds.quick")
    expected = {folder / "figures" / f"{stem}.{kind}" for stem in stems for kind in ("svg", "pdf")}
    assert set(report.figures) == expected == set((folder / "figures").iterdir())


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.claim)
def test_every_claim_has_a_row_and_a_link_to_it(record, text, outline):
    row = verdict_rows(text)[record.claim]
    shown = [attrs["class"] for _, attrs in row.elements if attrs.get("class", "").startswith("verdict ")]
    assert shown == [f"verdict {record.verdict}"]
    assert record.verdict in row.within("span")
    assert record.statement in row.within("a")
    anchor = row.attributes("href")[0].removeprefix("#")
    assert anchor == record.claim
    assert anchor in outline.attributes("id")
    assert f"{record.claim}.quick" in outline.attributes("id")


def test_rows_show_the_numbers_of_the_record(text):
    rows = verdict_rows(text)
    assert "0.7321" in rows["zhang2024.holds"].within("data")
    assert "about 0.7" in rows["zhang2024.holds"].within("td")
    assert "[0.7063, 0.7579]" in rows["zhang2024.holds"].within("td")
    assert "≥\xa00.5" in rows["zhang2024.holds"].within("td")
    assert "5.12\xa0×\xa010⁻⁷" in rows["ding2024.fails"].within("data")
    assert "≤\xa010⁻⁹" in rows["ding2024.fails"].within("td")
    assert "∞" in rows["ding2024.diverges"].within("data")
    evidence = claim_groups(text)["ding2024.diverges"].partition('class="more"')[2]
    assert "1.25\xa0s" in evidence or "1.25 s" in evidence
    assert "Scaled down: </strong>fewer" in evidence


def cards(text: str) -> dict[str, Outline]:
    """The overview of each paper by its name."""
    parts = [Outline(card) for card in re.findall(r'<article class="card">.*?</article>', text, flags=re.DOTALL)]
    return {part.within("h3"): part for part in parts}


def counts(part: Outline) -> list[tuple[str, str]]:
    """The counts of verdicts in a part of the page, with where their links lead."""
    links = [attrs["href"] for tag, attrs in part.elements if tag == "a" and "data-show-verdict" in attrs]
    words = [data for place, data in part.words if place[-1:] == ("a",) and data.split(" ")[0].isdigit()]
    return list(zip(words, links, strict=True))


def test_the_page_begins_with_every_paper_and_its_verdicts(text):
    of = cards(text)
    assert list(of) == ["Ding et al. 2024", "Other", "Sander et al. 2024", "Shen et al. 2024", "Zhang et al. 2024"]
    assert counts(of["Ding et al. 2024"]) == [("1 holds", "#ding2024.diverges"), ("1 fails", "#ding2024.fails")]
    assert counts(of["Sander et al. 2024"]) == [("1 error", "#sander2024.stops")]
    top = Outline(re.findall(r"<header>.*?</header>", text, flags=re.DOTALL)[0])
    assert [words for words, _ in counts(top)] == ["3 hold", "1 fails", "1 undecided", "1 error"]
    assert "3 of 6 claims hold" in top.within("h1")
    assert text.index('id="papers"') < text.index('id="exceptions"') < text.index('id="claims"')


def test_what_does_not_hold_stands_before_all_claims(text):
    part = Outline(re.findall(r'<ul class="exceptions">.*?</ul>', text, flags=re.DOTALL)[0])
    assert part.attributes("href") == ["#sander2024.stops", "#ding2024.fails", "#other.undecided"]
    assert "gap: 1 [0.356, 1.644], bound ≤\xa01." in part.within("span")
    assert "RuntimeError: the tower & <b>all</b> fell" in part.within("span")


def test_a_paper_shows_the_figure_of_its_headline(tmp_path):
    many = record_of("ding2024.many", Rule("gap", low=0.0), Estimate(1.0), curves())
    first = record_of("ding2024.small", Rule("gap", low=0.0), Estimate(1.0), simple())
    headline = record_of("ding2024.main", Rule("gap", low=0.0), Estimate(1.0), simple())
    for chosen, shown in ((False, "ding2024.small"), (True, "ding2024.main")):
        last = dataclasses.replace(headline, position=1, headline=chosen).sealed()
        records = [many, first, last]
        text = build_report(write(tmp_path / str(chosen), records)).page.read_text()
        assert f"Statement of {shown}." in cards(text)["Ding et al. 2024"].within("figcaption")


def test_papers_stand_in_alphabetical_order(text):
    order = list(dict.fromkeys(name.split(".")[0] for name in verdict_rows(text)))
    assert order == ["ding2024", "other", "sander2024", "shen2024", "zhang2024"]


def test_text_of_records_never_becomes_markup(text, outline):
    assert NASTY in outline.within("th")
    assert not {"b", "u", "i"} & {tag for tag, _ in outline.elements}
    for words in ("<i>Section</i> 2 & 3", "<b>bold</b> & plain", "<u>0.5</u>", '<i>"q"</i>', "a <b> & c"):
        assert any(words in data for _, data in outline.words), words


def test_errors_are_prominent_and_keep_their_traceback(text, outline):
    assert TRACEBACK.strip() in outline.within("pre")
    top = text[: text.index("<h2 ")]
    assert 'href="#sander2024.stops"' in top


def test_damaged_files_are_named(outline):
    assert "half & written.json" in outline.within("code")


def test_tags_match(outline):
    assert outline.problems == []


@pytest.mark.parametrize("broken", ["<p><b>x</p></b>", "<div><p></p>", "</p>"])
def test_unmatched_tags_are_noticed(broken):
    assert Outline(broken).problems


def test_the_page_needs_nothing_from_outside(folder, text, outline):
    assert not re.search(r"https?:|@import|<link|javascript:", text.replace(NASTY, ""))
    for reference in outline.attributes("src", "href", "xlink:href", "srcset", "data", "poster"):
        local = reference.startswith(("#", "data:image/png;base64,"))
        assert local or (folder / reference).is_file(), reference
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    policy = [a["content"] for t, a in outline.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]


def test_no_script_but_its_own_can_run(text, outline):
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert len(scripts) == 1 == sum(tag == "script" for tag, _ in outline.elements)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(a["content"] for t, a in outline.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]


def test_identifiers_are_unique_and_references_arrive(text, outline):
    ids = outline.attributes("id")
    assert [name for name, times in Counter(ids).items() if times > 1] == []
    references = {a[1:] for a in outline.attributes("href", "aria-labelledby") if a.startswith("#")}
    references |= set(re.findall(r"url\(#([^)]*)\)", text)) | set(outline.attributes("aria-labelledby"))
    assert len(references) > 10
    assert references <= set(ids)


def test_headings_go_down_one_step_at_a_time(outline):
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_header_cells_have_a_scope_and_pictures_a_label(text, outline):
    assert all("scope" in attrs for tag, attrs in outline.elements if tag == "th")
    pictures = [attrs for tag, attrs in outline.elements if tag == "svg"]
    # Four panels, and once more the figures of two papers, as references.
    assert len(pictures) == 8
    assert len(re.findall(r'<use href="#p[0-9a-f]{10}" />', text)) == 4
    assert all(p["role"] == "img" and p["aria-label"] for p in pictures)
    labels = outline.attributes("aria-label")
    assert curves().alt in labels
    assert simple().alt in labels


def test_the_same_records_give_the_same_bytes(folder, report):
    files = [report.page, *report.figures]
    before = [path.read_bytes() for path in files]
    draw.cache_clear()
    build_report(folder)
    assert [path.read_bytes() for path in files] == before


def test_an_equal_figure_is_drawn_once_and_another_one_anew():
    one, equal, other = (
        Figure((Panel("x", "y", (line("", (0, 1), (0, y)),)),), "A line.", "Rising.") for y in (1, 1, 2)
    )
    assert draw(one) is draw(equal)
    assert draw(one).svg != draw(other).svg


def test_figures_are_files_on_white_with_the_light_colours(report):
    for path in report.figures:
        content = path.read_bytes()
        if path.suffix == ".pdf":
            assert content.startswith(b"%PDF-")
            assert content.rstrip().endswith(b"%%EOF")
        else:
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
            assert b"var(" not in content
            assert b"#ffffff" in content
            assert COLOURS["axis-text"][0].encode() in content


def classes(text: str) -> dict[str, str]:
    """The styles that pictures share."""
    return dict(re.findall(r"^\.(s\d+)\{(.*)\}$", text, flags=re.MULTILINE))


def test_pictures_on_the_page_follow_light_and_dark(text):
    used = {name for picture in inline_pictures(text) for name in Outline(picture).attributes("class")}
    assert used == set(classes(text))
    assert Outline(text).attributes("style") == []
    styles = " ".join(classes(text).values())
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", styles)) == set()
    assert "DejaVu" not in styles
    named = set(re.findall(r"var\(--([\w-]+)\)", styles))
    assert {"curve-0", "theory-2", "axis-text", "grid", "sans"} <= named
    dark = text[text.index("prefers-color-scheme: dark") :]
    for name in named - {"sans"}:
        assert f"--{name}:{COLOURS[name][0]};" in text
        assert f"--{name}:{COLOURS[name][1]};" in dark


def test_text_in_pictures_is_text_and_escaped(text):
    pictures = "".join(inline_pictures(text))
    assert "kept &amp; &lt;dropped&gt;" in pictures
    assert "a line" in pictures


def test_points_that_cannot_be_drawn_are_left_out(text):
    linear, logarithmic = (p for p in inline_pictures(text) if ">Linear<" in p or ">Log<" in p)
    assert not re.search(r"\b(nan|inf)\b", linear + logarithmic)
    # One of four points is finite in both directions; the legend shows the marker once more.
    assert len(drawn_in(text, linear, "use", "curve-0")) == 2
    # The dashed curve has no logarithm in its middle, where it is broken in two; the legend has one more piece.
    dashed = drawn_in(text, logarithmic, "path", "theory-2")
    assert sorted(re.sub("[^ML]", "", path["d"]) for path in dashed) == ["MLL", "MLML"]


def drawn_in(text: str, picture: str, tag: str, colour: str) -> list[dict[str, str]]:
    """The elements of a picture that have a colour, with their attributes."""
    names = {name for name, style in classes(text).items() if f"var(--{colour})" in style}
    return [attrs for kind, attrs in Outline(picture).elements if kind == tag and attrs.get("class") in names]


def test_a_band_down_to_zero_reaches_the_lowest_height_of_a_log_axis(tmp_path):
    def band(low: tuple[float, ...]) -> str:
        curve = Line("m", (1.0, 10.0, 100.0), (1.0, 0.1, 0.01), low=low, high=(2.0, 1.0, 0.5))
        figure = Figure((Panel("n", "e", (curve,), y_scale="log"),), "c", "a")
        record = record_of("ding2024.band", Rule("gap", low=0.0), Estimate(1.0), figure)
        return build_report(write(tmp_path / str(low[-1]), [record])).page.read_text()

    assert inline_pictures(band((0.5, 0.05, -1.0))) == inline_pictures(band((0.5, 0.05, 0.01)))
    assert inline_pictures(band((0.5, 0.05, -1.0))) != inline_pictures(band((0.5, 0.05, 0.009)))


def test_lines_that_would_look_alike_do_not(tmp_path):
    levels = [Line(name, (0.0, 1.0), (i, i), look="dotted", colour=-1) for i, name in enumerate(("a", "b", "c"))]
    figure = Figure((Panel("x", "y", (*levels, Line("", (0.0, 1.0), (9.0, 9.0), look="dotted", colour=-1))),), "c", "a")
    record = record_of("ding2024.levels", Rule("gap", low=0.0), Estimate(1.0), figure)
    text = build_report(write(tmp_path, [record])).page.read_text()
    dashes = [re.findall(r"stroke-dasharray: ([^;]*)", style) for style in classes(text).values()]
    assert len({pattern for found in dashes for pattern in found}) == 3


def test_series_of_one_point_are_named_on_the_axis(tmp_path):
    """One epoch gave an axis from 0.96 to 1.04."""
    lines = tuple(Line(name, (1.0,), (y,), low=(y - 1,), high=(y + 1,)) for name, y in (("sgd", 2.0), ("adam", 3.0)))
    figure = Figure((Panel("epochs", "error", lines),), "c", "a")
    record = record_of("ding2024.epoch", Rule("gap", low=0.0), Estimate(1.0), figure)
    text = build_report(write(tmp_path, [record])).page.read_text()
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", inline_pictures(text)[0])
    assert shown[:3] == ["sgd", "adam", "epochs: 1"]
    assert "0.96" not in shown


@pytest.mark.parametrize(("height", "low", "high"), [(0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (-3.0, -6.0, 0.0)])
def test_a_level_begins_at_zero(height, low, high):
    """An accuracy of 0 at all epochs gave an axis from -0.04 to 0.04."""
    with looks():
        axes = canvas([Panel("epochs", "accuracy", (Line("", (1.0, 2.0), (height, height)),))]).subfigs[0].axes[0]
        assert axes.get_ylim() == (low, high)
        steep = canvas([Panel("epochs", "accuracy", (Line("", (1.0, 2.0), (0.5, 0.51)),))]).subfigs[0].axes[0]
        assert steep.get_ylim()[0] > 0.49


@pytest.mark.parametrize(("low", "high"), [(0.001, 0.003), (3e-16, 4e-15), (0.7, 30.0), (1e-8, 1.0)])
def test_a_logarithmic_axis_has_at_least_two_labels(low, high):
    """An axis from 0.001 to 0.003 had one, and so had an axis of rounding."""
    with looks():
        page = canvas([Panel("rate", "error", (Line("", (low, high), (3.0, 2.0)),), x_scale="log")])
        axes = page.subfigs[0].axes[0]
        (left, right), places = axes.get_xlim(), axes.get_xticks()
        assert sum(left <= place <= right for place in places) >= 2


def test_no_label_is_cut_where_ticks_change_with_the_size_of_the_axes():
    """Laid out once, this panel is measured with ticks at whole numbers and drawn with wider ones at halves."""
    names = ("trained with N = 6", "trained with N = 12", "least squares", "zero")
    lines = tuple(Line(name, (0.0, 18.0), (4.0, 0.0)) for name in names)
    with looks():
        page = canvas([Panel("in-context examples", "squared error / d", lines, title="trained on fixed")])
        renderer = FigureCanvasAgg(page).get_renderer()
        assert min(axes.get_tightbbox(renderer).x0 for axes in page.subfigs[0].axes) > 0


def test_only_the_newest_of_several_records_is_shown(tmp_path):
    old, new = (
        record_of("ding2024.twice", Rule("gap", low=0.0), Estimate(value), dim=dim)
        for value, dim in ((0.111, 5), (0.222, 6))
    )
    for first, second, shown in ((old, new, "0.222"), (new, old, "0.111")):
        for age, record in ((10, first), (20, second)):
            write_record(dataclasses.replace(record, finished=f"2024-01-01T00:00:{age}").sealed(), tmp_path)
        report = build_report(tmp_path)
        assert (report.records, report.older) == (1, 1)
        page = report.page.read_text()
        assert "1 older record " in page
        assert [value for value in ("0.111", "0.222") if value in page] == [shown]


def test_one_claim_at_two_seeds_is_one_claim(tmp_path):
    values = {3: Estimate(1.0), 4: Estimate(-1.0)}
    two = [record_of("ding2024.twice", Rule("gap", low=0.0), v, simple(), seed=seed) for seed, v in values.items()]
    report = build_report(write(tmp_path, two))
    assert report.records == 2
    text = report.page.read_text()
    # It holds at one seed and fails at the other, so it does not count as holding.
    assert "0 of 1 claim holds" in Outline(text).within("h1")
    row = verdict_rows(text)["ding2024.twice"]
    assert [data for place, data in row.words if "seed" in data] == ["quick scale, seed 3", "quick scale, seed 4"]
    assert [a["class"] for _, a in row.elements if a.get("class", "").startswith("verdict ")] == [
        "verdict holds",
        "verdict fails",
    ]
    assert "counts by its least favourable verdict" in text
    names = {path.name for path in report.figures}
    assert names == {f"ding2024.twice.quick.seed-{seed}.{kind}" for seed in (3, 4) for kind in ("svg", "pdf")}


def test_a_claim_cannot_name_a_file_elsewhere(tmp_path):
    honest = record_of("ding2024.x", Rule("gap", low=0.0), Estimate(1.0), simple())
    folder = tmp_path / "out"
    (folder / "records").mkdir(parents=True)
    spoiled = dataclasses.replace(honest, claim="../../x").sealed()
    (folder / "records" / "x.json").write_text(json.dumps(dataclasses.asdict(spoiled)))
    assert all(figure.parent == folder / "figures" for figure in build_report(folder).figures)
    assert all(figure.resolve().is_relative_to(folder) for figure in build_report(folder).figures)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no intact record in .*records.*insitu reproduce"):
        build_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_damaged_records_only_names_them(tmp_path):
    path = write_record(RECORDS[0], tmp_path)
    path.write_text(path.read_text().replace("holds", "fails", 1))
    with pytest.raises(InputError, match=f"Damaged: {re.escape(path.name)}: .*digest"):
        build_report(tmp_path)


def test_the_numbers_lie_beside_the_page_as_csv_and_json(folder, report):
    with (folder / "claims.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["claim"]: row for row in csv.DictReader(file)}
    summaries = {record["claim"]: record for record in json.loads((folder / "claims.json").read_text("utf-8"))}
    assert rows.keys() == summaries.keys() == {record.claim for record in RECORDS}
    for record in RECORDS:
        row, summary = rows[record.claim], summaries[record.claim]
        assert (row["verdict"], int(row["seed"]), row["statement"]) == (record.verdict, 0, record.statement)
        assert summary == record.summary()
        # Every digit: what the file holds is the number that was measured.
        assert (float(row["value"]) if row["value"] else None) == (None if record.error else float(record.value))
        assert row["quantity"] == (record.checks[0]["quantity"] if record.checks else "")


def test_older_records_without_a_headline_are_read(tmp_path):
    path = write_record(RECORDS[1], tmp_path)
    content = json.loads(path.read_text())
    del content["headline"]
    path.write_text(json.dumps({**content, "digest": content_digest(content)}))
    assert build_report(tmp_path).records == 1


def test_trouble_with_the_disk_passes_through(tmp_path):
    write(tmp_path, RECORDS[2:3])
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StorageError, match="could not write"):
        build_report(tmp_path)


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    write(tmp_path, RECORDS[1:2])
    with mpl.rc_context({"svg.fonttype": "path", "axes.facecolor": "#00ff00", "font.size": 31}):
        before = dict(mpl.rcParams)
        report = build_report(tmp_path)
        assert dict(mpl.rcParams) == before
    assert "#00ff00" not in next(p for p in report.figures if p.suffix == ".svg").read_text()


def variables(dark: bool) -> dict[str, str]:
    """The colours of the style sheet in one mode."""
    light, _, rest = style_sheet().partition("@media screen and (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found | (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rest.partition("\n}\n")[0])) if dark else {})


def contrast(one: str, other: str) -> float:
    """The ratio of luminances as the web's accessibility guidelines define it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_in_both_modes(dark):
    colours = variables(dark)
    assert colours["paper"] != variables(not dark)["paper"]
    pairs = [(name, ground) for name in ("ink", "quiet", "link") for ground in ("paper", "raised")]
    pairs += [(verdict, f"{verdict}-tint") for verdict in ("holds", "fails", "undecided", "error")]
    pairs += [("ink", "error-tint"), ("link", "error-tint")]
    weak = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: c for pair, c in weak.items() if c < 4.5} == {}
    curves = {name: pair[dark] for name, pair in COLOURS.items() if name.startswith(("curve", "theory"))}
    assert {n: c for n, c in curves.items() if contrast(c, colours["paper"]) < 3} == {}
    assert contrast(COLOURS["axis-text"][dark], colours["paper"]) >= 4.5


def test_contrast_agrees_with_its_definition():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.123456, "0.1235"),
        (-12.5, "−12.5"),
        (4123.4, "4123"),
        (99999.0, "99999"),
        (123456.0, "1.23\xa0×\xa010⁵"),
        (-5.1e-13, "−5.1\xa0×\xa010⁻¹³"),
        (1e-10, "10⁻¹⁰"),
        ("inf", "∞"),
        ("-inf", "−∞"),
        ("nan", "not a number"),
        (None, "–"),
    ],
)
def test_numbers_are_short(value, shown):
    assert number(value) == shown


def test_intervals_and_bounds():
    assert interval_text(-0.5, "inf") == "[−0.5, ∞]"
    assert interval_text(3.0, 3.0) == interval_text("inf", "inf") == interval_text(None, None) == "–"
    left, right = interval_text(1.0000021, 1.0000043).strip("[]").split(", ")
    assert left != right
    assert bound_text("in [-1, 1e+06]") == "in [−1, 10⁶]"
    assert bound_text("gap2 <= 0.5") == "gap2 ≤\xa00.5"
