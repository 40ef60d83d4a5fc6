"""Near-duplicates and groups stay together, classes get their minimum, and nothing else moves."""

import collections
import dataclasses
import hashlib

import pytest

from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.image_filter.judge.single_image import move
from imgpipe.components.image_filter.placement import placement
from imgpipe.models.settings.override import Override

RULE = SplitRule(min_validation=3, min_test=1)


def image(name, label=0, group="", rule=RULE, given=None):
    content = hashlib.sha256(name.encode()).hexdigest()
    split = rule.assign(content, given, group or None)
    source = {"source_label": "ab"[label], "source_index": label}
    return ImageRow(name, "ab"[label], label, split, content, group, **source)


def images(count, label=0, **options):
    return [image(f"{label}/{number}", label, **options) for number in range(count)]


def placed(records, near=(), rule=RULE, relabelled=()):
    """Place images in any order; return their splits by path and the paths of those that moved."""
    numbers = {row.path: n for n, group in enumerate(near, 1) for row in group}
    rows = [dataclasses.replace(row, near_group=numbers.get(row.path, 0)) for row in records]
    for row in rows:
        if row.path in relabelled:
            row.source_index = -1
    other_way = [dataclasses.replace(row) for row in rows[::-1]]
    placement.place(rows, rule, {}.get)
    placement.place(other_way, rule, {}.get)
    assert rows == other_way[::-1], "the order of the images does not matter"
    drawn = {row.path: row.split for row in records}
    splits = {row.path: row.split for row in rows}
    return splits, {path for path, split in splits.items() if split != drawn[path]}


def test_each_group_of_near_duplicates_is_placed_in_one_split():
    records = images(600)
    films = [records[start : start + 6] for start in range(0, 300, 6)]
    splits, moved = placed(records, films)
    assert all(len({splits[record.path] for record in film}) == 1 for film in films)
    assert moved
    assert {record.path for record in records[300:]}.isdisjoint(moved)
    counts = collections.Counter(splits[record.path] for record in records[:300])
    assert 10 <= counts["validation"] <= 60 and 10 <= counts["test"] <= 60


def test_no_minimum_moves_a_relabelled_image_to_test():
    """Its override does not hold there, so that the class would still have no image."""
    for seed in range(20):
        rule = SplitRule(seed=seed, min_test=2)
        records = images(12, rule=rule)
        inside = {record.path for record in records if record.split == "test"}
        relabelled = {record.path for record in records[:8]} - inside
        splits, _ = placed(records + images(300, 1, rule=rule), rule=rule, relabelled=relabelled)
        tested = {path for path, split in splits.items() if split == "test"}
        assert not tested & relabelled and len(tested & {r.path for r in records}) >= 2


def test_no_near_duplicate_takes_a_relabelled_image_to_test():
    """It would lose the label of its override there, and may have no other."""
    records = images(200)
    pairs = [records[start : start + 2] for start in range(0, 200, 2)]
    relabelled = {one.path for one, _ in pairs if one.split != "test"}
    splits, _ = placed(records, pairs, relabelled=relabelled)
    assert any(other.split == "test" for one, other in pairs if one.path in relabelled)
    assert "test" not in {splits[path] for path in relabelled}
    assert all(len({splits[record.path] for record in pair}) == 1 for pair in pairs)


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_a_class_of_a_few_large_groups_is_not_refused(groups):
    for seed in range(10):
        rule = SplitRule(seed=seed, min_validation=3, min_test=1)
        records = [
            image(f"{group}/{number}", group=f"person {group}", rule=rule)
            for group in range(groups)
            for number in range(20)
        ]
        splits, _ = placed(records, rule=rule)
        counts = collections.Counter(splits.values())
        assert counts["train"] >= 20 and counts["validation"] >= 20, seed
        assert counts["test"] >= 20 or groups < 4, seed


@pytest.mark.parametrize("count", [8, 40])
def test_each_class_gets_the_minimum_of_images_in_each_split(count):
    for seed in range(10):
        rule = SplitRule(seed=seed, min_validation=3, min_test=1)
        records = images(count, rule=rule) + images(300, 1, rule=rule)
        splits, moved = placed(records, rule=rule)
        counts = collections.Counter(splits[f"0/{number}"] for number in range(count))
        assert counts["validation"] >= 3 and counts["test"] >= 1
        assert counts["train"] >= 4
        assert all(path.startswith("0/") for path in moved)


def test_added_files_move_no_image_of_a_class_that_has_enough():
    before, _ = placed(images(200))
    after, _ = placed(images(400))
    assert {path: after[path] for path in before} == before


def test_images_with_a_split_of_the_source_are_not_moved():
    rule = SplitRule(given=("train", "validation"), min_validation=3)
    records = [image(f"{n}", given="train", rule=rule) for n in range(9)]
    assert placed(records, [records], rule)[1] == set()


def test_a_test_image_of_the_source_stays_where_a_copy_of_it_is_moved():
    rule = SplitRule(given=("train", "test"), min_validation=6)
    records = [image(f"0/{number}", given="train", rule=rule) for number in range(12)]
    copies = [
        dataclasses.replace(image(f"0/{number}", given="test", rule=rule), path=f"1/{number}")
        for number in range(12)
    ]
    splits, moved = placed([*records, *copies], rule=rule)
    assert moved and all(path.startswith("0/") for path in moved)
    assert {splits[copy.path] for copy in copies} == {"test"}


def test_a_moved_image_has_the_label_of_its_override_except_in_test():
    for split, label in (("validation", "b"), ("test", "a")):
        row = image("x")
        row.label, row.label_index = "b", 1
        move(row, split, Override(row.image_hash, "relabel", "b", label_index=1))
        assert (row.split, row.label) == (split, label)
