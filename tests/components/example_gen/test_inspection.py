"""Inspection gives one record a file; its cache answers for content that is known."""

import dataclasses
import io
from unittest.mock import Mock

import pytest
import tensorflow as tf
from PIL import Image

from imgpipe.components.common import images
from imgpipe.components.common.image_file import content, header
from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.example_gen import inspection
from imgpipe.components.example_gen.inspection import InspectionCache, inspect
from imgpipe.components.example_gen.sources import Item, read_source
from imgpipe.models.errors import ResourceError
from imgpipe.serving.look import Look
from tests.components.filtered import Memory

LIMIT = 1_000_000


def read(folder, limit=LIMIT, vocabulary=("a", "b")):
    images = read_source(str(folder))
    return {
        record.path: record
        for record in inspect(images.reader, images.items, limit, vocabulary=vocabulary)
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
    assert records["b/words.jpg"].decode_error == 'text that begins with "no image"'
    assert records["a/gone.jpg"].read_error == "No such file or directory"
    assert records["a/gone.jpg"].image_hash == ""


def test_an_image_over_the_pixel_limit_is_not_decoded(photos, encode):
    record = read(photos({"a/x.jpg": encode(), "b/y.jpg": encode(size=(20, 20))}), limit=500)
    assert record["a/x.jpg"].figures == {}
    assert "40 x 32 pixels are over the limit of 500" in record["a/x.jpg"].decode_error
    assert (record["b/y.jpg"].width, record["b/y.jpg"].height) == (20, 20)


def test_rows_that_were_written_are_read_again(photos, encode, tmp_path):
    files = {
        "a/x.jpg": encode(),
        "b/y.png": encode("PNG", mode="RGBA"),
        "b/cut.jpg": encode()[:300],
    }
    rows = [*read(photos(files)).values()]
    file = str(tmp_path / "rows.arrow")
    images.write(file, images.frame(rows, large=True))
    stored = [dataclasses.replace(row, image_bytes=b"", perceptual_hash=b"") for row in rows]
    assert [*images.rows(images.read_file(file, figures=True))] == stored
    hashes = [row.perceptual_hash or bytes(ALL_BYTES) for row in rows]
    assert [*images.perceptual_hashes(file)] == hashes


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


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Return a function {path: bytes} → records, and numbers of files measured and probed."""
    done = []
    measure, probe, hashes = content.measure, content.probe, content.perceptual_hashes
    monkeypatch.setattr(content, "measure", lambda *a: done.append("measured") or measure(*a))
    monkeypatch.setattr(
        content, "perceptual_hashes", lambda *a: done.append("hashed") or hashes(*a)
    )
    monkeypatch.setattr(content, "probe", lambda *a: done.append("probed") or probe(*a))

    def make(files, limit=LIMIT, store=str(tmp_path / "judge")):
        done.clear()
        items = [Item(path, "a") for path in files]
        records = list(inspection.inspect(Memory(files), items, limit, store))
        assert done.count("hashed") == done.count("measured")
        return records, (done.count("measured"), done.count("probed"))

    return make


def test_a_second_inspection_gives_the_same_records_and_decodes_nothing(look, encode):
    files = {
        "a.jpg": encode(),
        "b.png": encode("PNG", mode="RGBA"),
        "cut.jpg": encode(seed=1)[:300],
        "words.jpg": b"no image",
        "empty.jpg": b"",
        "big.png": encode("PNG", size=(1200, 900), mode="L"),
    }
    first, work = look(files)
    assert work[0] == 2 and work[1] >= len(files)
    again, work = look(files)
    assert work == (0, 0)
    assert again == first and sum(record.is_measured for record in again) == 2
    assert {r.path for r in again if r.decode_error} == {
        "cut.jpg",
        "words.jpg",
        "empty.jpg",
        "big.png",
    }


def test_only_changed_content_is_inspected_and_renamed_files_are_not(look, encode):
    look({"a.jpg": encode(seed=1), "b.jpg": encode(seed=2)})
    records, work = look({"moved/a.jpg": encode(seed=1), "b.jpg": encode(seed=3)})
    assert work == (1, 1)
    assert [r.path for r in records] == ["moved/a.jpg", "b.jpg"]


def test_results_of_changed_code_are_not_used(tmp_path, monkeypatch):
    InspectionCache(str(tmp_path), LIMIT).put("00", content.Content(width=3))
    kept = InspectionCache(str(tmp_path), LIMIT)
    assert kept.get("00") == content.Content(width=3)
    assert kept.get("01") is None
    monkeypatch.setattr(inspection.source_code, "fingerprint", lambda *_: "another")
    assert InspectionCache(str(tmp_path), LIMIT).get("00") is None


def test_files_of_a_damaged_cache_are_inspected_again(look, tmp_path, encode):
    files = {"a.jpg": encode()}
    first, _ = look(files)
    for file in (tmp_path / "judge").glob("verdicts/*/*"):
        file.write_bytes(b"not a result")
    again, work = look(files)
    assert work == (1, 1)
    assert [dataclasses.asdict(r) for r in again] == [dataclasses.asdict(r) for r in first]


def test_a_shortage_of_memory_is_an_error_and_no_property_of_the_image(look, encode, monkeypatch):
    """Otherwise the cache would call the image undecodable for ever."""

    def fail(data):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    files = {"b.jpg": encode(seed=2)}
    with monkeypatch.context() as patched:
        patched.setattr(content.preprocess, "decode", fail)
        with pytest.raises(ResourceError, match="not enough memory to decode an image"):
            content.decode(Look(files["b.jpg"]))
        patched.setattr(header, "pillow", Mock(side_effect=MemoryError))
        transparent = io.BytesIO()
        Image.new("RGBA", (8, 8)).save(transparent, "GIF")
        with pytest.raises(ResourceError, match="not enough memory to decode an image"):
            header.alpha_channel(transparent.getvalue(), "GIF", "P")
    assert look(files)[0][0].figures
