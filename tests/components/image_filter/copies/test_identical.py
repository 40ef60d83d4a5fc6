"""Which of several identical files is kept."""

import random

import pytest

from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.image_filter.copies.decisions import reject_identical


def outcome(*copies):
    """Return the copies (path, split, label) that are dropped: {path: (reason, kept copy)}."""
    rows = [ImageRow(path, label, split=split) for path, split, label in copies]
    reject_identical([rows])
    rejected = {row.path: row.rejection for row in rows if row.rejection is not None}
    return {path: (finding.reason, finding.kept_copy) for path, finding in rejected.items()}


@pytest.mark.parametrize(
    ("copies", "expected"),
    [
        ([("a/1", "train", "a")], {}),
        (
            [("a/3", "train", "a"), ("a/1", "train", "a"), ("a/2", "train", "a")],
            {"a/2": ("duplicate", "a/1"), "a/3": ("duplicate", "a/1")},
        ),
        (
            [("a/1", "train", "a"), ("a/2", "validation", "a"), ("a/3", "test", "a")],
            dict.fromkeys(("a/1", "a/2"), ("duplicate_across_splits", "a/3")),
        ),
        (
            [("a/1", "train", "a"), ("a/2", "validation", "a")],
            {"a/1": ("duplicate_across_splits", "a/2")},
        ),
        (
            [("a/1", "train", "a"), ("b/1", "test", "b"), ("a/2", "train", "a")],
            dict.fromkeys(("a/1", "a/2", "b/1"), ("label_conflict", "")),
        ),
    ],
)
def test_of_identical_files_the_one_for_evaluation_with_the_first_path_is_kept(copies, expected):
    for seed in range(5):
        assert outcome(*random.Random(seed).sample(copies, len(copies))) == expected


def conflicts(*contents):
    """Return the paths that are rejected, and the remedies, by content."""
    rows = [[ImageRow(path, path.split("/")[-2], split="train") for path in c] for c in contents]
    reject_identical(rows)
    every = [row for copies in rows for row in copies if row.rejection is not None]
    return [row.path for row in every], {row.rejection.remedy for row in every}


def test_a_class_of_nothing_but_images_of_others_is_left_out_and_the_others_are_kept():
    pool = [[f"all/{name[0]}{n}", f"{name}/{n}"] for name in ("cat", "dog") for n in range(3)]
    rejected, remedies = conflicts(*pool, ["cat/9"])
    assert rejected == [copies[0] for copies in pool]
    assert remedies == {
        "every image of 'all' is one of 'cat', 'dog', too: leave it out with --set "
        "'data.skip=[\"/all\"]'"
    }


def test_images_in_two_classes_are_summed_by_pairs_of_classes():
    both = [[f"cat/{n}", f"dog/{n}"] for n in range(10)]
    own = [["cat/a"], ["dog/b"], ["owl/c"]]
    rejected, remedies = conflicts(*both, *own, ["dog/x", "owl/x"])
    assert len(rejected) == 22
    said = "and a model gives one answer to an image: keep each in one class or in none, or leave"
    assert remedies == {
        f"10 images are in both 'cat' and 'dog', {said} out a class with data.skip",
        f"1 image is in both 'dog' and 'owl', {said} out a class with data.skip",
    }


def test_a_class_within_one_other_class_is_no_pool():
    rejected, remedies = conflicts(["dog/1", "pup/1"], ["dog/2", "pup/2"], ["dog/3"], ["cat/4"])
    assert rejected == ["dog/1", "pup/1", "dog/2", "pup/2"]
    assert [remedy[:41] for remedy in remedies] == ["2 images are in both 'dog' and 'pup', and"]
