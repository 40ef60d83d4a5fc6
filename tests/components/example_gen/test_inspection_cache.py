"""The inspection cache answers for content that is known; changed content is inspected again."""

import dataclasses
import io
from unittest.mock import Mock

import pytest
import tensorflow as tf
from PIL import Image

from imgpipe.components.common.image_file import content
from imgpipe.components.example_gen import inspection
from imgpipe.components.example_gen.inspection import InspectionCache
from imgpipe.components.example_gen.sources.base import Item
from imgpipe.models.errors import ResourceError
from imgpipe.serving.look import Look
from tests.components.filtered import Memory

LIMIT = 1_000_000


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Return a function that inspects files and counts the work.

    It takes {path: bytes} and returns the records and the numbers of files that were measured and
    that were probed.
    """
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
        patched.setattr(content, "pillow", Mock(side_effect=MemoryError))
        transparent = io.BytesIO()
        Image.new("RGBA", (8, 8)).save(transparent, "GIF")
        with pytest.raises(ResourceError, match="not enough memory to decode an image"):
            content.alpha_channel(transparent.getvalue(), "GIF", "P")
    assert look(files)[0][0].figures
