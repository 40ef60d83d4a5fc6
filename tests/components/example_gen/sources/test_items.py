"""Packed items equal the items that were packed, in the same order, and need far less memory."""

from __future__ import annotations

import hashlib
import pickle
import random

import pytest

from imgpipe.components.example_gen.sources import items
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.example_gen.sources.items import BLOCK, Items, ItemSorter


def item(number, **more):
    """Return the item with this number."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return Item(f"cat/{number:06d}.jpg", "cat", sha256=digest, **more)


ODD = [
    Item(""),
    Item("a/\udcff\n.jpg", "ü", "train", True, "", "group", "outside_classes: x", "ETag:1", "3:4"),
    Item("a/b.jpg", None, None, False, "0" * 64),
    Item("a/c.jpg", sha256="no hexadecimal digits"),
]


@pytest.mark.parametrize("some", [[], ODD, ODD[2:3], [item(n) for n in range(2 * BLOCK + 7)]])
def test_packed_items_equal_the_items(some):
    packed = Items(some)
    assert list(packed) == some and len(packed) == len(some)
    assert packed == tuple(some) == packed
    assert packed != [*some, item(0)] and packed != 3
    assert pickle.loads(pickle.dumps(packed)) == packed


def test_indices_and_slices_are_those_of_a_list():
    some = [item(n) for n in range(3 * BLOCK + 5)]
    packed = Items(some)
    for index in (0, BLOCK, -1, 2 * BLOCK - 1):
        assert packed[index] == some[index]
    with pytest.raises(IndexError, match="out of range"):
        packed[len(some)]
    for cut in (
        slice(0, BLOCK),
        slice(BLOCK, 2 * BLOCK),
        slice(3 * BLOCK, 4 * BLOCK),
        slice(5, BLOCK + 9),
        slice(BLOCK, BLOCK + 1),
        slice(None),
        slice(9, 9),
        slice(None, None, -100),
    ):
        assert list(packed[cut]) == some[cut], cut


def test_a_slice_of_whole_blocks_packs_nothing_again(monkeypatch):
    packed = Items(item(n) for n in range(3 * BLOCK))
    monkeypatch.delattr(items, "_pack")
    assert packed[BLOCK : 2 * BLOCK][0] == item(BLOCK)
    with pytest.raises(NameError, match="_pack"):
        packed[1:BLOCK]


def test_items_are_sorted_by_path_whatever_their_order(monkeypatch):
    monkeypatch.setattr(items, "RUN", 50)
    some = [item(n) for n in range(333)]
    sorter = ItemSorter()
    sorter.extend(random.Random(0).sample(some, len(some)))
    sorter.add(Item("zebra.jpg"))
    assert (len(sorter), sorter.labelled) == (334, 333)
    assert list(sorter.sorted()) == [*some, Item("zebra.jpg")]
    assert list(ItemSorter().sorted()) == []


def test_a_packed_item_takes_60_bytes_at_most():
    assert len(pickle.dumps(Items(item(n) for n in range(10 * BLOCK)))) < 60 * 10 * BLOCK
