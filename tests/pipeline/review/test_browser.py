"""Tests of a review in Chromium: with keys only, on a phone, and after the command has ended."""

import contextlib
import json

import pytest

from imgpipe.components.image_filter.judge import overrides
from imgpipe.pipeline.commands import review as command
from imgpipe.pipeline.review import web
from imgpipe.pipeline.review.questions import ReviewAnswer
from tests import axe, browser
from tests.pipeline.review import run_to_review
from tests.pipeline.review.run_to_review import digest

pytestmark = [pytest.mark.slow, browser.needed]

LOADED = "document.querySelector('#images figure.subject img')?.naturalWidth"


@pytest.fixture
def review(tmp_path):
    """Prepare a review of the past run."""
    return prepared(tmp_path)


def prepared(folder, change=None):
    """Prepare a review of the past run, in which a function may change the doubtful labels."""
    run = run_to_review.leave(folder / "out", run_to_review.write(folder / "photos"))
    if change is not None:
        facts = json.loads((run.folder / "facts.json").read_text())
        change(facts["suspects"]["rows"])
        (run.folder / "facts.json").write_text(json.dumps(facts))
    return command.prepare(run, None)


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
    refused = [text for text in window.complaints if '"source": "network"' not in text]
    assert not refused, "no script failed, and the policy refused nothing"


def decide(page, key):
    """Press a key, and wait until the page shows another image."""
    path = page.text("#path")
    page.press(key)
    page.wait(f"document.querySelector('#path').innerText != {json.dumps(path)}")


def test_images_are_decided_and_undone_with_keys(page, review):
    assert page.text("#label") == "Labelled cat" and page.text("#path") == "cat/0.png"
    page.press("1")  # means cat on every image, and cat is the own label of this one
    assert page.text("#path") == "cat/0.png"
    assert page.text("#classes") == "dog Enter 2"
    decide(page, "Enter")
    assert page.text("#path") == "dog/test.png"
    page.press("1")
    assert page.run("document.querySelector('#relabel').hidden")
    assert "never change a label of the test split" in page.text("#no-relabel")
    decide(page, "a")
    assert page.text("#path") == "dog/0.png"
    assert page.run("document.querySelectorAll('#images figure').length") == 2
    decide(page, "x")
    decide(page, "s")
    assert page.text("#path") == "dog/2.png"
    assert page.run("document.querySelector('#accept').disabled")
    assert "Or choose its right class here." in page.text("#no-accept")
    choices = page.run(
        "[...document.querySelectorAll('#classes button')].map((b) => b.dataset.label)"
    )
    assert choices == ["cat", "dog"], "its own label can be confirmed against that of its copy"
    decide(page, "u")
    assert page.text("#path") == "cat/1.png"
    found = {
        entry.path: (entry.verdict, entry.label) for entry in overrides.load(review.decisions.file)
    }
    assert found == {
        "cat/0.png": ("relabel", "dog"),
        "dog/test.png": ("accept", ""),
        "dog/0.png": ("reject", ""),
    }
    page.press("ArrowLeft")
    page.wait("document.querySelector('#path').innerText == 'dog/0.png'")
    assert "Left out" in page.text("#given")


def blue(page):
    """Return the texts of the visible blue buttons of the question."""
    return page.run(
        "[...document.querySelectorAll('#judge button.main')]"
        ".filter((one) => one.checkVisibility()).map((one) => one.innerText)"
    )


def test_blue_is_what_enter_does(page, review):
    assert blue(page) == ["dog Enter 2"], "it changes the label"
    decide(page, "Enter")
    assert review.decisions.answers()[digest("cat/0.png")] == ReviewAnswer("relabel", "dog")
    assert page.text("#path") == "dog/test.png"
    assert blue(page) == ["Skip Enter S"], "the label of a test image cannot be changed"
    decide(page, "Enter")
    assert page.text("#path") == "dog/0.png"
    assert blue(page) == ["Keep it as it is Enter A"], "no other class is suggested"
    decide(page, "Enter")
    assert review.decisions.answers() == {
        digest("cat/0.png"): ReviewAnswer("relabel", "dog"),
        digest("dog/test.png"): ReviewAnswer("skip"),
        digest("dog/0.png"): ReviewAnswer("accept"),
    }


def test_for_a_mistake_of_the_model_blue_is_that_the_label_is_right(window, tmp_path):
    mistake = run_to_review.row("cat/1.png", looks_like="dog", wrong=0.2)
    review = prepared(tmp_path, lambda rows: rows.__setitem__(slice(None), [mistake]))
    with opened(window, review):
        assert "Mistakes of the model 0 of 1" in window.text("#kinds")
        assert blue(window) == ["The label is right Enter A"]
        decide(window, "Enter")
        assert review.decisions.answers() == {digest("cat/1.png"): ReviewAnswer("accept")}


def test_after_a_click_enter_is_the_blue_button_all_the_same(page, review):
    page.click("#skip")
    page.wait("document.querySelector('#path').innerText == 'dog/test.png'")
    page.click("#accept")
    page.wait("document.querySelector('#path').innerText == 'dog/0.png'")
    page.click("#next")
    page.click("#previous")
    page.press("Enter")
    page.wait("document.querySelector('#path').innerText != 'dog/0.png'")
    assert review.decisions.answers()[digest("dog/0.png")] == ReviewAnswer("accept")


