"""Which of several identical files is kept."""

import random

import pytest

from imgpipe.components.image_filter.copies.decisions import reject_identical
from imgpipe.components.image_filter.judge.image_row import ImageRow


def outcome(*copies):
    """Return the copies (path, split, label) that are dropped: {path: (reason, kept copy)}."""
    rows = [ImageRow(path, label, split=split) for path, split, label in copies]
    reject_identical(rows)
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
