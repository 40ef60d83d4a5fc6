"""Tests of the views of a run's images, and of what is proposed about an image."""

import json

import pytest

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.output.run import Run
from imgpipe.pipeline.review import images
from imgpipe.pipeline.review.images import ImageView
from tests.pipeline.review import run_to_review
from tests.pipeline.review.run_to_review import ANSWERS, digest

HOSTILE = "cat/hostile <img src=x onerror=alert(1)>.png"


@pytest.fixture
def run(tmp_path):
    return run_to_review.leave(tmp_path / "out", tmp_path / "photos")


@pytest.fixture
def reviewed(run):
    return images.read(run)


def paths(reviewed, decided=(), **view):
    return [row.path for row in reviewed.view(ImageView(**view), decided)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("doubtful", ["cat/0.png", "dog/test.png"]),
        ("mistakes", ["cat/1.png"]),
        ("unlike", ["dog/test.png", "dog/0.png"]),
        ("copies", ["cat/1.png", "dog/0.png", "cat/0.png"]),
        ("rejected", [HOSTILE, "cat/broken.jpg", "dog/2.png"]),
    ],
)
def test_a_kind_has_its_images_those_that_most_need_a_look_first(reviewed, kind, expected):
    found = paths(reviewed, kind=kind)
    assert sorted(found) == sorted(expected)
    if kind in ("doubtful", "unlike"):
        assert found == expected
    assert reviewed.counts(())[kind] == len(expected)


def test_every_file_is_an_image_of_the_review_in_any_order(reviewed):
    assert sorted(paths(reviewed)) == sorted(run_to_review.ROWS)
    assert paths(reviewed, order="file") == sorted(run_to_review.ROWS)
    surest = paths(reviewed, order="surest")[: len(ANSWERS)]
    assert surest == sorted(ANSWERS, key=lambda path: -ANSWERS[path][1])


def test_a_cell_of_the_matrix_has_the_images_of_its_label_and_answer(reviewed):
    assert paths(reviewed, label="cat", answer="dog") == ["cat/0.png", "cat/1.png"]
    assert ("cat", "dog", 2) in reviewed.cells
    assert paths(reviewed, kind="mistakes", label="dog") == []
    assert paths(reviewed, kind="decided", decided={digest("dog/1.png")}) == ["dog/1.png"]


def image(reviewed, path):
    """Return the image of a path."""
    return next(row for row in reviewed.rows if row.path == path)


def test_only_a_label_that_is_surely_wrong_is_proposed_to_be_changed(reviewed):
    proposals = {row.path: reviewed.shown(row)["proposal"] for row in reviewed.rows}
    assert proposals.pop("cat/0.png") == {"verdict": "relabel", "label": "dog"}
    assert proposals.pop("dog/test.png")["verdict"] == "reject", "it is like no class"
    assert {proposal["verdict"] for proposal in proposals.values()} == {""}


def test_an_image_says_what_was_found_and_shows_what_is_similar(reviewed):
    shown = reviewed.shown(image(reviewed, "cat/0.png"))
    assert shown["why"] == ["Near-duplicate with another label: similar to dog/0.png."]
    assert [image["path"] for image in shown["similar"]] == ["dog/0.png"]
    assert shown["answer"] == "dog" and shown["sure"] == 0.99


@pytest.mark.parametrize(
    ("path", "no_accept", "no_relabel"),
    [
        ("dog/test.png", "", ""),
        ("dog/2.png", "label_conflict: look at it", ""),
        (HOSTILE, "", ""),
        ("cat/broken.jpg", "an override cannot make it readable", "cannot make it readable"),
    ],
)
def test_an_image_that_cannot_be_accepted_or_relabelled_says_why(
    reviewed, path, no_accept, no_relabel
):
    shown = reviewed.shown(image(reviewed, path))
    for text, words in ((shown["no_accept"], no_accept), (shown["no_relabel"], no_relabel)):
        assert words in text and bool(words) == bool(text)


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("mistakes", ImageView("mistakes")),
        ("cat", ImageView(label="cat")),
        ("cat:dog", ImageView(label="cat", answer="dog")),
        (":dog", ImageView(answer="dog")),
        ("all:", ImageView(label="all")),
        ("a:b:cat", ImageView(label="a:b", answer="cat")),
    ],
)
def test_what_is_shown_first_is_named_by_kind_class_or_cell(text, view):
    assert images.parse_view(text, ("a:b", "all", "cat", "dog")) == view


def test_what_is_no_view_is_refused():
    with pytest.raises(ConfigError, match=r"--show cta: expected one of .* nearest: cat"):
        images.parse_view("cta", ("cat", "dog"))
    with pytest.raises(ConfigError, match="a kind of images and a class"):
        images.parse_view("all", ("all", "dog"))


def test_the_images_are_read_also_after_the_folder_was_moved(tmp_path, run):
    run.out.rename(tmp_path / "moved")
    moved = images.read(Run.read(tmp_path / "moved/runs" / run.name))
    assert len(moved.rows) == len(run_to_review.ROWS)


@pytest.mark.parametrize("content", ["{", "[]", '{"image_hash": 1}'])
def test_damaged_answers_are_named(run, content):
    (run.folder / "answers.json").write_text(content)
    with pytest.raises(ResourceError, match=r"cannot read .*answers\.json .* Run the pipeline"):
        images.read(run)


def test_a_run_whose_table_was_removed_is_refused_in_a_sentence(run):
    (run.folder / "artifacts.json").write_text(json.dumps({}))
    with pytest.raises(ResourceError, match="table of its images no longer exists"):
        images.read(run)
