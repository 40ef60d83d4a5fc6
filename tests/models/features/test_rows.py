"""Tests that labelled images are read in the order of their hashes, and TFRecord files whole."""

from pathlib import Path

import pytest
import tensorflow as tf

from imgpipe.models import names
from imgpipe.models.features.rows import Labelled, record_batches
from tests.models.banks import write_records


def _row(number: int, **changes: object) -> dict[str, object]:
    row = {
        names.IMAGE_HASH: b"%064x" % (number * 7919 % 101),
        names.IMAGE_BYTES: b"image %d" % number,
        names.LABEL_INDEX: number % 3,
    }
    return row | changes


def test_rows_are_sorted_and_their_values_have_their_places(tmp_path) -> None:
    for part in range(2):
        write_records(tmp_path / f"train-{part}", [_row(n) for n in range(part, 100, 2)])
    images = Labelled.read([str(tmp_path / "train-*")])
    assert len(images) == 100 and images.hashes.tolist() == sorted(images.hashes.tolist())
    odd = images.select(images.labels == 1)
    assert len(odd) == 33 and set(odd.labels) == {1}
    for some in (images, odd, images.first(5)):
        found = {}
        for places, encoded in some.values(names.IMAGE_BYTES):
            found.update(zip(places.tolist(), encoded.tolist(), strict=True))
        numbers = [int(found[place].split()[1]) for place in range(len(some))]
        assert [_row(n)[names.IMAGE_HASH] for n in numbers] == some.hashes.tolist()


def test_records_without_a_label_and_later_views_are_left_out(tmp_path) -> None:
    rows = [_row(1, view=view) for view in (2, 0, 1)] + [_row(2, label_index=-1), _row(3)]
    write_records(tmp_path / "train-0", rows)
    images = Labelled.read([str(tmp_path / "train-*")], most_view=1)
    assert sorted(images.views.tolist()) == [0, 0, 1]
    assert not {0, 3} & set(images.numbers.tolist())
    assert len(Labelled.read([str(tmp_path / "none-*")])) == 0


def _written(path: Path, contents: list[bytes]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return str(path)


def test_the_batches_are_those_of_the_standard_dataset(tmp_path: Path) -> None:
    first = _written(tmp_path / "a", [b"0", b"", b"2" * 300_000])
    empty = _written(tmp_path / "b", [])
    last = _written(tmp_path / "c", [b"3", b"4"])
    files = [first, empty, last]
    found = [batch.tolist() for batch in record_batches(files, 2).as_numpy_iterator()]
    wanted = tf.data.TFRecordDataset(files).batch(2).as_numpy_iterator()
    assert found == [batch.tolist() for batch in wanted]
    assert [len(batch) for batch in found] == [2, 2, 1]
    [one] = record_batches(last, 9).as_numpy_iterator()
    assert one.tolist() == [b"3", b"4"]


def test_a_cut_record_is_reported_after_those_before_it(tmp_path: Path) -> None:
    path = _written(tmp_path / "a", [b"whole", b"cut"])
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-2])
    batches = iter(record_batches(path, 1))
    assert next(batches).numpy().tolist() == [b"whole"]
    with pytest.raises(tf.errors.DataLossError, match="truncated"):
        next(batches)
