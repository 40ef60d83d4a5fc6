"""Which of several identical files is kept, and how near-duplicates are treated."""

import hashlib
import random

import numpy as np
import pytest

from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.image_filter.copies.decisions import judge_group, reject_identical
from imgpipe.components.image_filter.copies.search import NearDuplicates
from imgpipe.components.image_filter.findings import ImageFindings, with_severity
from imgpipe.models.settings.data import JudgeSettings
from tests import image_tables


def dropped(*copies):
    """Return the copies (path, split, label) that are dropped: {path: (reason, kept copy)}."""
    images = image_tables.table(
        image_tables.row(path, label, split=split) for path, split, label in copies
    )
    findings = ImageFindings()
    reject_identical(images.assign(content=0), findings)
    return {
        each["path"]: (each["reason"], each["kept_copy"]) for each in findings.described(images)
    }


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
        assert dropped(*random.Random(seed).sample(copies, len(copies))) == expected


def conflicts(*contents):
    rows = [
        image_tables.row(path, path.split("/")[-2], split="train", image_hash=f"{number}")
        for number, paths in enumerate(contents)
        for path in paths
    ]
    images = image_tables.table(rows)
    findings = ImageFindings()
    reject_identical(images.assign(content=images["image_hash"].astype(int)), findings)
    rejected = with_severity(findings.described(images), "reject")
    return [each["path"] for each in rejected], {each["override"] for each in rejected}


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


BASE = np.random.default_rng(0).integers(0, 256, ALL_BYTES, np.uint8)


def member(path, split="train", label="a", flips=0, group=""):
    """Return an image and its perceptual hashes, of which the first `flips` bits are flipped."""
    bits = np.unpackbits(BASE)
    bits[:flips] ^= 1
    image = image_tables.row(path, label, 0, split, digest(path), group=group)
    return image, np.packbits(bits)


def digest(path):
    return hashlib.sha256(path.encode()).hexdigest()


def near(members, radius=48, severity=None, altered=None, **verdicts):
    """Return the findings about a group; `verdicts` are those of overrides, by path."""
    settings = JudgeSettings(severity=severity or {}, threshold={"near_duplicate": radius})
    images = image_tables.table(row for row, _ in members)
    images["content"] = range(len(images))
    images["verdict"] = images["path"].map(verdicts).fillna("")
    pictures = np.stack([of_image for _, of_image in members])
    groups = np.ones(len(images), np.int64)
    findings = ImageFindings()
    rows = [*images.sort_values("path").itertuples()]
    judge_group(rows, NearDuplicates(pictures, groups, altered or {}), settings, findings)
    return findings.described(images)


def outcome(*members, radius=48, **severities):
    """Return the rulings on the images: {path: (reason, severity, path of the kept copy)}."""
    rulings = near(members, radius, severities)
    return {r["path"]: (r["reason"], r["severity"], r["kept_copy"]) for r in rulings}


def test_near_duplicates_within_a_split_are_kept_with_a_warning():
    found = outcome(member("1"), member("2", flips=3), member("3", flips=5))
    assert found == {"2": ("near_duplicate", "warn", "1"), "3": ("near_duplicate", "warn", "2")}


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_training_near_duplicates_of_held_out_images_are_rejected(held_out):
    copies = (member("1", flips=3), member("2", held_out), member("3", flips=9))
    assert outcome(*copies) == {
        "1": ("near_duplicate_across_splits", "reject", "2"),
        "3": ("near_duplicate_across_splits", "reject", "2"),
    }
    (ruling, _) = near(copies)
    assert ruling["detail"] == (f"similar to 2; that one is in {held_out}, this one in train")


def test_an_image_related_only_through_a_chain_is_not_rejected():
    found = outcome(member("1", flips=60), member("2", flips=30), member("3", "test"))
    assert found == {"2": ("near_duplicate_across_splits", "reject", "3")}


def test_near_duplicates_with_different_labels_are_both_named():
    copies = (member("1"), member("2", label="b", flips=4))
    assert outcome(*copies) == {
        "1": ("near_duplicate_label_conflict", "warn", "2"),
        "2": ("near_duplicate_label_conflict", "warn", "1"),
    }
    assert near(copies)[0]["detail"] == "similar to 2 (b; this one is a)"


def test_images_of_one_source_group_are_not_near_duplicates():
    assert outcome(member("1", group="film"), member("2", group="film")) == {}
    assert len(outcome(member("1", group="film"), member("2", group="other"))) == 1


def test_a_relabelled_copy_of_a_test_image_stays_rejected():
    leaking = (member("a"), member("b", "test"))
    assert [one["severity"] for one in near(leaking, a="relabel")] == ["reject"]
    assert [one["severity"] for one in near(leaking, a="accept")] == ["warn"]
    within, severity = (member("a"), member("b")), {"near_duplicate": "reject"}
    assert [one["severity"] for one in near(within, 48, severity, b="relabel")] == ["warn"]


@pytest.mark.parametrize(
    ("split", "severity", "verdicts", "remedy"),
    [
        ("train", "warn", {}, "look at them; to leave them out: --set judge.sev"),
        ("train", "reject", {}, 'set judge.severity.near_duplicate to "warn", or delete the copy'),
        ("test", "reject", {}, "keeps copies together), or set judge.severity.near_duplicate_ac"),
        ("test", "warn", {}, "put both copies into one split (data.group_pattern keeps copies"),
        ("test", "reject", {"1": "accept"}, "put both copies into one split (data.group_pattern"),
    ],
)
def test_the_remedy_fits_what_happens_to_the_copy(split, severity, verdicts, remedy):
    severities = dict.fromkeys(("near_duplicate", "near_duplicate_across_splits"), severity)
    (found,) = near((member("1"), member("2", split, flips=3)), 48, severities, **verdicts)
    assert found["severity"] == ("warn" if verdicts else severity)
    assert remedy in found["override"]


def test_order_changes_nothing():
    splits = ("train", "validation", "test")
    copies = [member(f"{n:02d}", splits[n % 3], "ab"[n % 2], flips=n) for n in range(30)]
    expected = near(copies, 12)
    for seed in range(5):
        assert near(random.Random(seed).sample(copies, len(copies)), 12) == expected


def test_an_altered_copy_is_named_where_no_image_is_near():
    copies = (member("1"), member("2", "test", flips=60))
    altered = {0: {1: "upside down"}}
    assert [one["detail"] for one in near(copies, altered=altered)] == [
        "similar to 2: upside down; that one is in test, this one in train"
    ]
    assert near(copies) == []
