"""Tests that decisions are written to the overrides file at once and can be undone."""

from __future__ import annotations

import pytest

from imgpipe.components.image_filter import overrides
from imgpipe.components.image_filter.overrides import Override
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.review import decisions, questions
from imgpipe.pipeline.review.decisions import Answer, Decisions, Refused
from tests.pipeline.review.run_to_review import digest, facts, near

CAT, TEST, NEAR = digest("cat/0.png"), digest("dog/test.png"), digest("dog/0.png")
ASKED = questions.collect(facts(), [{"members": near()}])


@pytest.fixture
def reopen(tmp_path):
    """Return a function that opens the decisions as every start of ``imgpipe review`` does."""
    return lambda: Decisions(ASKED, tmp_path / "overrides.toml")


def test_an_answer_is_saved_and_found_when_the_review_is_opened_again(reopen):
    reopen().answer(CAT, "relabel", "dog")
    reopen().answer(TEST, "reject")
    again = reopen()
    assert again.answers() == {
        CAT: Answer("relabel", "dog"),
        TEST: Answer("reject"),
    }
    found = overrides.load(again.file)
    assert found == (
        Override(CAT, "relabel", "dog", "cat/0.png", "imgpipe review"),
        Override(TEST, "reject", "", "dog/test.png", "imgpipe review"),
    )
    assert all(entry.confirmed for entry in found)


def test_answers_are_undone_one_after_the_other(reopen):
    review = reopen()
    review.answer(CAT, "relabel", "dog")
    review.answer(CAT, "accept")
    review.answer(CAT, "skip")
    assert review.answers() == {CAT: Answer("skip")}
    assert reopen().undo() == "", "an answer is undone while its page is open"
    assert review.undo() == CAT and review.answers() == {CAT: Answer("accept")}
    assert review.undo() == CAT and review.answers() == {CAT: Answer("relabel", "dog")}
    assert review.undo() == CAT and review.answers() == {}
    assert review.undo() == "" and not overrides.load(review.file)


def test_undo_leaves_a_decision_that_somebody_has_changed_since(reopen):
    review = reopen()
    review.answer(NEAR, "accept")
    review.answer(CAT, "reject")
    by_hand = Override(CAT, "accept")
    overrides.replace(review.file, CAT, [by_hand])
    with pytest.raises(Refused, match=r"overrides\.toml now has another decision about its image"):
        review.undo()
    assert review.answers()[CAT] == Answer("accept")
    assert review.undo() == NEAR, "the answer before it can still be undone"
    assert overrides.load(review.file) == (by_hand,)


def test_a_confirmed_proposal_is_one_entry_and_comes_back_when_undone(reopen):
    review = reopen()
    proposal = Override(CAT, "relabel", "dog", note="looks like dog", confirmed=False)
    overrides.replace(review.file, CAT, [proposal])
    assert review.answers() == {}, "a proposal is no decision"
    review.answer(CAT, "relabel", "dog")
    (entry,) = overrides.load(review.file)
    assert entry.confirmed
    review.undo()
    assert overrides.load(review.file) == (proposal,)
    review.answer(CAT, "skip")
    assert overrides.load(review.file) == (proposal,), "skipping keeps a proposal"


def test_an_answer_that_another_process_takes_back_at_once_is_no_crash(reopen, monkeypatch):
    write = overrides.replace

    def write_and_undo(path, image_hash, entries):
        old = write(path, image_hash, entries)
        write(path, image_hash, ())
        return old

    monkeypatch.setattr(overrides, "replace", write_and_undo)
    assert reopen().answer(CAT, "reject") == Answer("reject")
    assert reopen().answers() == {}


def test_impossible_answers_are_refused(reopen):
    review = reopen()
    with pytest.raises(Refused, match="never change a label of the test split"):
        review.answer(TEST, "relabel", "cat")
    with pytest.raises(Refused, match="'cow' is not a class of this run"):
        review.answer(CAT, "relabel", "cow")
    with pytest.raises(Refused, match=r"one of accept, reject, relabel, skip\. Received: 'keep'"):
        review.answer(CAT, "keep")
    with pytest.raises(Refused, match="does not ask about this image"):
        review.answer("0" * 64, "accept")
    assert not review.file.exists() and not review.answers()


def test_overrides_made_by_hand_are_seen_and_a_damaged_file_is_not_changed(reopen):
    review = reopen()
    overrides.replace(review.file, CAT, [Override(CAT[:16], "accept")])
    assert review.answers() == {CAT: Answer("accept")}
    review.file.write_text("x = [")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        review.answer(CAT, "reject")
    assert review.file.read_text() == "x = ["
    with pytest.raises(ConfigError, match="is not valid TOML"):
        reopen()


def test_a_missing_folder_is_named_before_the_review_begins(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder .*none\. Create it"):
        decisions.check(tmp_path / "none" / "overrides.toml")
