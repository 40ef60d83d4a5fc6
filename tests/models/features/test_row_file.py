"""Tests of rows in a temporary file, which equal those in memory and are trained on in chunks."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.models import feature_names as names
from imgpipe.models.features import row_file
from imgpipe.models.features.bank import open_split
from imgpipe.models.features.row_file import RowFile
from imgpipe.models.settings import ModelSettings
from imgpipe.models.training import datasets
from imgpipe.models.training.training_loop import fit_head
from tests.models.banks import read_split

_COUNT = 50


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store rows in files instead of memory, in chunks of seven rows of two float16 values."""
    monkeypatch.setattr(row_file, "IN_MEMORY", 0)
    monkeypatch.setattr(row_file, "CHUNK", 28)
    monkeypatch.setattr(row_file, "ENOUGH_ROWS", 1)


def _filled(order: np.ndarray) -> RowFile:
    """Return 50 rows [index, -index] that were written in the given order."""
    rows = RowFile(_COUNT, (2,), np.float16)
    values = np.stack([order, -order], axis=1).astype(np.float16)
    batches = [(order[i : i + 9], values[i : i + 9]) for i in range(0, len(order), 9)]
    rows.fill(batches)
    return rows


def test_rows_are_read_from_their_places(small_chunks: None) -> None:
    with _filled(np.random.default_rng(0).permutation(_COUNT)) as rows:
        assert rows.in_memory is None and rows.chunk == 7
        np.testing.assert_array_equal(rows.read(0, _COUNT)[:, 0], np.arange(_COUNT))
        for index in ([3, 4, 5], [5, 3], [49, 0, 20], []):
            found = rows.gather(np.array(index, np.int64))
            assert found.shape == (len(index), 2)
            assert found[:, 0].tolist() == index


def test_selected_rows_are_read_from_the_file_when_they_are_needed(small_chunks: None) -> None:
    with _filled(np.random.default_rng(1).permutation(_COUNT)) as rows:
        odd = row_file.selected(rows, np.arange(1, _COUNT, 2))
        few = row_file.selected(odd, np.array([0, 3, 4, 20]))
        assert isinstance(few, row_file.Selection) and few.in_memory is None
        assert (odd.shape, len(few), few.chunk) == ((25, 2), 4, 7)
        assert np.asarray(few)[:, 0].tolist() == [1, 7, 9, 41]
        assert odd.read(5, 9)[:, 0].tolist() == [11, 13, 15, 17]
        for index in ([24, 0, 3], [3, 2], [], list(range(25))):
            found = row_file.gathered(odd, np.array(index, np.int64))
            assert found[:, 0].tolist() == [2 * place + 1 for place in index]


def test_few_selected_rows_are_kept_in_memory(small_chunks: None, monkeypatch) -> None:
    with _filled(np.arange(_COUNT)) as rows:
        monkeypatch.setattr(row_file, "IN_MEMORY", 40)
        assert isinstance(row_file.selected(rows, np.arange(10)), np.ndarray)
        assert isinstance(row_file.selected(rows, np.arange(11)), row_file.Selection)


def _epochs(settings: ModelSettings, first: int = 0) -> list[np.ndarray]:
    """Return the indices of the rows of each epoch, from the epoch `first` on."""
    with _filled(np.arange(_COUNT)) as rows:
        vectors = datasets.Vectors(rows, np.arange(_COUNT) % 2)
        found = list(datasets.training(vectors, 2, settings, first))
        steps = datasets.steps_per_epoch(vectors, settings)
    assert all(
        (inputs[:, 0].numpy() % 2 == one_hot.numpy().argmax(1)).all()
        for inputs, one_hot, _ in found
    )
    inputs = [batch[0].numpy()[:, 0] for batch in found]
    return [np.concatenate(inputs[i : i + steps]) for i in range(0, len(inputs), steps)]


def test_an_epoch_has_every_row_and_is_repeatable(small_chunks: None) -> None:
    settings = ModelSettings(batch_size=4, epochs=3)
    epochs = _epochs(settings)
    assert all(sorted(epoch) == list(range(_COUNT)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    for one, other in zip(epochs[1:], _epochs(settings, first=1), strict=True):
        np.testing.assert_array_equal(one, other)


def test_chunks_are_in_another_order_each_epoch_and_shuffled(small_chunks: None) -> None:
    first, second = _epochs(ModelSettings(batch_size=4, epochs=2))
    orders = [[int(epoch[i]) // 7 for i in range(0, 49, 7)] for epoch in (first, second)]
    assert orders[0] != orders[1]
    assert not (np.diff(first[:7]) == 1).all()


def test_a_head_learns_from_a_bank_in_a_file(write_bank, tmp_path, small_chunks: None) -> None:
    uri = write_bank(tmp_path, images=40, shuffle=3)
    settings = ModelSettings(epochs=12, batch_size=16, learning_rate=0.05)
    with open_split(uri, names.TRAIN, 3) as train, open_split(uri, names.VALIDATION, 3, 0) as held:
        assert isinstance(train.features, RowFile) and train.features.in_memory is None
        found = fit_head(train, held, 3, settings)
    assert found.best["val_accuracy"] > 0.95


def test_rows_of_a_file_equal_rows_in_memory(write_bank, tmp_path, monkeypatch) -> None:
    uri = write_bank(tmp_path, shuffle=1)
    plain = read_split(uri, names.TRAIN, 3).up_to(1)
    monkeypatch.setattr(row_file, "IN_MEMORY", 0)
    with open_split(uri, names.TRAIN, 3, 1) as rows:
        every = rows.select(np.ones(len(rows), np.bool_))
        few = rows.some_clean(7)
        for column in ("features", "labels", "views", "hashes"):
            np.testing.assert_array_equal(getattr(every, column), getattr(plain, column))
    assert len(few) <= 7 and not few.views.any()


def test_blocks_of_wide_rows_are_limited_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_file, "_MOST_BYTES", 4 * 7 * 30)
    rows = np.arange(100 * 30).reshape(100, 30)
    found = [block for _, block in row_file.blocks(rows, 50)]
    assert [len(block) for block in found] == [7] * 14 + [2]
    np.testing.assert_array_equal(np.concatenate(found), rows)
    assert len(next(row_file.blocks(rows[:, :3], 50))[1]) == 50, "narrow rows are not divided"
