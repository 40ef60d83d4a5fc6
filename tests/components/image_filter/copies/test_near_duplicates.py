"""How near-duplicates are treated, by split and label."""

import dataclasses
import hashlib
import random

import numpy as np
import pytest

from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.image_filter.copies.decisions import judge_group
from imgpipe.components.image_filter.copies.search import NearDuplicates
from imgpipe.components.image_filter.judge.settings import JudgeSettings

BASE = np.random.default_rng(0).integers(0, 256, ALL_BYTES, np.uint8)


def member(path, split="train", label="a", flips=0, group=""):
    """Return an image and its perceptual hashes, of which `flips` bits are not those of the base.

    The first bits are flipped, so that the distance of two images is the difference of their flips.
    """
    bits = np.unpackbits(BASE)
    bits[:flips] ^= 1
    return ImageRow(path, label, 0, split, digest(path), group), np.packbits(bits).tobytes()


def digest(path):
    """Return the content hash of an image, 64 hexadecimal digits."""
    return hashlib.sha256(path.encode()).hexdigest()


def near(members, radius=48, severity=None, altered=None, **verdicts):
    """Return the findings about a group; `verdicts` are those of overrides, by path."""
    settings = JudgeSettings(severity=severity or {}, threshold={"near_duplicate": radius})
    hashes = {row.image_hash: of_image for row, of_image in members}
    members = [dataclasses.replace(row, verdict=verdicts.get(row.path, "")) for row, _ in members]
    judge_group(members, NearDuplicates({}, altered or {}, hashes), settings)
    members.sort(key=lambda row: row.path)
    return [row.described(finding) for row in members for finding in row.findings]


def outcome(*members, radius=48, **severities):
    """Return the rulings on the images: {path: (reason, severity, path of the kept copy)}."""
    rulings = near(members, radius, severities)
    return {r["path"]: (r["reason"], r["severity"], r["kept_copy"]) for r in rulings}


def test_near_duplicates_within_a_split_are_kept_with_a_warning():
    found = outcome(member("1"), member("2", flips=3), member("3", flips=5))
    assert found == {
        "2": ("near_duplicate", "warn", "1"),
        "3": ("near_duplicate", "warn", "2"),
    }


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_training_near_duplicates_of_held_out_images_are_rejected(held_out):
    copies = (member("1", flips=3), member("2", held_out), member("3", flips=9))
    assert outcome(*copies) == {
        "1": ("near_duplicate_across_splits", "reject", "2"),
        "3": ("near_duplicate_across_splits", "reject", "2"),
    }
    (ruling, _) = near(copies)
    assert ruling["detail"] == (
        "similar to 2: 3 of 256 bits of the perceptual hash differ; "
        f"that one is in {held_out}, this one in train"
    )


def test_an_image_related_only_through_a_chain_is_not_rejected():
    found = outcome(member("1", flips=60), member("2", flips=30), member("3", "test"))
    assert found == {"2": ("near_duplicate_across_splits", "reject", "3")}


def test_near_duplicates_with_different_labels_are_both_named():
    copies = (member("1"), member("2", label="b", flips=4))
    assert outcome(*copies) == {
        "1": ("near_duplicate_label_conflict", "warn", "2"),
        "2": ("near_duplicate_label_conflict", "warn", "1"),
    }
    assert (
        near(copies)[0]["detail"]
        == "similar to 2 (b; this one is a): 4 of 256 bits of the perceptual hash differ"
    )


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
    altered = {digest("1"): {digest("2"): "upside down"}}
    assert [one["detail"] for one in near(copies, altered=altered)] == [
        "similar to 2: upside down; that one is in test, this one in train"
    ]
    assert near(copies) == []
