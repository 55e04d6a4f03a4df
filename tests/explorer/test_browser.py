"""The page in a real browser: click, type, drag, follow a link, read the code, look at it on a phone."""

import json
import os

import pytest
from tests.browser import launched, needs
from tests.explorer.serving import served

import insitu
from insitu.explorer import PANELS, PRESETS, State

pytestmark = needs("nicegui")
# What is read of the page at once: pictures and sentences.
SHOWN = "() => [...document.querySelectorAll('.panel')].map(p => p.querySelector('.sentence').textContent)"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    found = insitu.identify("Mean()", dim=2, points=(4,), count=16)
    record = tmp_path_factory.mktemp("record") / "record.json"
    record.write_text(json.dumps(found.as_json()))
    with served("--record", str(record)) as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    """The first tab, with everything that goes wrong noted, and all that is asked for."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.faults, page.asked = [], []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda line: page.faults.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(f"{address}?tab=explore")
    page.wait_for_function("window.did_handshake")
    yield page
    assert page.faults == []
    page.close()


def until_shown(page, state):
    """Until every panel says what it says of a state."""
    wanted = [panel.view(state).sentence for panel in PANELS.values()]
    page.wait_for_function(
        f"(wanted) => JSON.stringify(({SHOWN})()) === JSON.stringify(wanted)", arg=wanted, timeout=20_000
    )


def test_panels_follow_the_controls_and_the_link_follows_them(page, address):
    until_shown(page, State())
    page.get_by_label("Depth, typed").fill("12")
    page.keyboard.press("Tab")
    until_shown(page, State(depth=12))
    page.get_by_label("Mask", exact=True).select_option("prefix")
    until_shown(page, State(depth=12, mask="prefix"))
    page.locator("input#points").focus()
    page.keyboard.press("ArrowLeft")
    moved = State(depth=12, mask="prefix", points=39)
    until_shown(page, moved)
    page.wait_for_url(f"{address}?{moved.query}")
    page.goto(f"{page.url}&tab=explore")
    until_shown(page, moved)
    page.get_by_label("Start from").select_option("Short context overshoots")
    until_shown(page, PRESETS["Short context overshoots"])
    assert page.get_by_label("Examples in the prompt, typed").input_value() == "6"
    assert all(url.startswith((address, address.replace("http", "ws"), "data:", "blob:")) for url in page.asked)


def test_a_value_outside_its_range_and_a_wrong_link_are_told(page, address):
    page.get_by_label("Mask", exact=True).select_option("prefix")
    page.get_by_label("Examples in the prompt, typed").fill("20")
    page.keyboard.press("Tab")
    until_shown(page, State(mask="prefix", points=20))
    page.get_by_label("Depth, typed").fill("99")
    page.keyboard.press("Tab")
    page.get_by_text("depth must be a whole number from 1 to 40; got 99").wait_for()
    # NiceGUI has gone over the page for this, and left what it had not set itself.
    assert page.get_by_label("Mask", exact=True).input_value() == "prefix"
    assert page.locator("input#points").input_value() == page.locator("#points-typed").input_value() == "20"
    until_shown(page, State(mask="prefix", points=20))
    page.goto(f"{address}?tab=explore&depth=many")
    page.get_by_text("The link was not understood").wait_for()
    until_shown(page, State())


def test_the_python_and_the_figure_of_a_panel_can_be_taken(page):
    state = PRESETS["Ding et al., figure 2: causal stalls"]
    page.get_by_role("button", name="Python: Does depth help?").click()
    page.get_by_role("dialog").wait_for()
    page.wait_for_function("document.getElementById('code-text').textContent.length > 100")
    assert page.locator("#code-text").text_content() == PANELS["depth"].code(state)
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG: Who sees whom?").click()
    assert download.value.path().read_text().startswith("<svg xmlns=")


def test_the_second_tab_shows_a_record_and_identifies_a_model(page, address):
    page.get_by_role("tab", name="Explore").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Which algorithm?").get_attribute("aria-selected") == "true"
    page.locator(".result").get_by_text("Mean()").first.wait_for()
    page.get_by_label("Checkpoint, learner or language model").fill("Rigde()")
    page.get_by_role("button", name="Identify", exact=True).click()
    page.get_by_text("did you mean Ridge").wait_for()
    named = "GradientDescent(steps=1, rate=0.5)"
    page.get_by_label("Checkpoint, learner or language model").fill(named)
    page.get_by_label("Dimension", exact=True).last.fill("2")
    page.get_by_role("button", name="Identify", exact=True).click()
    page.locator(".result").get_by_text(f"indistinguishable from {named}").wait_for(timeout=120_000)
    assert page.get_by_label("Checkpoint, learner or language model").input_value() == named


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_cut_on_a_phone_or_a_desk(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.goto(f"{address}?tab=explore")
    page.wait_for_function("window.did_handshake")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = """() => [...document.querySelectorAll('.panel svg')].filter(svg => {
      const frame = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].some(t => {
        const box = t.getBoundingClientRect();
        return box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
      });
    }).map(svg => svg.getAttribute('aria-label'))"""
    assert page.evaluate(outside) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(19, 23, 28)") == (scheme == "dark")
    assert len(page.screenshot()) > 10_000
    page.close()


def test_axe_finds_nothing(page):
    """With a copy of axe-core, named by AXE_CORE; it is no Python package."""
    script = os.environ.get("AXE_CORE")
    if script is None:
        pytest.skip("AXE_CORE does not name a copy of axe.min.js")
    page.add_script_tag(path=script)
    faults = page.evaluate("async () => (await axe.run()).violations.map(v => [v.id, v.nodes.map(n => n.html)])")
    assert faults == []
