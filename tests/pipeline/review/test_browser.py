"""Tests of a review in Chromium: by mouse and keys, on a phone, and after the command has ended."""

import contextlib
import json

import pytest

from imgpipe.components.image_filter.judge import overrides
from imgpipe.pipeline.review import web
from tests import axe, browser
from tests.pipeline.review import run_to_review
from tests.pipeline.review.run_to_review import digest

pytestmark = [pytest.mark.slow, browser.needed]

LOADED = "document.querySelector('#gallery img')?.naturalWidth"
ALONE = "document.querySelector('.subject img')?.naturalWidth"


@pytest.fixture
def review(tmp_path):
    return run_to_review.prepared(tmp_path)


@contextlib.contextmanager
def opened(window, review):
    """Show a review while the context lasts, and yield its page."""
    window.look()
    with web.running(review, "127.0.0.1", 0) as (address, _):
        window.call("Page.navigate", url="about:blank")
        window.open(address)
        window.wait(LOADED)
        yield window


@pytest.fixture
def page(window, review):
    """Yield the loaded page of a review; fail if it logged an error or broke the policy."""
    window.complaints.clear()
    with opened(window, review):
        yield window
    assert not window.refused(), "no script failed, and the policy refused nothing"


def choose_kind(page, name):
    page.run(
        "[...document.querySelectorAll('#kinds button')]"
        f".find((one) => one.innerText.startsWith({json.dumps(name)})).click()"
    )
    page.wait(
        "document.querySelector('#kinds [aria-pressed=true]')"
        f"?.innerText.startsWith({json.dumps(name)})"
    )


def tiles(page):
    """Return the texts of the tiles, a list of lines each."""
    texts = page.run("[...document.querySelectorAll('#gallery li')].map((one) => one.innerText)")
    return [text.splitlines() for text in texts]


def blue(page):
    return page.run(
        "[...document.querySelectorAll('#actions button.main')]"
        ".filter((one) => one.checkVisibility()).map((one) => one.innerText)"
    )


def told(page, text):
    page.wait(f"document.querySelector('#status').innerText.includes({json.dumps(text)})")


def test_images_of_every_kind_are_seen_with_labels_and_answers(page):
    kinds = page.run("[...document.querySelectorAll('#kinds button')].map((one) => one.innerText)")
    assert kinds == [
        "Doubtful labels 2",
        "Mistakes of the model 1",
        "Unlike their class 2",
        "Copies 3",
        "Rejected 3",
        "All images 9",
    ]
    assert tiles(page) == [["cat", "answer dog 99\xa0%"], ["dog", "answer cat 97\xa0%"]]
    choose_kind(page, "Rejected")
    assert "cat/hostile <img src=x onerror=alert(1)>.png" in page.run(
        "[...document.querySelectorAll('#gallery img')].map((one) => one.alt)"
    )
    choose_kind(page, "All")
    page.run("document.querySelector('#by-label').value = 'cat'")
    page.run("document.querySelector('#by-label').dispatchEvent(new Event('change'))")
    page.wait("document.querySelector('#shown').innerText == '1 to 5 of 5 images'")
    answers = page.run("[...document.querySelector('#by-answer').options].map((one) => one.text)")
    assert answers == ["any", "cat (1)", "dog (2)"], "the cells of the row of this label"


def test_one_many_and_a_range_are_chosen_by_mouse_and_keys(page, review):
    choose_kind(page, "All")
    page.click("#gallery li:nth-child(2)")
    page.click("#gallery li:nth-child(4)")
    assert page.text("#chosen") == "2 chosen"
    page.click("#range")
    page.click("#gallery li:nth-child(6)")
    assert page.text("#chosen") == "4 chosen", "from the one chosen before up to this one"
    page.press("Escape")
    assert page.text("#chosen") == "0 chosen"
    for key in (" ", "ArrowRight", "ArrowRight", " "):
        page.press(key)
    assert page.text("#chosen") == "2 chosen"
    page.press("x")
    told(page, "2 images: Left out.")
    assert len(overrides.load(review.decisions.file)) == 2
    assert sum("✓ Left out" in tile for tile in tiles(page)) == 2
    page.press("u")
    told(page, "Undone: 2 decisions.")
    assert overrides.load(review.decisions.file) == ()
    assert not any("✓ Left out" in tile for tile in tiles(page))


