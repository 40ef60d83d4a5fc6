"""In a real Chromium, axe-core finds no barrier in the report, and it fits a phone's width."""

import pytest

from tests import axe, browser
from tests.pages import Everywhere, render
from tests.run_results import reject, result, solved

pytestmark = [pytest.mark.slow, browser.needed]
LONG = "a class with a very long name " * 4
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
VIEWS = [(1200, "light"), (1200, "dark"), (390, "light")]


@pytest.fixture(scope="module", params=[3, 30], ids=lambda count: f"{count} classes")
def page(request, window, tmp_path_factory):
    """Open a report with every section in the browser and return the browser window."""
    classes = [LONG, *(f"class {i}" for i in range(1, request.param))]
    found = result(classes, [reject(i, path=f"{'folder/' * 20}{i}.jpg") for i in range(20)], 0.6)
    found["training"] = solved()
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(found, Everywhere()))
    window.open(file.as_uri())
    return window


@axe.needed
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_there_is_no_barrier(page, width, scheme):
    page.look(width, 900, scheme)
    page.run(OPEN_ALL)
    assert axe.violations(page) == []


def test_nothing_is_wider_than_a_phone(page):
    page.look(390, 900)
    assert page.run("document.documentElement.scrollWidth") == 390


def test_a_click_enlarges_a_picture_and_escape_closes_it(page):
    page.look(1200, 900)
    enlarged = "document.querySelector('figure:popover-open')"
    assert page.run(enlarged) is None
    page.click("#verdict .photo")
    page.wait(f"{enlarged}?.querySelector('img').complete")
    assert page.run(f"{enlarged}.querySelector('img').clientWidth") == 320, "as large as the file"
    assert "0.jpg" in page.run(f"{enlarged}.innerText")
    page.press("Escape")
    assert page.run(enlarged) is None


def test_a_command_breaks_between_its_words_only(page):
    page.look(390, 900)
    words = page.run(
        "[...document.querySelectorAll('pre span')].map((one) => [one.innerText, one.clientHeight])"
    )
    heights = {height for word, height in words if len(word) < 30}
    assert len(heights) == 1, "a longer word may not fit a line"


def test_a_printed_table_is_as_wide_as_the_paper(page):
    page.look(720, 900)
    page.run(OPEN_ALL)
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        table = "document.querySelector('#figures .scroll')"
        assert page.run(f"{table}.scrollWidth <= {table}.clientWidth")
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
