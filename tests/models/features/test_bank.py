"""A bank is read in one order, also if it is larger than memory; what does not fit is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from imgpipe.models import names
from imgpipe.models.arrays import Array
from imgpipe.models.errors import DataRefused, ResourceError
from imgpipe.models.features import rows
from imgpipe.models.features.bank import read_facts, read_rows
from imgpipe.models.training import datasets
from tests.models.banks import bank_row, write_bank, write_examples, write_facts
from tests.network_settings import network_settings

_COUNT = 50


def test_rows_are_sorted_whatever_the_order_of_the_examples(tmp_path) -> None:
    plain = read_rows(write_bank(tmp_path / "a"), names.TRAIN, 3)
    other = read_rows(write_bank(tmp_path / "b", shuffle=1), names.TRAIN, 3)
    for column in ("features", "labels", "views", "hashes"):
        np.testing.assert_array_equal(getattr(plain, column), getattr(other, column))
    assert plain.features.shape == (180, 16) and plain.features.dtype == np.float16
    keys = list(zip(plain.hashes, plain.views.tolist(), strict=True))
    assert keys == sorted(keys)


def _row(**changes: object) -> dict[str, object]:
    return bank_row(b"aa", 0, np.zeros(16)) | changes


def _bank(directory: Path, *rows: dict[str, object]) -> str:
    write_facts(write_examples(directory, [(names.TRAIN, row) for row in rows]), [16])
    return str(directory)


def test_examples_without_a_label_are_left_out(tmp_path) -> None:
    bank = _bank(tmp_path, _row(label_index=-1), _row(label_index=1))
    assert read_rows(bank, names.TRAIN, 2).labels.tolist() == [1]


def test_an_empty_or_absent_split_has_no_rows(tmp_path) -> None:
    bank = _bank(tmp_path)
    shutil.rmtree(tmp_path / "Split-test")
    assert len(read_rows(bank, names.TRAIN, 2)) == 0
    assert len(read_rows(bank, names.TEST, 2)) == 0


def test_features_of_a_wrong_length_are_refused(tmp_path) -> None:
    bank = _bank(tmp_path, _row(), _row(features=bytes(30)))
    with pytest.raises(ResourceError, match=r"expected 32 bytes .* Received: 30"):
        read_rows(bank, names.TRAIN, 2)


def test_a_label_beyond_the_vocabulary_is_refused(tmp_path) -> None:
    bank = _bank(tmp_path, _row(label_index=2))
    with pytest.raises(DataRefused, match="label index 2, the vocabulary has 2 names"):
        read_rows(bank, names.TRAIN, 2)


@pytest.mark.parametrize("text", [None, "{", "{}", '{"sizes": null}'])
def test_a_bank_without_its_description_is_refused(text: str | None, tmp_path) -> None:
    if text is not None:
        (tmp_path / "bank.json").write_text(text)
    with pytest.raises(ResourceError, match="Run FeatureBank again"):
        read_facts(str(tmp_path))


def _filled() -> Array:
    found = rows.empty(_COUNT, (2,), np.float16)
    found[:] = np.stack([np.arange(_COUNT), -np.arange(_COUNT)], axis=1)
    rows.release(found)
    return found


def test_rows_of_a_file_equal_those_in_memory(monkeypatch) -> None:
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    monkeypatch.setattr(rows, "COPIED", 28)  # seven rows of two float16 values
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
        batches = datasets.training(vectors, 2, network_settings(batch_size=4, epochs=3))
        return [inputs[:, 0].numpy().tolist() for inputs, _, _ in batches]

    expected = epochs()
    monkeypatch.setattr(rows, "IN_MEMORY", 0)
    assert epochs() == expected
