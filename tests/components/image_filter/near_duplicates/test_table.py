"""The table of all hashes is sorted by content and is written and read in bounded memory."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from imgpipe.components.image_file.perceptual_hash import ALL_BYTES
from imgpipe.components.image_filter.near_duplicates import matching, table
from imgpipe.components.image_filter.near_duplicates.table import HASH_BYTES


def content(number):
    """Return the content hash of the image with this number, 32 bytes."""
    return hashlib.sha256(str(number).encode()).digest()


def hashes(number):
    """Return random perceptual hashes of the image with this number."""
    return np.random.default_rng(number).bytes(ALL_BYTES)


def shard(numbers, plain=()):
    """Return rows and contents; images with a number in `plain` have no perceptual hashes."""
    rows = [matching.row(content(n).hex(), b"" if n in plain else hashes(n)) for n in numbers]
    return b"".join(rows), b"".join(map(content, numbers))


@pytest.mark.parametrize("pending", [1, 1 << 24], ids=["a shard at a time", "at once"])
def test_rows_are_sorted_by_content_for_any_shards(tmp_path, monkeypatch, pending):
    monkeypatch.setattr(table, "PENDING_BYTES", pending)
    numbers = list(range(600))
    shards = [shard([*numbers[400:], 5, 6]), shard(numbers[:200]), shard(numbers[200:400])]
    made = table.write(shards, str(tmp_path))
    expected = sorted(numbers, key=content)
    assert made.rows == 600
    assert made.column(0).tobytes() == b"".join(map(content, expected))
    third = b"".join(hashes(n)[2 * HASH_BYTES : 3 * HASH_BYTES] for n in expected)
    assert made.column(3).tobytes() == third
    assert made.repeated().tobytes() == b"".join(sorted([content(5), content(6)]))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_rows_at_any_positions_are_returned_in_the_requested_order(tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 7)
    made = table.write([shard(range(50))], f"{scheme}{tmp_path}/tables")
    expected = sorted(range(50), key=content)
    asked = np.random.default_rng(0).permutation(50)[:20]
    parts = list(made.rows_at(asked))
    assert [len(part) for part in parts] == [7, 7, 6]
    rows = [row.tobytes() for part in parts for row in part]
    assert rows == [content(expected[i]) + hashes(expected[i]) for i in asked]
    assert list(made.rows_at(asked[:0])) == []


def test_images_that_cannot_be_compared_count_as_repeated(tmp_path):
    made = table.write([shard([1, 2, 1], plain=(1,))], str(tmp_path))
    assert made.column(0).tobytes() == content(2)
    assert made.repeated().tobytes() == content(1)


def test_a_set_without_images_has_empty_columns(tmp_path):
    made = table.write([], str(tmp_path))
    assert (made.rows, made.column(5).shape, made.repeated().shape) == (0, (0, 32), (0, 32))


def test_a_table_in_an_object_store_is_copied_to_each_worker(tmp_path):
    folder = f"file://{tmp_path}/tables"
    made = table.write([shard(range(20))], folder)
    assert made.uri.startswith(folder)
    assert made.column(0).tobytes() == b"".join(sorted(map(content, range(20))))
    assert made.repeated().shape == (0, 32)
