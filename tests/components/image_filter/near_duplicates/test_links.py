"""Pairs of images are joined to groups of connected images."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipe.components.image_filter.near_duplicates import links
from imgpipe.components.image_filter.near_duplicates.links import Links


def named(pairs):
    """Return the smallest image of each image's group, by a simple algorithm on sets."""
    groups = []
    for pair in pairs:
        touched = [group for group in groups if not group.isdisjoint(pair)]
        groups = [group for group in groups if group.isdisjoint(pair)]
        groups.append(set(pair).union(*touched))
    return {image: min(group) for group in groups for image in group if len(group) > 1}


def test_without_pairs_nothing_is_grouped():
    images, groups = Links().groups()
    assert (images.tolist(), groups.tolist()) == ([], [])
    assert Links().forest().shape == (0, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    st.integers(0, 40),
)
def test_groups_are_the_connected_images(pairs, cut):
    table = np.array(pairs, np.int64).reshape(-1, 2)
    one, other = Links(), Links()
    one.add(table[:cut])
    other.add(table[cut:])
    images, groups = Links([one.forest(), other.forest()]).groups()
    assert dict(zip(images.tolist(), groups.tolist(), strict=True)) == named(pairs)


def test_repeated_pairs_do_not_accumulate(monkeypatch):
    monkeypatch.setattr(links, "PENDING", 10)
    found, sizes = Links(), []
    for _ in range(100):
        found.add(np.array([[3, 4], [4, 5], [5, 3]]))
        sizes.append(len(pickle.dumps(found)))
    assert max(sizes[20:]) <= max(sizes[:20])
    assert sorted(map(tuple, found.forest().tolist())) == [(3, 4), (3, 5)]
