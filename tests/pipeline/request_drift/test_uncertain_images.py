"""Tests of the folder of the least certain images, which is new, complete and has an index."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.request_drift import log, uncertain_images
from imgpipe.pipeline.request_drift.survey import survey
from tests.pipeline.request_drift.drawn import image, write_log

CLASSES = ("a/b", "cat", "ü")
MODEL = log.Model({1: CLASSES})
SAID = np.float32([[0.9, 0.06, 0.04], [0.4, 0.35, 0.25], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])


def written(tmp_path, encode=lambda data: data, most=3):
    """Write a log and save its least certain images; return the folder and their number."""
    sent = [encode(image(number)) for number in (0, 1, 2, 1)]
    files = write_log(tmp_path / "r", SAID, sent, classes=CLASSES, labels=["unknown"] * 4)
    found = survey(log.read(files, MODEL, log.ReadStatistics()), most)
    target = tmp_path / "images"
    return target, uncertain_images.save(target, files, MODEL, found.uncertain)


def test_files_are_named_by_rank_label_and_probability_and_hold_the_bytes(tmp_path):
    target, count = written(tmp_path)
    assert count == 3
    names = ["000-a_b-0.400.png", "001-ü-0.700.png", "002-a_b-0.900.png", "index.csv"]
    assert sorted(path.name for path in target.iterdir()) == names
    assert (target / names[0]).read_bytes() == image(1)
    assert list(tmp_path.glob(".tmp-*")) == []


def test_the_index_has_the_answer_the_version_and_the_time(tmp_path):
    target, _ = written(tmp_path, most=1)
    with (target / uncertain_images.INDEX).open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row.pop("time").startswith("20")
    assert row == {
        "file": "000-a_b-0.400.png",
        "label": "a/b",
        "probability": "0.4000",
        "second": "cat",
        "second_probability": "0.3500",
        "answer": "unknown",
        "version": "1",
    }


def test_images_of_an_unknown_format_are_written_too(tmp_path):
    target, _ = written(tmp_path, encode=lambda data: b"?" + data)
    assert {path.suffix for path in target.iterdir()} == {".bin", ".csv"}


def test_an_existing_folder_is_never_changed(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists already; name a new folder"):
        uncertain_images.check_new(tmp_path / "images")
    with pytest.raises(ConfigError, match="exists already"):
        written(tmp_path)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["mine.jpg"]
    with pytest.raises(ConfigError, match="the folder above it does not exist"):
        uncertain_images.check_new(tmp_path / "none" / "images")


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uncertain_images, "write_index", full)
    with pytest.raises(ResourceError, match=r"cannot write --images .*No space left"):
        written(tmp_path)
    assert not (tmp_path / "images").exists() and list(tmp_path.glob(".tmp-*")) == []
