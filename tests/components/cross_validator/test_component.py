"""CrossValidator: what must not straddle folds, and where it learns of it."""

from __future__ import annotations

import json
from pathlib import Path

from imgpipe.components import records
from imgpipe.components.cross_validator import component
from imgpipe.components.image_filter.near_duplicates.beam_steps import FILE as NEAR_FILE
from imgpipe.models import feature_names as names

ALL = [f"{letter}".encode() for letter in "abcdefghij"]


def _sides(groups: dict[bytes, str]) -> set[frozenset[str]]:
    """Which images are together, as letters."""
    found: dict[str, set[str]] = {}
    for digest, group in groups.items():
        found.setdefault(group, set()).add(digest.decode())
    return {frozenset(members) for members in found.values() if len(members) > 1}


def test_groups_and_near_duplicates_hang_together():
    groups, apart = component.fold_groups(
        ALL, [[b"a", b"b"]], [[b"b", b"c"], [b"f", b"g"], [b"h"]], largest=5
    )
    assert _sides(groups) == {frozenset("abc"), frozenset("fg")}
    assert set(groups) == set(ALL)
    assert apart == 0


def test_a_chain_of_alike_images_longer_than_a_fold_is_left_apart():
    near = [[b"a", b"b", b"c", b"d", b"e", b"f"], [b"g", b"h"]]
    groups, apart = component.fold_groups(ALL, [], near, largest=5)
    assert _sides(groups) == {frozenset("gh")}
    assert apart == 6


def test_what_the_source_says_holds_whatever_its_size():
    film = [b"a", b"b", b"c", b"d", b"e", b"f"]
    groups, apart = component.fold_groups(ALL, [film], [[b"f", b"g"]], largest=3)
    assert _sides(groups) == {frozenset("abcdef")}
    assert apart == 2


def test_images_that_are_not_there_tie_nothing_together():
    groups, apart = component.fold_groups(
        [b"a", b"b"], [[b"a", b"gone"]], [[b"gone", b"b"], [b"b", b"b"]], largest=9
    )
    assert _sides(groups) == set()
    assert apart == 0


def test_the_order_of_what_is_found_does_not_matter():
    given, near = [[b"c", b"a"], [b"e", b"d"]], [[b"a", b"e"], [b"i", b"j"]]
    first = component.fold_groups(ALL, given, near, 5)
    assert component.fold_groups(ALL[::-1], given[::-1], near[::-1], 5) == first


def test_the_source_s_groups_are_read_of_train_and_validation(tmp_path: Path):
    paths = {split: records.shard_path(str(tmp_path), split, 0, 1) for split in names.SPLITS}
    with records.ShardWriter(paths) as writer:
        for split, digest, group in (
            ("train", "a", "ann"),
            ("train", "b", ""),
            ("validation", "c", "ann"),
            ("test", "d", "ann"),
        ):
            values = {names.IMAGE_HASH: digest, names.GROUP: group, names.IMAGE_BYTES: b"x"}
            writer.write(split, records.make(values))
    assert component.source_groups(str(tmp_path)) == [[b"a", b"c"]]


def test_near_duplicates_that_stayed_are_read_from_the_quarantine(tmp_path: Path):
    assert component.near_groups(str(tmp_path)) == [], "where none were looked for"
    lines = [
        [("a", True), ("b", False), ("c", True)],
        [("d", True), ("e", True)],
    ]
    text = "".join(
        json.dumps({"radius": 4, "members": [{"image_hash": h, "stays": s} for h, s in line]})
        + "\n"
        for line in lines
    )
    (tmp_path / NEAR_FILE).write_text(text)
    assert component.near_groups(str(tmp_path)) == [[b"a", b"c"], [b"d", b"e"]]
