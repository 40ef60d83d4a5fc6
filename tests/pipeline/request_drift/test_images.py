"""Tests that logged images are measured as at ingestion."""

from __future__ import annotations

import io

from PIL import Image

from imgpipe.components.common.storage.records import first
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import open_source
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.request_drift import images, log
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities, write_log


def test_measurements_are_those_of_ingestion(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.png").write_bytes(image(len(label) + ord(label[0])))
    source = open_source(str(tmp_path / "photos"))
    items = source.listing().items
    expected = []
    for record in inspect(source, items, 1_000_000):
        example = record.to_example()
        expected.append({name: first(example, name) for name in images.FEATURES})
    found = images.MeasuredImages()
    images.measure([(item.path, source.read(item)) for item in items], found)
    for row in expected:
        row |= {name: row[name].decode() for name in (names.FORMAT, names.MODE)}
    assert found.rows == expected and found.failed == 0


def test_undecodable_images_are_counted_and_named(monkeypatch):
    monkeypatch.setattr(images, "BATCH_IMAGES", 2)
    sent = [("first", image(1)), ("second", b"no image"), ("third", image(2)), ("last", b"")]
    found = images.MeasuredImages()
    images.measure(sent, found)
    assert len(found.rows) == 2 and found.failed == 2
    assert [row["image"] for row in found.undecodable] == ["second", "last"]
    assert all(row["error"] for row in found.undecodable)


def test_images_are_measured_with_the_colours_that_the_served_model_sees():
    stream = io.BytesIO()
    Image.open(io.BytesIO(image(1))).convert("P").save(stream, "BMP")
    found = images.MeasuredImages()
    images.measure([("a.bmp", stream.getvalue())], found)
    assert found.failed == 0 and found.rows[0][names.MODE] == "P"


def test_images_are_fetched_by_their_location(tmp_path):
    sent = [image(i) for i in range(4)]
    files = write_log(tmp_path / "r", probabilities(4), sent, batch=2)
    wanted = {log.Location(0, 0, 1), log.Location(0, 1, 0)}
    found = list(images.fetch(files, 1, CLASSES, wanted))
    assert [image for _, image in found] == sent[1:3]
    assert found[0][0] == f"{files[0].name}, record 0, image 1"


def test_a_limited_number_of_locations_is_spread_over_all():
    places = [log.Location(0, number, 0) for number in range(1000)]
    taken = images.spread(places, 10)
    assert len(taken) == 10 and taken[0] == places[0] and taken[-1] == places[900]
    assert images.spread(places, 1000) == places
