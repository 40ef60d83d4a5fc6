"""Tests of rows in a mapped file, which equal those in memory."""

from pathlib import Path

import numpy as np
import pytest

from imgpipe.models.arrays import Array
from imgpipe.models.features import rows
from imgpipe.models.settings.model import ModelSettings
from imgpipe.models.training import datasets

_COUNT = 50


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store rows in files instead of memory, copied by seven rows of two float16 values."""
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    monkeypatch.setattr(rows, "COPIED", 28)


def _filled() -> Array:
    """Return 50 rows [index, -index]."""
    found = rows.empty(_COUNT, (2,), np.float16)
    found[:] = np.stack([np.arange(_COUNT), -np.arange(_COUNT)], axis=1)
    rows.release(found)
    return found


def test_rows_of_a_file_equal_those_in_memory(in_files: None) -> None:
    found = _filled()
    assert rows.mapped(found)
    np.testing.assert_array_equal(found[:, 0], np.arange(_COUNT))
    for index in ([3, 4, 5], [5, 3], [49, 0, 20], list(range(0, 50, 2))):
        assert rows.take(found, np.array(index))[:, 0].tolist() == index


def test_reading_gives_the_memory_of_each_block_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = rows.empty(16, (1 << 20,), np.float32)  # 64 MiB
    before = _file_pages()
    for _, block in rows.blocks(found, 1):
        block[:] = 1
        assert _file_pages() - before < 16 << 20
    assert not list(tmp_path.iterdir()), "the file has no name"


def _file_pages() -> int:
    """Return the bytes of mapped files that are in the memory of this process."""
    text = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return sum(int(lines[name].split()[0]) << 10 for name in ("RssFile", "RssShmem"))


def test_training_reads_the_rows_of_a_file_as_those_in_memory(monkeypatch) -> None:
    def epochs() -> list[list[int]]:
        vectors = datasets.Rows(_filled(), np.arange(_COUNT) % 2)
        batches = datasets.training(vectors, 2, ModelSettings(batch_size=4, epochs=3))
        return [inputs[:, 0].numpy().tolist() for inputs, _, _ in batches]

    expected = epochs()
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    assert epochs() == expected
