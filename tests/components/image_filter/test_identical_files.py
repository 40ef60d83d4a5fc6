"""Which copy of a group of identical files is kept."""

from __future__ import annotations

import random

from imgpipe.components.image_filter.identical_files import Copy, resolve


def outcome(*copies):
    """Return the copies that are dropped: {path: (reason, path of the kept copy)}."""
    drops = resolve([Copy(*copy) for copy in copies])
    return {drop.path: (drop.reason, drop.kept_copy) for drop in drops}


def test_one_file_is_no_duplicate():
    assert outcome(("a/1", "train", "a")) == {}


def test_within_a_split_the_copy_with_the_first_path_is_kept():
    copies = [("a/3", "train", "a"), ("a/1", "train", "a"), ("a/2", "train", "a")]
    assert outcome(*copies) == {"a/2": ("duplicate", "a/1"), "a/3": ("duplicate", "a/1")}


def test_across_splits_the_copy_in_test_or_validation_is_kept():
    copies = [("a/1", "train", "a"), ("a/2", "validation", "a"), ("a/3", "test", "a")]
    assert outcome(*copies) == {
        "a/1": ("duplicate_across_splits", "a/3"),
        "a/2": ("duplicate_across_splits", "a/3"),
    }
    assert outcome(*copies[:2]) == {"a/1": ("duplicate_across_splits", "a/2")}


def test_all_copies_with_conflicting_labels_are_dropped():
    copies = [("a/1", "train", "a"), ("b/1", "test", "b"), ("a/2", "train", "a")]
    assert outcome(*copies) == dict.fromkeys(("a/1", "a/2", "b/1"), ("label_conflict", ""))
    detail = resolve([Copy(*copy) for copy in copies])[0].detail
    assert detail == "labelled a, but identical to a/2 (a), b/1 (b)"


def test_the_order_of_the_copies_does_not_matter():
    copies = [Copy(f"a/{n}", ("train", "test")[n % 2], "a") for n in range(20)]
    expected = resolve(copies)
    for seed in range(5):
        shuffled = random.Random(seed).sample(copies, len(copies))
        assert resolve(shuffled) == expected
