"""Tests of which answers in a log count, and of which version is compared."""

import numpy as np
import pytest

from imgpipe.components.example_gen.sources.request_log import LogSource
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.request_drift import requests
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities, write_log

MODEL = {1: {*CLASSES}}


def read(path, model=MODEL):
    """Return the compared version, the requests to it and the notes."""
    return requests.read(LogSource(str(path)), model)


def test_answers_are_read_with_their_images(tmp_path):
    said = np.float32([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [np.nan, np.nan, np.nan]])
    labels = ["owl", "cat", "dog"]
    write_log(tmp_path / "r", said, [image(0), image(1), image(0)], labels=labels)
    version, answers, notes = read(tmp_path / "r")
    assert (version, notes) == (1, [])
    assert [answer.label for answer in answers] == labels
    assert [answer.confidence for answer in answers] == pytest.approx([0.7, 0.5, 0.0])
    assert 0 < answers[0].time <= answers[-1].time
    source = LogSource(str(tmp_path / "r"))
    sent = [source.read(answer.item) for answer in answers]
    assert sent == [image(0), image(1), image(0)]


def test_the_newest_version_with_enough_answers_is_compared(tmp_path):
    model = {1: {"ant", "bee", "fly"}, 2: {*CLASSES}, 3: {*CLASSES}}
    write_log(tmp_path / "r", probabilities(60), classes=("ant", "bee", "fly"), version=1)
    write_log(tmp_path / "s", probabilities(55), version=2)
    write_log(tmp_path / "t", probabilities(2), version=3)
    version, answers, notes = read(tmp_path, model)
    assert (version, len(answers)) == (2, 55)
    assert [(note["reason"], note["examples"][0]["path"], note["count"]) for note in notes] == [
        ("other_answers", "version 1", 60),
        ("other_answers", "version 3", 2),
    ]
    assert read(tmp_path / "t", model)[0] == 3, "too few answers are better than none"


def test_the_log_of_another_model_is_refused_with_what_it_answers(tmp_path):
    write_log(tmp_path / "r", probabilities(2), classes=("ant", "bee", "fly"))
    with pytest.raises(ConfigError, match=r"answers such as fly.*classes cat, dog, owl.*--model"):
        read(tmp_path / "r")
    write_log(tmp_path / "s", probabilities(2)[:, :2], labels=["cat", "dog"])
    with pytest.raises(ConfigError, match="answers such as cat, dog: other classes"):
        read(tmp_path / "s")


def test_answers_of_a_removed_version_are_named(tmp_path):
    write_log(tmp_path / "r", probabilities(2), version=1)
    with pytest.raises(ResourceError, match="version 1: there is no such version") as refused:
        read(tmp_path / "r", {2: {*CLASSES}})
    assert "Expected: answers of version 2" in str(refused.value)


def test_an_empty_log_is_refused_with_advice(tmp_path):
    (tmp_path / "r-1.tfrecord").write_bytes(b"")
    with pytest.raises(ResourceError, match=r"it is empty.*--log-share"):
        read(tmp_path / "r-1.tfrecord")


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "r-1.tfrecord").write_bytes(b"a text")
    with pytest.raises(ResourceError, match="breaks off after 0 records"):
        read(tmp_path / "r-1.tfrecord")
