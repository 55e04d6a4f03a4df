"""The report in a real browser: filter, search, follow links, with the keyboard, on a desk and on a phone."""

import pytest
from tests.browser import launched, needs
from tests.report.test_report import RECORDS, write

from insitu.report import build_report

pytestmark = needs()
SHOWN = "() => [...document.querySelectorAll('tbody.claim')].filter(c => c.checkVisibility()).map(c => c.id)"
OPEN = "() => [...document.querySelectorAll('.more > td > details[open]')].map(d => d.closest('tbody').id)"
FITS = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return build_report(write(tmp_path_factory.mktemp("browser"), RECORDS)).page.as_uri()


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    page.goto(address)
    yield page
    assert faults == []
    page.close()


def test_the_search_looks_at_statements_rules_and_papers(page):
    page.keyboard.press("/")
    page.keyboard.type("shen NASTY")
    assert page.evaluate(SHOWN) == ["shen2024.nasty"]
    assert page.inner_text("#shown") == "1 of 6 claims"
    page.fill("#search", "torch")  # a version is not what one looks for
    assert page.evaluate(SHOWN) == []


def test_filters_meet(page):
    page.select_option("#verdict", "holds")
    assert page.evaluate(SHOWN) == ["ding2024.diverges", "shen2024.nasty", "zhang2024.holds"]
    page.select_option("#paper", "ding2024")
    assert page.evaluate(SHOWN) == ["ding2024.diverges"]
    assert page.locator("tbody.paper").evaluate_all("rows => rows.filter(r => r.checkVisibility()).map(r => r.id)") == [
        "paper-ding2024"
    ]


def test_a_count_shows_what_it_counts(page):
    page.click(".card:has-text('Ding et al.') a.fails")
    assert page.evaluate(SHOWN) == ["ding2024.fails"]
    assert (page.input_value("#verdict"), page.input_value("#paper")) == ("fails", "ding2024")


def test_a_link_unfolds_what_it_leads_to_and_drops_a_filter_that_hides_it(page):
    page.select_option("#verdict", "holds")
    page.click(".exceptions a[href='#ding2024.fails']")
    page.wait_for_function("document.querySelector('#ding2024\\\\.fails details').open")
    assert page.evaluate(OPEN) == ["ding2024.fails"]
    assert len(page.evaluate(SHOWN)) == len(RECORDS)


def test_all_fold_and_unfold(page):
    page.click("#fold")
    assert len(page.evaluate(OPEN)) == len(RECORDS)
    page.click("#fold")
    assert page.evaluate(OPEN) == []


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(browser, address, width, mode):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=mode)
    page.goto(address)
    page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate(FITS)
    page.add_style_tag(content="main { width: 3000px; max-width: none }")
    assert not page.evaluate(FITS)
    page.close()


def test_it_reads_without_a_script(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert not page.locator("form.filter").is_visible()
    assert page.locator("tbody.claim").count() == len(RECORDS)
    page.locator("#ding2024\\.fails summary").first.click()
    assert page.locator("#ding2024\\.fails figure").is_visible()
    context.close()
