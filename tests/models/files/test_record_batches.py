"""TFRecord files are read as `tf.data.TFRecordDataset` reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from imgpipe.models.files.record_batches import record_batches


def write(path: Path, contents: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return str(path)


def test_the_batches_are_those_of_the_standard_dataset(tmp_path: Path) -> None:
    first = write(tmp_path / "a", [b"0", b"", b"2" * 300_000])
    empty = write(tmp_path / "b", [])
    last = write(tmp_path / "c", [b"3", b"4"])
    files = [first, empty, last]
    found = [batch.tolist() for batch in record_batches(files, 2).as_numpy_iterator()]
    wanted = tf.data.TFRecordDataset(files).batch(2).as_numpy_iterator()
    assert found == [batch.tolist() for batch in wanted]
    assert [len(batch) for batch in found] == [2, 2, 1]
    [one] = record_batches(last, 9).as_numpy_iterator()
    assert one.tolist() == [b"3", b"4"]


def test_no_file_gives_no_batch() -> None:
    assert list(record_batches([], 2)) == []


def test_a_cut_record_is_reported_after_those_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [b"whole", b"cut"])
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-2])
    batches = iter(record_batches(path, 1))
    assert next(batches).numpy().tolist() == [b"whole"]
    with pytest.raises(tf.errors.DataLossError, match="truncated"):
        next(batches)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(tf.errors.NotFoundError, match="absent"):
        list(record_batches(str(tmp_path / "absent"), 1))
