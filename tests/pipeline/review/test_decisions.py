"""Tests that decisions are written to the overrides file at once and can be undone."""

import pytest

from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.review import questions
from imgpipe.pipeline.review.questions import Decisions, ReviewAnswer
from tests.pipeline.review.run_to_review import digest, facts, near

CAT, TEST = digest("cat/0.png"), digest("dog/test.png")
ASKED = questions.collect(facts(), [{"members": near()}])


@pytest.fixture
def reopen(tmp_path):
    """Return a function that opens the decisions as every start of `imgpipe review` does."""
    return lambda: Decisions(ASKED, tmp_path / "overrides.toml")


def test_an_answer_is_saved_and_found_when_the_review_is_opened_again(reopen):
    reopen().answer(CAT, "relabel", "dog")
    reopen().answer(TEST, "reject")
    again = reopen()
    assert again.answers() == {
        CAT: ReviewAnswer("relabel", "dog"),
        TEST: ReviewAnswer("reject"),
    }
    found = overrides.load(again.file)
    assert found == (
        Override(CAT, "relabel", "dog", "cat/0.png", "imgpipe review"),
        Override(TEST, "reject", "", "dog/test.png", "imgpipe review"),
    )


def test_answers_are_undone_one_after_the_other(reopen):
    review = reopen()
    review.answer(CAT, "relabel", "dog")
    review.answer(CAT, "accept")
    review.answer(CAT, "skip")
    assert review.answers() == {CAT: ReviewAnswer("skip")}
    assert reopen().undo() == "", "an answer is undone while its page is open"
    assert review.undo() == CAT and review.answers() == {CAT: ReviewAnswer("accept")}
    assert review.undo() == CAT and review.answers() == {CAT: ReviewAnswer("relabel", "dog")}
    assert review.undo() == CAT and review.answers() == {}
    assert review.undo() == "" and not overrides.load(review.file)


def test_overrides_made_by_hand_are_seen_and_a_damaged_file_is_not_changed(reopen):
    review = reopen()
    overrides.replace_entries(review.file, CAT, [Override(CAT[:16], "accept")])
    assert review.answers() == {CAT: ReviewAnswer("accept")}
    review.file.write_text("x = [")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        review.answer(CAT, "reject")
    assert review.file.read_text() == "x = ["
    with pytest.raises(ConfigError, match="is not valid TOML"):
        reopen()
