"""Which answers in a log count, which version is compared, and what is measured of the images."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgpipe.components.common.images import frame
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources import read_source
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.request_drift import requests
from imgpipe.pipeline.request_drift.logged_answers import LoggedAnswers
from tests.images import encoded
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities, write_log

MODEL = {1: {*CLASSES}}


def read(path, model=MODEL):
    """Return the compared version, the requests to it and the notes."""
    version, answers, notes = requests.read(LoggedAnswers(path), model)
    return version, answers, notes.findings()


def test_answers_are_read_with_their_images(tmp_path):
    said = np.float32([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [np.nan, np.nan, np.nan]])
    labels = ["owl", "cat", "dog"]
    write_log(tmp_path / "r", said, [image(0), image(1), image(0)], labels=labels)
    version, answers, notes = read(tmp_path / "r")
    assert (version, notes) == (1, ())
    assert [answer.label for answer in answers] == labels
    assert [answer.confidence for answer in answers] == pytest.approx([0.7, 0.5, 0.0])
    assert 0 < answers[0].time <= answers[-1].time
    reader = LoggedAnswers(tmp_path / "r").reader
    sent = [reader.read(answer.item) for answer in answers]
    assert sent == [image(0), image(1), image(0)]


def test_the_newest_version_with_enough_answers_is_compared(tmp_path):
    model = {1: {"ant", "bee", "fly"}, 2: {*CLASSES}, 3: {*CLASSES}}
    write_log(tmp_path / "r", probabilities(60), classes=("ant", "bee", "fly"), version=1)
    write_log(tmp_path / "s", probabilities(55), version=2)
    write_log(tmp_path / "t", probabilities(2), version=3)
    version, answers, notes = read(tmp_path, model)
    assert (version, len(answers)) == (2, 55)
    (note,) = notes
    assert note["sentence"] == "62 answers of other versions (version 1 60, version 3 2)"
    assert read(tmp_path / "t", model)[0] == 3, "too few answers are better than none"


def test_the_log_of_another_model_is_refused_with_what_it_answers(tmp_path):
    write_log(tmp_path / "r", probabilities(2), classes=("ant", "bee", "fly"))
    with pytest.raises(ConfigError, match=r"answers such as fly.*classes cat, dog, owl.*--model"):
        read(tmp_path / "r")
    write_log(tmp_path / "s", probabilities(2)[:, :2], labels=["cat", "dog"])
    with pytest.raises(ConfigError, match=r"answers such as cat, dog\): other classes"):
        read(tmp_path / "s")


def test_answers_of_a_removed_version_are_named(tmp_path):
    write_log(tmp_path / "r", probabilities(2), version=1)
    with pytest.raises(ResourceError, match=r"version 1\): there is no such version") as refused:
        read(tmp_path / "r", {2: {*CLASSES}})
    assert "Expected: answers of version 2" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", r"it is empty.*--log-share"), (b"a text", "breaks off after 0 records")],
)
def test_a_file_without_records_is_refused(tmp_path, content, words):
    (tmp_path / "r-1.tfrecord").write_bytes(content)
    with pytest.raises(ResourceError, match=words):
        read(tmp_path / "r-1.tfrecord")


def measure(prefix, sent):
    write_log(prefix, probabilities(len(sent)), sent)
    source = LoggedAnswers(prefix)
    items = [answer.item for answer in source.answers(Notes())]
    return requests.measure(source, items, Path(), None)


def test_measurements_are_those_of_ingestion(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.png").write_bytes(image(len(label) + ord(label[0])))
    images = read_source(str(tmp_path / "photos"))
    rows = inspect(images.reader, images.items, 1_000_000)
    table = frame(rows, large=True)
    table["aspect_ratio"] = (table["width"] / table["height"]).astype("float32")
    expected = table[[*requests.FEATURES]].to_dict("records")
    measured = measure(tmp_path / "r", [images.reader.read(item) for item in images.items])
    assert measured.rows == expected and measured.undecodable == 0


def test_images_are_measured_with_the_colours_that_the_served_model_sees(tmp_path):
    palette = Image.open(io.BytesIO(image(1))).convert("P")
    measured = measure(tmp_path / "r", [encoded(palette, "BMP")])
    assert measured.undecodable == 0 and measured.rows[0][names.MODE] == "P"


def test_images_that_cannot_be_decoded_are_counted_and_removed_ones_are_not(tmp_path):
    write_log(tmp_path / "r", probabilities(3), [image(1), b"no image", image(2)])
    (file,) = write_log(tmp_path / "s", probabilities(2), [image(3), b"no image"])
    source = LoggedAnswers(tmp_path)
    items = [answer.item for answer in source.answers(Notes())]
    file.unlink()
    measured = requests.measure(source, items, Path(), None)
    assert (len(measured.rows), measured.undecodable) == (2, 1)


def test_a_limited_number_of_images_is_spread_over_all():
    chosen = requests.spread(range(1000), 10)
    assert len(chosen) == 10 and chosen[0] == 0 and chosen[-1] == 900
    assert requests.spread(range(1000), 1000) == range(1000)
