"""Tests that logged images are measured as at ingestion, and which of them."""

import io
from pathlib import Path

from PIL import Image

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.example_gen.sources.request_log import LogSource
from imgpipe.models import names
from imgpipe.pipeline.request_drift import requests
from tests.pipeline.request_drift.drawn import image, probabilities, write_log


def measure(prefix, sent):
    write_log(prefix, probabilities(len(sent)), sent)
    source = LogSource(str(prefix))
    items = [answer.item for answer in source.answers([])]
    return requests.measure(source, items, Path(), None)


def test_measurements_are_those_of_ingestion(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.png").write_bytes(image(len(label) + ord(label[0])))
    source = open_source(str(tmp_path / "photos"))
    items = source.listing().items
    expected = [
        {name: row.metadata[name] for name in requests.FEATURES}
        for row in inspect(source, items, 1_000_000)
    ]
    measured = measure(tmp_path / "r", [source.read(item) for item in items])
    assert measured.rows == expected and measured.undecodable == 0


def test_images_are_measured_with_the_colours_that_the_served_model_sees(tmp_path):
    stream = io.BytesIO()
    Image.open(io.BytesIO(image(1))).convert("P").save(stream, "BMP")
    measured = measure(tmp_path / "r", [stream.getvalue()])
    assert measured.undecodable == 0 and measured.rows[0][names.MODE] == "P"


def test_images_that_cannot_be_decoded_are_counted_and_removed_ones_are_not(tmp_path):
    write_log(tmp_path / "r", probabilities(3), [image(1), b"no image", image(2)])
    (file,) = write_log(tmp_path / "s", probabilities(2), [image(3), b"no image"])
    source = LogSource(str(tmp_path))
    items = [answer.item for answer in source.answers([])]
    file.unlink()
    measured = requests.measure(source, items, Path(), None)
    assert (len(measured.rows), measured.undecodable) == (2, 1)


def test_a_limited_number_of_images_is_spread_over_all():
    chosen = requests.spread(range(1000), 10)
    assert len(chosen) == 10 and chosen[0] == 0 and chosen[-1] == 900
    assert requests.spread(range(1000), 1000) == range(1000)
