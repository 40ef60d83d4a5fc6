"""Near-duplicates and groups stay together, classes get their minimum, and nothing else moves."""

import collections
import hashlib

import pytest

from imgpipe.components.common.splits import SplitRule
from imgpipe.components.image_filter.placement import placement
from tests import image_tables

RULE = SplitRule(min_validation=3, min_test=1)


def image(name, label=0, group="", rule=RULE, given=None):
    content = hashlib.sha256(name.encode()).hexdigest()
    split = rule.assign(content, given, group or None)
    return image_tables.row(name, "ab"[label], label, split, content, group=group)


def images(count, label=0, **options):
    return [image(f"{label}/{number}", label, **options) for number in range(count)]


def placed(records, near=(), rule=RULE):
    """Place images in any order; return their splits by path and the paths of those that moved."""
    numbers = {row.path: n for n, group in enumerate(near, 1) for row in group}
    images = image_tables.table(records)
    images["near_group"] = images["path"].map(numbers).fillna(0).astype(int)
    images["content"] = images["image_hash"].rank(method="dense").astype(int)
    other_way = images[::-1].copy()
    placement.place(images, rule)
    placement.place(other_way, rule)
    splits = dict(zip(images["path"], images["split"], strict=True))
    again = dict(zip(other_way["path"], other_way["split"], strict=True))
    assert splits == again, "the order of the images does not matter"
    drawn = {row.path: row.split for row in records}
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
    copies = [image(f"0/{number}", given="test", rule=rule) for number in range(12)]
    for number, copy in enumerate(copies):
        copy.path = f"1/{number}"
    splits, moved = placed([*records, *copies], rule=rule)
    assert moved and all(path.startswith("0/") for path in moved)
    assert {splits[copy.path] for copy in copies} == {"test"}
