"""One record a file, equal to what the serving op says, on real broken files too."""

from __future__ import annotations

import pytest

from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.example_gen.sources.folder import FolderSource
from imgpipe.components.image_file.inspection import read_files, to_example
from imgpipe.components.records import first, text
from imgpipe.models import feature_names as names

LIMIT = 100_000_000


def read(folder, limit=LIMIT):
    source = FolderSource(str(folder))
    return {r.item.path: r for r in read_files(source, source.listing().items, limit)}


def test_good_and_bad_files_each_give_a_record_in_order(photos, encode):
    folder = photos(
        {
            "a": 3,
            "b/cut.jpg": encode()[:300],
            "b/empty.jpg": b"",
            "b/good.png": encode("PNG"),
            "b/words.jpg": b"no picture",
        }
    )
    (folder / "a/gone.jpg").symlink_to("nowhere")
    records = read(folder)
    assert list(records) == sorted(records) and len(records) == 8
    assert records["b/good.png"].size == (40, 32) and not records["b/good.png"].decode_error
    assert "JPEG" in records["b/cut.jpg"].decode_error
    assert "Op:" not in records["b/cut.jpg"].decode_error
    assert records["b/empty.jpg"].decode_error == "the file is empty"
    assert "Unknown image file format" in records["b/words.jpg"].decode_error
    assert records["a/gone.jpg"].read_error == "No such file or directory"
    assert records["a/gone.jpg"].image_hash == ""


def test_over_the_limit_is_not_decoded(photos, encode):
    record = read(photos({"a/x.jpg": encode(), "b/y.jpg": encode(size=(20, 20))}), limit=500)
    assert record["a/x.jpg"].size is None
    assert "40 x 32 pixels are over the limit of 500" in record["a/x.jpg"].decode_error
    assert record["b/y.jpg"].size == (20, 20)


def test_example_holds_every_feature(photos, encode):
    record = read(photos({"a/x.jpg": encode(), "b/y.jpg": encode(seed=1)}))["b/y.jpg"]
    example = to_example(record, "train", ("a", "b"))
    assert first(example, names.IMAGE_BYTES) == encode(seed=1)
    assert (text(example, names.LABEL), first(example, names.LABEL_INDEX)) == ("b", 1)
    assert first(example, names.ASPECT_RATIO) == pytest.approx(40 / 32)
    assert set(names.METADATA) <= set(example.features.feature)
    assert first(to_example(record, "train", ("a",)), names.LABEL_INDEX) == -1


def test_every_broken_image_is_what_the_serving_op_says(shared_data, broken_images):
    items = [Item(path) for path in sorted(broken_images)]
    for record in read_files(FolderSource(str(shared_data)), items, LIMIT):
        said = broken_images[record.item.path]["tf"]
        assert (record.decode_error == "") == said.startswith("OK"), record.item.path
        if said.startswith("OK"):
            height, width = said[4:-1].split(",")[:2]
            assert record.size == (int(width), int(height)), record.item.path
