"""Tests of HashColumn, which holds an array of names in less memory."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from imgpipe.models.features.hash_column import HashColumn, distinct, shortened

HASHES = np.array([hashlib.sha256(str(n).encode()).hexdigest() for n in range(40)], "S64")
#: Hashes that end in zeros; NumPy drops zero bytes at the end of a single item.
HASHES[0], HASHES[1] = b"0" * 64, b"ab" + b"0" * 62
WORDS = np.array(["b", "a", "film 12", "a", "", "zz"], "S")
UPPER = np.char.upper(HASHES[2:8])
SPACED = np.array([b" ".join([b"ab"] * 21) + b" a"])


@pytest.fixture(params=["hashes", "words", "upper case", "spaces"])
def array(request) -> np.ndarray:
    """Return an array of names that are hashes, words, or nearly hashes."""
    repeated = np.random.default_rng(0).integers(0, 40, 300)
    named = {"hashes": HASHES[repeated], "words": WORDS, "upper case": UPPER, "spaces": SPACED}
    return named[request.param]


def test_a_column_reads_like_its_array(array) -> None:
    column = HashColumn.of(array)
    np.testing.assert_array_equal(np.asarray(column), array)
    assert list(column) == array.tolist()
    assert [column[i] for i in range(len(array))] == array.tolist()
    assert len(column) == len(array) and distinct(column) == len(np.unique(array))
    np.testing.assert_array_equal(np.unique(column), np.unique(array))


def test_row_numbers_sort_like_the_names(array) -> None:
    column = HashColumn.of(array)
    np.testing.assert_array_equal(
        np.argsort(column.numbers, kind="stable"), np.argsort(array, kind="stable")
    )


def test_selected_rows_are_a_column(array) -> None:
    some = np.arange(len(array)) % 3 == 0
    column = HashColumn.of(array)[some]
    assert list(column) == array[some].tolist()
    compact = column.compact()
    assert list(compact) == list(column)
    np.testing.assert_array_equal(np.unique(compact.numbers), np.arange(distinct(column)))
    assert list(HashColumn.of(array)[1:4]) == array[1:4].tolist()


def test_wanted_hashes_are_found(array) -> None:
    column, wanted = HashColumn.of(array), {array[0], b"nowhere", b"f" * 64}
    np.testing.assert_array_equal(column.among(wanted), array == array[0])
    np.testing.assert_array_equal(column.among([array[0]]), array == array[0])
    assert not column.among([]).any() and not column.among([b"f" * 64]).any()
    assert column.names(column.find(wanted)).tolist() == [array[0]]


def test_columns_are_equal_when_their_rows_are(array) -> None:
    column, other = HashColumn.of(array), HashColumn.of(np.append(array, b"0" * 64))
    assert column.equals(other[: len(array)]) and not column.equals(other)
    assert (column.digest() == other[: len(array)].digest()).all()
    changed = HashColumn.of(np.append(array[:-1], HASHES[39:]))
    assert not column.equals(changed) and (column.digest() != changed.digest()).any()


def test_leading_digits_are_returned_as_a_number() -> None:
    expected = [int(name[:8], 16) for name in HASHES.tolist()]
    assert HashColumn.of(HASHES).leading().tolist() == expected
    names = np.array([b"ab12", b"c0ffee0123"])
    assert HashColumn.of(names).leading().tolist() == [0xAB12, 0xC0FFEE01]


def test_hashes_and_other_names_are_joined() -> None:
    parts = [shortened(HASHES[:5]), shortened(WORDS), shortened(HASHES[3:7]), shortened(WORDS[:0])]
    column = HashColumn.joined(parts)
    assert list(column) == [*HASHES[:5].tolist(), *WORDS.tolist(), *HASHES[3:7].tolist()]
    assert parts == [] and list(HashColumn.joined([])) == []


def test_a_million_rows_of_few_images_take_4_bytes_each() -> None:
    column = HashColumn.of(HASHES)[np.zeros(1_000_000, np.int64)]
    assert column.nbytes == 4_000_000 + 32 * 40


def test_a_group_is_named_by_one_of_its_hashes() -> None:
    column = HashColumn.of(np.sort(HASHES))
    grouped = column.grouped(np.arange(40) // 4 * 4)
    assert list(grouped) == np.repeat(np.sort(HASHES)[::4], 4).tolist()
