"""Tests of which images a review asks about, and which answers are possible."""

import json

import pytest

from imgpipe.components.common.storage.shards import Shard
from imgpipe.components.image_filter import image_table
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge.check import ImageFinding
from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.output import past_run
from imgpipe.pipeline.review import questions
from tests.pipeline.review import run_to_review
from tests.pipeline.review.run_to_review import digest, facts


@pytest.fixture
def run(tmp_path):
    """Return the past run."""
    return run_to_review.leave(tmp_path / "out", tmp_path / "photos")


@pytest.fixture
def asked(run):
    """Return the questions about the past run."""
    return questions.read(run)


def test_each_image_is_asked_about_once(asked):
    assert [(one.kind, one.image["path"]) for one in asked.asked] == [
        ("doubtful", "cat/0.png"),
        ("doubtful", "dog/test.png"),
        ("near", "dog/0.png"),
        ("near", "cat/1.png"),
        ("rejected", "dog/2.png"),
        ("rejected", "cat/hostile <img src=x onerror=alert(1)>.png"),
    ]
    assert asked.classes == ("cat", "dog")
    first = asked.asked[0]
    assert first.why == (
        "A model that has not seen this image says dog.",
        "Nearly the same image with another label: similar to dog/0.png.",
    )
    assert [image["path"] for image in first.beside] == ["dog/0.png"]


def test_typical_images_are_not_themselves_in_question(asked):
    typical = {name: [image["path"] for image in row] for name, row in asked.typical.items()}
    assert typical == {"cat": ["cat/2.png"], "dog": ["dog/1.png"]}
    assert digest("cat/2.png") in asked.images()


def test_rejected_files_that_leave_nothing_to_decide_are_counted(asked):
    assert asked.not_asked == 2
    assert digest("cat/broken.jpg") not in asked.by_hash
    assert digest("cat/2.png") not in asked.by_hash, "another copy of it is used"


def test_labels_of_the_test_split_cannot_be_changed(asked):
    question = asked.by_hash[digest("dog/test.png")]
    assert question.suggestion == "cat" and not question.no_accept
    assert "never change a label of the test split" in question.no_relabel


def test_an_image_that_cannot_be_accepted_says_what_to_do(asked):
    conflict = asked.by_hash[digest("dog/2.png")]
    assert (conflict.no_accept, conflict.no_relabel) == ("label_conflict: look at it", "")
    small = asked.by_hash[digest("cat/hostile <img src=x onerror=alert(1)>.png")]
    assert small.rejected and not small.no_accept


def test_all_groups_of_the_quarantine_are_read_also_after_the_folder_was_moved(tmp_path, run):
    place = run.out / "artifacts/ImageFilter/quarantine/7"
    place.mkdir(parents=True)
    (place / "manifest.jsonl").touch()
    (place / image_table.FOLDER).mkdir()
    finding = ImageFinding("near_duplicate", "similar to dog/1.png", "warn")
    images = [
        ImageRow(path, path[:3], image_hash=digest(path), near_group=group)
        for path, group in (("cat/0.png", 1), ("dog/1.png", 1), ("dog/2.png", 0))
    ]
    images[0].add(finding)
    image_table.write(image_table.shard_path(str(place), Shard((), 0, 1)), ImageTable(images, 40))
    recorded = {"ImageFilter": {"quarantine": str(place)}}
    (run.folder / "artifacts.json").write_text(json.dumps(recorded))
    (run.folder / "facts.json").write_text(json.dumps(facts() | {"suspects": None, "rejected": []}))
    run.out.rename(tmp_path / "moved")
    (question,) = questions.read(past_run.read(tmp_path / "moved/runs" / run.name)).asked
    assert question.image["path"] == "cat/0.png"
    assert [image["path"] for image in question.beside] == ["dog/1.png"]


@pytest.mark.parametrize("content", ["{", "[]", '{"suspects": {"rows": [1]}}'])
def test_damaged_facts_are_named(run, content):
    (run.folder / "facts.json").write_text(content)
    with pytest.raises(ResourceError, match=r"cannot read .*facts\.json .* Run the pipeline again"):
        questions.read(run)
