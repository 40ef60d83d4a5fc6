"""Tests that request logs of the server are found, and read as far as they are intact."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.request_drift import log
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities, write_log

MODEL = {1: CLASSES}


def read(files, model=MODEL):
    """Return the answers in log files, and the statistics of the reading."""
    statistics = log.ReadStatistics()
    return list(log.read(files, model, statistics)), statistics


def test_a_log_is_found_by_file_folder_and_prefix(tmp_path):
    (file,) = write_log(tmp_path / "logs" / "r", probabilities(2))
    (other,) = write_log(tmp_path / "logs" / "other", probabilities(2))
    assert log.log_files(file) == log.log_files(tmp_path / "logs" / "r") == [file]
    assert set(log.log_files(tmp_path / "logs")) == {file, other}


@pytest.mark.parametrize("longer", ["r-owls", "r-20260131"])
def test_a_log_whose_prefix_only_begins_like_another_is_neither_read_nor_deleted(tmp_path, longer):
    others = write_log(tmp_path / longer, probabilities(12), max_bytes=4000)
    files = write_log(tmp_path / "r", probabilities(12), max_bytes=4000)
    assert len(others) > 1 and sorted(log.log_files(tmp_path / longer)) == others
    assert set(log.log_files(tmp_path / "r")) == set(files) - set(others)


def test_the_prefix_of_a_log_may_hold_the_characters_of_a_pattern(tmp_path):
    for number in range(3):
        (tmp_path / f"r[1]-20260131-120000-1-{number}.tfrecord").touch()
    write_log(tmp_path / "r[1]", probabilities(1))
    found = log.log_files(tmp_path / "r[1]")
    assert sorted(found) == sorted(tmp_path.iterdir()) and len(found) == 4


def test_the_oldest_file_of_a_log_comes_first(tmp_path):
    files = write_log(tmp_path / "r", probabilities(12), max_bytes=4000)
    assert len(files) > 1
    by_number = sorted(files, key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    assert log.log_files(tmp_path) == by_number


def test_a_missing_log_is_refused_with_what_was_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"no request log at .*nothing.*--request-log PREFIX"):
        log.log_files(tmp_path / "nothing")


def test_answers_come_with_their_images_row_by_row(tmp_path):
    said = probabilities(5)
    sent = [image(i) for i in range(5)]
    files = write_log(tmp_path / "r", said, sent, batch=3, version=1)
    answers, statistics = read(files)
    assert statistics.records == 2 and not statistics.skipped and not statistics.broken
    assert [answer.image for answer in answers] == sent
    np.testing.assert_allclose([answer.confidence for answer in answers], said.max(axis=1))
    assert [answer.label for answer in answers] == [CLASSES[top] for top in said.argmax(axis=1)]
    assert [(a.location.record, a.location.row) for a in answers][-2:] == [(1, 0), (1, 1)]
    assert {answer.version for answer in answers} == {1} and answers[0].time > 1_700_000_000


def test_answers_of_a_log_without_images_have_none(tmp_path):
    answers, _ = read(write_log(tmp_path / "r", probabilities(2)))
    assert [answer.image for answer in answers] == [None, None]


def test_a_missing_label_is_the_most_probable_class(tmp_path):
    said = np.array([[0.1, 0.2, 0.7]], np.float32)
    (answer,), _ = read(write_log(tmp_path / "r", said, outputs=("probabilities",)))
    assert answer.label == "owl"


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_answers_before_a_damaged_record_count_and_its_position_is_reported(tmp_path, damage):
    (file,) = write_log(tmp_path / "r", probabilities(10))
    (later,) = write_log(tmp_path / "s", probabilities(3))
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[:-5]
    else:
        content[len(content) * 95 // 100] ^= 0xFF
    file.write_bytes(content)
    answers, statistics = read([file, later])
    assert len(answers) == 9 + 3
    (broken,) = statistics.broken
    assert log.damage(broken).startswith(f"{file} breaks off after 9 records: ")


def test_a_file_that_vanished_is_reported(tmp_path):
    (file,) = write_log(tmp_path / "r", probabilities(2))
    answers, statistics = read([tmp_path / "gone.tfrecord", file])
    assert len(answers) == 2 and "gone.tfrecord breaks off after 0" in log.damage(
        statistics.broken[0]
    )


def test_another_models_log_is_refused_with_both_vocabularies(tmp_path):
    files = write_log(tmp_path / "r", probabilities(2), classes=("ant", "bee", "fly"))
    answers, statistics = read(files)
    assert answers == [] and statistics.skipped == {log.OTHER_CLASSES: 2}
    error = log.refusal(statistics, tmp_path, MODEL)
    assert isinstance(error, ConfigError)
    assert "with the classes ant, bee, fly; expected cat, dog, owl" in str(error)


def test_versions_may_differ_in_their_classes(tmp_path):
    model = {1: ("ant", "bee", "fly"), 2: CLASSES}
    files = write_log(tmp_path / "r", probabilities(2), classes=model[1], version=1)
    files += write_log(tmp_path / "s", probabilities(2), version=2)
    answers, statistics = read(files, model)
    assert [answer.label in model[1] for answer in answers] == [True, True, False, False]
    assert not statistics.skipped


def test_answers_of_a_removed_version_are_named(tmp_path):
    files = write_log(tmp_path / "r", probabilities(2), classes=("cat", "dog", "bee"), version=1)
    answers, statistics = read(files, {2: CLASSES})
    assert answers == [] and statistics.gone == {1}
    said = str(log.refusal(statistics, tmp_path, {2: CLASSES}))
    assert "the log has answers of version 1; there are only versions 2" in said


def test_an_empty_log_is_refused_with_advice(tmp_path):
    file = tmp_path / "r-1.tfrecord"
    file.write_bytes(b"")
    answers, statistics = read([file])
    error = log.refusal(statistics, file, MODEL)
    assert answers == [] and isinstance(error, ResourceError)
    assert "is empty" in str(error) and "--log-share" in str(error)


def test_unusable_records_are_counted_by_kind(tmp_path):
    file = tmp_path / "r-1.tfrecord"
    bare = prediction_log_pb2.PredictionLog()
    bare.log_metadata.model_spec.version.value = 1
    bare.predict_log.response.outputs["y"].CopyFrom(tf.make_tensor_proto([1.0]))
    ragged = prediction_log_pb2.PredictionLog()
    ragged.log_metadata.model_spec.version.value = 1
    ragged.predict_log.response.outputs["probabilities"].CopyFrom(tf.make_tensor_proto([1.0]))
    with tf.io.TFRecordWriter(str(file)) as out:
        for content in (b"\xff\xff", b"", bare, ragged):
            out.write(content if isinstance(content, bytes) else content.SerializeToString())
    answers, statistics = read([file])
    assert answers == [] and statistics.skipped == {
        log.NO_LOG: 2,
        log.NO_ANSWER: 1,
        log.UNREADABLE: 1,
    }
    error = log.refusal(statistics, file, MODEL)
    assert "no answers of an image classifier: 2 × no PredictionLog" in str(error)


def test_answers_are_counted_by_version_and_the_same_image_once(tmp_path):
    said = np.float32([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [np.nan, np.nan, np.nan]])
    labels = ["owl", "cat", "unknown"]
    files = write_log(tmp_path / "r", said, [image(0), image(1), image(0)], labels=labels)
    (asked,) = log.survey(read(files)[0]).values()
    assert asked.labels == dict.fromkeys(labels, 1) and asked.images == 3
    assert list(asked.confidence) == pytest.approx([0.7, 0.5, 0.0])
    assert asked.unknown == pytest.approx(1 / 3) and asked.first <= asked.last
    assert asked.locations == [log.Location(0, 0, 0), log.Location(0, 1, 0)]
