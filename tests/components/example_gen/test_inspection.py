"""Inspection gives one record for each file, and its errors are those of the serving op.

This is also tested on real damaged files.
"""

import dataclasses
import io

import pytest
from PIL import Image

from imgpipe.components.common import row_files
from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.components.example_gen.sources.folder import FolderSource
from imgpipe.models.errors import ResourceError
from tests.components.filtered import Memory

LIMIT = 100_000_000


def read(folder, limit=LIMIT, vocabulary=("a", "b")):
    """Inspect the files of a folder and return the records by path."""
    source = FolderSource(str(folder))
    return {
        record.path: record
        for record in inspect(source, source.listing().items, limit, vocabulary=vocabulary)
    }


def test_good_and_bad_files_each_give_a_record_in_order(photos, encode):
    folder = photos(
        {
            "a": 3,
            "b/cut.jpg": encode()[:300],
            "b/empty.jpg": b"",
            "b/good.png": encode("PNG"),
            "b/words.jpg": b"no image",
        }
    )
    (folder / "a/gone.jpg").symlink_to("nowhere")
    records = read(folder)
    assert list(records) == sorted(records) and len(records) == 8
    good = records["b/good.png"]
    assert (good.width, good.height, good.decode_error) == (40, 32, "")
    assert "JPEG" in records["b/cut.jpg"].decode_error
    assert "Op:" not in records["b/cut.jpg"].decode_error
    assert records["b/empty.jpg"].decode_error == "the file is empty."
    assert "the file is no image, but text" in records["b/words.jpg"].decode_error
    assert records["a/gone.jpg"].read_error == "No such file or directory"
    assert records["a/gone.jpg"].image_hash == ""


def test_an_image_over_the_pixel_limit_is_not_decoded(photos, encode):
    record = read(photos({"a/x.jpg": encode(), "b/y.jpg": encode(size=(20, 20))}), limit=500)
    assert record["a/x.jpg"].figures == {}
    assert "40 x 32 pixels are over the limit of 500" in record["a/x.jpg"].decode_error
    assert (record["b/y.jpg"].width, record["b/y.jpg"].height) == (20, 20)


def test_damaged_images_are_decodable_if_and_only_if_the_serving_op_decodes_them(
    shared_data, broken_images
):
    items = [Item(path) for path in sorted(broken_images)]
    for record in inspect(FolderSource(str(shared_data)), items, LIMIT):
        said = broken_images[record.path]["tf"]
        if record.hidden_cost:  # it is not decoded, although the op would decode it
            assert record.decode_error == record.hidden_cost
            continue
        assert (record.decode_error == "") == said.startswith("OK"), record.path
        if said.startswith("OK"):
            height, width = said[4:-1].split(",")[:2]
            assert (record.width, record.height) == (int(width), int(height)), record.path


def test_rows_that_were_written_are_read_again(photos, encode, tmp_path):
    files = {
        "a/x.jpg": encode(),
        "b/y.png": encode("PNG", mode="RGBA"),
        "b/cut.jpg": encode()[:300],
    }
    rows = [*read(photos(files)).values()]
    file = str(tmp_path / "rows.arrow")
    row_files.write(file, rows)
    stored = [dataclasses.replace(row, image_bytes=b"", perceptual_hash=b"") for row in rows]
    assert row_files.read(file, with_figures=True) == stored
    hashes = [row.perceptual_hash or bytes(ALL_BYTES) for row in rows]
    assert [*row_files.perceptual_hashes(file)] == hashes


def test_each_file_is_read_once_even_if_the_op_refuses_it(encode):
    files = {"a/x.jpg": encode(), "a/cut.jpg": encode()[:300], "a/y.jpg": encode(seed=1)}
    source = Memory(files)
    records = list(inspect(source, [Item(path, "a") for path in files], LIMIT))
    assert [bool(record.decode_error) for record in records] == [False, True, False]
    assert sorted(source.paths) == sorted(files), "several threads read, in any order"


def test_an_error_while_files_are_read_is_raised_and_takes_none_for_refused(encode):
    class Broken(Memory):
        def read(self, item):
            if item.path == "b.jpg":
                raise ResourceError("the store is locked")
            return super().read(item)

    files = {f"{name}.jpg": encode() for name in "abc"}
    items = [Item(path, "a") for path in files]
    with pytest.raises(ResourceError, match="the store is locked"):
        list(inspect(Broken(files), items, 1_000_000))


def test_the_frames_of_an_animation_count_before_it_is_decoded():
    """The op reads all frames into memory before it gives the first one."""
    frames = [Image.new("L", (40, 30), 60 * n) for n in range(4)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    (record,) = inspect(Memory({"a.gif": stream.getvalue()}), [Item("a.gif", "a")], 4000)
    assert "4 frames of 40 x 30 pixels are over the limit of 4,000" in record.decode_error