def test_after_the_last_answer_the_page_says_what_was_decided_and_how_to_apply_it(page, review):
    decide(page, "Enter")
    for key in "sxas":
        decide(page, key)
    page.press("x")
    page.wait("document.querySelector('#question').hidden")
    assert page.text("#end-title") == "4 of 6 images are decided"
    assert page.text("#decided").splitlines() == [
        "1 label is changed",
        "1 image is kept as labelled",
        "2 images are left out",
        "2 images are skipped and undecided",
    ]
    assert page.text("#apply") == review.apply
    page.press("Enter")  # decides nothing more
    assert len(review.decisions.answers()) == 6
    page.run("document.querySelector('#again').click()")
    page.wait("!document.querySelector('#question').hidden")
    assert page.text("#end-title") == "Apply the decisions"


def test_on_a_phone_image_and_answers_fit_into_the_window(page):
    page.look(390, 800)
    page.press("ArrowRight")
    page.press("ArrowLeft")
    page.wait(LOADED)
    bottoms = page.run(
        "[...document.querySelectorAll('#images img, #accept, #reject, #skip, #classes button')]"
        ".map((one) => one.getBoundingClientRect().bottom)"
    )
    assert len(bottoms) == 6, "the image, a similar one, three verdicts and a class"
    assert max(bottoms) <= 800


def test_typical_images_of_both_classes_lie_beside_a_doubtful_one(page):
    page.wait("[...document.querySelectorAll('#typical img')].every((one) => one.naturalWidth)")
    captions = "[...document.querySelectorAll('#typical figcaption')].map((one) => one.innerText)"
    assert page.run(captions) == ["Typical of cat", "Typical of dog"]
    assert page.run("document.querySelectorAll('#typical img').length") == 2


def test_a_pair_of_classes_is_answered_and_undone_in_one_go(window, tmp_path):
    doubtful = run_to_review.row("cat/1.png", looks_like="dog", wrong=0.6)
    review = prepared(tmp_path, lambda rows: rows.insert(1, doubtful))
    with opened(window, review):
        window.wait("!document.querySelector('#pairs').hidden")
        assert window.text("#pair-buttons") == "cat taken for dog: 2"
        window.run("document.querySelector('#pair-buttons button').click()")
        window.wait("[...document.querySelectorAll('#pair img')].every((one) => one.naturalWidth)")
        assert window.text("#pair-words") == "Choose the images that are dog. All others are cat."
        if axe.SCRIPT.is_file():
            assert axe.violations(window) == []
        window.run("document.querySelectorAll('.tile')[1].click()")
        assert window.text("#pair-save") == "Save: 1 is dog, 1 is cat"
        window.press("x")
        assert not review.decisions.answers(), "keys mean nothing where several images are shown"
        window.run("document.querySelector('#pair-save').click()")
        window.wait("document.querySelector('#path').innerText == 'dog/test.png'")
        assert review.decisions.answers() == {
            digest("cat/0.png"): ReviewAnswer("accept"),
            digest("cat/1.png"): ReviewAnswer("relabel", "dog"),
        }
        assert window.run("document.querySelector('#pairs').hidden")
        window.press("u")
        window.wait("document.querySelector('#path').innerText == 'cat/0.png'")
        assert not review.decisions.answers()


def test_a_hostile_name_is_shown_as_text_and_a_reload_keeps_the_state(page, review):
    for _ in range(5):
        decide(page, "s")
    assert "cat/hostile <img src=x onerror=alert(1)>.png" in page.text("#path")
    page.press("a")
    page.wait("document.querySelector('#status').innerText.includes('All images were seen')")
    page.call("Page.reload")
    page.wait("document.querySelector('#status')?.innerText.includes('5 were skipped')")
    assert list(review.decisions.answers().values()).count(ReviewAnswer("accept")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(page, scheme):
    page.look(390, 800, scheme)
    for _ in range(3):
        assert page.run("document.documentElement.scrollWidth") == 390
        page.press("ArrowRight")


def test_a_missing_token_and_an_ended_command_are_reported(window, review):
    with web.running(review, "127.0.0.1", 0) as (address, _):
        window.look()
        window.open(address.partition("#")[0])
        window.wait("!document.querySelector('#alert').hidden")
        assert "this one has no token" in window.text("#alert")
        window.call("Page.navigate", url="about:blank")
        window.open(address)
        window.wait(LOADED)
    window.press("a")
    window.wait("!document.querySelector('#alert').hidden")
    assert "Check that imgpipe review is still running" in window.text("#alert")
    assert window.text("#path") == "cat/0.png", "the image is still to be decided"
    assert not review.decisions.answers()


@axe.needed
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_there_is_no_barrier(page, width, scheme):
    page.look(width, 900, scheme)
    assert axe.violations(page) == []
    page.press("a")
    page.wait("document.querySelector('#path').innerText != 'cat/0.png'")
    page.press("ArrowLeft")
    page.wait("document.querySelectorAll('#judge button.chosen').length == 1")
    assert axe.violations(page) == [], "of the pressed button"
    page.press("ArrowRight")  # an image of test, which cannot be relabelled
    page.wait("document.querySelector('#relabel').hidden")
    assert axe.violations(page) == []