def test_one_by_one_enter_changes_only_a_label_that_is_surely_wrong(page, review):
    page.click("#look-at")
    page.wait(ALONE)
    assert page.text("#label") == "Labelled cat" and page.text("#path") == "cat/0.png"
    assert blue(page) == ["dog Enter 2"]
    page.press("Enter")
    page.wait("document.querySelector('#path').innerText == 'dog/test.png'")
    assert blue(page) == ["Leave out Enter X"], "it is unlike the images of every class"
    page.press("s")
    page.wait("!document.querySelector('#end').hidden")
    assert review.decisions.made() == {digest("cat/0.png"): {"verdict": "relabel", "label": "dog"}}


def test_the_doubtful_labels_end_with_what_was_decided_and_enter_decides_nothing_more(page, review):
    page.click("#look-at")
    page.wait(ALONE)
    page.press("a")
    page.wait("document.querySelector('#path').innerText == 'dog/test.png'")
    page.press("Enter")
    page.wait("!document.querySelector('#following').hidden")
    assert page.text("#end-title") == "End of: Doubtful labels"
    assert page.text("#decided").splitlines() == [
        "1 image is kept as labelled",
        "1 image is left out",
    ]
    assert page.text("#apply") == review.apply
    page.press("Enter")
    assert len(review.decisions.made()) == 2
    assert page.text("#go-on") == "Go on with: Mistakes of the model 1"
    page.run("document.querySelector('#go-on').click()")
    page.wait("!document.querySelector('#many').hidden")
    page.click("#look-at")
    page.wait(ALONE)
    assert page.text("#path") == "cat/1.png" and blue(page) == ["Skip Enter S"]
    page.press("Escape")
    page.wait("!document.querySelector('#many').hidden")


def test_after_a_click_enter_is_the_blue_button_all_the_same(page, review):
    choose_kind(page, "Mistakes")
    page.click("#look-at")
    page.wait(ALONE)
    page.run("document.querySelector('#keys').focus()")
    page.click("#undo")
    told(page, "There is nothing to undo.")
    page.press("Enter")
    page.wait("!document.querySelector('#following').hidden")
    assert review.decisions.made() == {}


def test_similar_and_typical_images_lie_beside_an_image(page):
    page.click("#look-at")
    page.wait(ALONE)
    captions = page.run("[...document.querySelectorAll('figcaption')].map((one) => one.innerText)")
    assert captions == [
        "To decide",
        "Similar image: dog, train, dog/0.png",
        "Typical of cat",
        "Typical of dog",
    ]
    page.wait("[...document.querySelectorAll('#typical img')].every((one) => one.naturalWidth)")


def test_what_show_names_comes_first_and_pages_follow_each_other(window, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PAGE", 1)
    with opened(window, run_to_review.prepared(tmp_path, "cat:dog")):
        assert window.text("#shown") == "1 to 1 of 2 images"
        window.click("#after")
        window.wait("document.querySelector('#shown').innerText == '2 to 2 of 2 images'")
        window.click("#look-at")
        window.wait("document.querySelector('#path').innerText == 'cat/1.png'")
        window.press("ArrowLeft")
        window.wait("document.querySelector('#path').innerText == 'cat/0.png'")
        window.press("a")
        window.wait("document.querySelector('#path').innerText == 'cat/1.png'")


def test_on_a_phone_image_and_answers_fit_into_the_window(page):
    page.look(390, 800)
    page.run("document.querySelector('#look-at').click()")
    page.wait(ALONE)
    bottoms = page.run(
        "[...document.querySelectorAll('.subject img, #accept, #reject, #skip, #classes button')]"
        ".map((one) => one.getBoundingClientRect().bottom)"
    )
    assert len(bottoms) == 6, "the image, three verdicts and two classes"
    assert max(bottoms) <= 800


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(page, scheme):
    page.look(390, 800, scheme)
    assert page.run("document.documentElement.scrollWidth") == 390
    page.run("document.querySelector('#look-at').click()")
    page.wait(ALONE)
    assert page.run("document.documentElement.scrollWidth") == 390


def test_a_missing_token_and_an_ended_command_are_reported(window, review):
    with web.running(review, "127.0.0.1", 0) as (address, _):
        window.look()
        window.open(address.partition("#")[0])
        window.wait("!document.querySelector('#alert').hidden")
        assert "this one has no token" in window.text("#alert")
        window.call("Page.navigate", url="about:blank")
        window.open(address)
        window.wait(LOADED)
    window.press(" ")
    window.click("#gallery li")
    window.press("a")
    window.wait("!document.querySelector('#alert').hidden")
    assert "Check that imgpipe review is still running" in window.text("#alert")
    assert not review.decisions.made()


@axe.needed
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_axe_finds_nothing(page, width, scheme):
    page.look(width, 800, scheme)
    assert axe.violations(page) == []
    page.run("document.querySelector('#look-at').click()")
    page.wait(ALONE)
    assert axe.violations(page) == []
