"""Tests that decisions are written to the overrides file at once and can be undone."""

import pytest

from imgpipe.components.image_filter.judge import overrides
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.override import Override
from imgpipe.pipeline.review import images
from imgpipe.pipeline.review.decisions import Decisions, RefusedAnswer
from tests.pipeline.review import run_to_review
from tests.pipeline.review.run_to_review import digest

CAT, OTHER, DOG = digest("cat/0.png"), digest("cat/1.png"), digest("dog/1.png")
TEST, BROKEN = digest("dog/test.png"), digest("cat/broken.jpg")
ACCEPT, REJECT, NOTHING = ({"verdict": word, "label": ""} for word in ("accept", "reject", ""))
TO_DOG = {"verdict": "relabel", "label": "dog"}


@pytest.fixture
def reopen(tmp_path):
    """Return a function that opens the decisions as every start of `imgpipe review` does."""
    reviewed = images.read(run_to_review.leave(tmp_path / "out", tmp_path / "photos"))
    return lambda: Decisions(reviewed, tmp_path / "overrides.toml")


def test_an_answer_is_saved_and_found_when_the_review_is_opened_again(reopen):
    reopen().answer([CAT], TO_DOG)
    reopen().answer([TEST], REJECT)
    again = reopen()
    assert again.made() == {CAT: TO_DOG, TEST: REJECT}
    assert again.counts() == {"relabel": 1, "reject": 1}
    assert overrides.load(again.file) == (
        Override(CAT, "relabel", "dog", "cat/0.png", "imgpipe review"),
        Override(TEST, "reject", "", "dog/test.png", "imgpipe review"),
    )


def test_several_images_are_decided_and_undone_in_one_go(reopen):
    review = reopen()
    review.answer([OTHER], REJECT)
    assert review.answer([CAT, OTHER, DOG, TEST], TO_DOG) == [CAT, OTHER, DOG, TEST]
    assert review.made() == {CAT: TO_DOG, OTHER: TO_DOG, DOG: ACCEPT, TEST: ACCEPT}, (
        "an image that gets the label that it has is accepted"
    )
    assert review.undo() == [CAT, OTHER, DOG, TEST]
    assert review.made() == {OTHER: REJECT}
    assert review.undo() == [OTHER] and review.undo() == []
    assert overrides.load(review.file) == ()


def test_of_several_images_those_are_decided_for_which_it_is_possible(reopen):
    review = reopen()
    to_cat = {"verdict": "relabel", "label": "cat"}
    assert review.answer([TEST, CAT, BROKEN], to_cat) == [TEST, CAT]
    with pytest.raises(RefusedAnswer, match="an override cannot make it readable"):
        review.answer([BROKEN], to_cat)
    assert review.made() == {TEST: to_cat, CAT: ACCEPT}


def test_a_decision_is_taken_back(reopen):
    review = reopen()
    review.answer([CAT, DOG], ACCEPT)
    review.answer([CAT], NOTHING)
    assert review.made() == {DOG: ACCEPT}
    assert review.undo() == [CAT] and review.made() == {CAT: ACCEPT, DOG: ACCEPT}
    assert reopen().undo() == [], "an answer is undone while its page is open"


def test_a_label_of_an_earlier_decision_is_kept_when_it_is_right(reopen):
    review = reopen()
    review.images.by_hash[DOG] = review.images.by_hash[DOG]._replace(source_label="cat")
    review.answer([DOG], ACCEPT)
    assert review.made() == {DOG: TO_DOG}, "without it, the next run would read cat again"
    review.answer([DOG], {"verdict": "relabel", "label": "cat"})
    assert review.made() == {DOG: ACCEPT}


def test_overrides_made_by_hand_are_seen_and_a_damaged_file_is_not_changed(reopen):
    review = reopen()
    overrides.replace_entries(review.file, {CAT: Override(CAT, "accept")})
    assert review.made() == {CAT: ACCEPT}
    review.file.write_text("x = [")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        review.answer([CAT], REJECT)
    assert review.file.read_text() == "x = ["
    with pytest.raises(ConfigError, match="is not valid TOML"):
        reopen()
