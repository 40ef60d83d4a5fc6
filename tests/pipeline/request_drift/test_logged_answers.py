"""A request log is found, and its images are read with the answers, as far as it is intact."""

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.notes import Notes
from imgpipe.pipeline.request_drift.logged_answers import LoggedAnswers
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities, write_log

# TFX, TFDV and ML Metadata warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")


def files(path):
    return LoggedAnswers(path).files()


def read(path):
    notes = Notes()
    answers = list(LoggedAnswers(path).answers(notes))
    return answers, notes.findings()


def test_a_log_is_found_by_file_folder_and_prefix(tmp_path):
    (file,) = write_log(tmp_path / "logs" / "r", probabilities(2))
    (other,) = write_log(tmp_path / "logs" / "other", probabilities(2))
    assert files(file) == files(tmp_path / "logs" / "r") == [file]
    assert set(files(tmp_path / "logs")) == {file, other}


@pytest.mark.parametrize("longer", ["r-owls", "r-20260131"])
def test_a_log_whose_prefix_only_begins_like_another_is_neither_read_nor_deleted(tmp_path, longer):
    others = write_log(tmp_path / longer, probabilities(12), max_bytes=4000)
    written = write_log(tmp_path / "r", probabilities(12), max_bytes=4000)
    assert len(others) > 1 and sorted(files(tmp_path / longer)) == others
    assert set(files(tmp_path / "r")) == set(written) - set(others)


def test_the_prefix_of_a_log_may_hold_the_characters_of_a_pattern(tmp_path):
    for number in range(3):
        (tmp_path / f"r[1]-20260131-120000-1-{number}.tfrecord").touch()
    write_log(tmp_path / "r[1]", probabilities(1))
    found = files(tmp_path / "r[1]")
    assert sorted(found) == sorted(tmp_path.iterdir()) and len(found) == 4


def test_the_oldest_file_of_a_log_comes_first(tmp_path):
    written = write_log(tmp_path / "r", probabilities(12), max_bytes=4000)
    assert len(written) > 1
    by_number = sorted(written, key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    assert files(tmp_path) == by_number


def test_the_images_of_a_log_are_read_as_parts_of_its_files(tmp_path):
    sent = [image(0), b"no image", image(1), image(0), image(2)]
    (file,) = write_log(tmp_path / "r", probabilities(5), sent, batch=3)
    log = LoggedAnswers(tmp_path / "r")
    answers, _ = read(log.path)
    items = [answer.item for answer in answers]
    begin = file.read_bytes().index(b"no image")
    assert items[1].path == f"{file.name}/{begin:012d}"
    assert [log.reader.read(item) for item in items] == sent
    tops = probabilities(5).argmax(axis=1)
    assert [answer.label for answer in answers] == [CLASSES[top] for top in tops]
    records = list(inspect(log.reader, items, 1_000_000))
    assert [record.is_measured for record in records] == [True, False, True, True, True]
    assert [record.image_hash for record in records] == [item.sha256 for item in items]


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_answers_before_a_damaged_record_count_and_its_position_is_noted(tmp_path, damage):
    (file,) = write_log(tmp_path / "r", probabilities(10))
    write_log(tmp_path / "s", probabilities(3))
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[:-5]
    else:
        content[len(content) * 95 // 100] ^= 0xFF
    file.write_bytes(content)
    answers, (note,) = read(tmp_path)
    assert len(answers) == 9 + 3
    (place,) = note["examples"]
    assert (note["reason"], place["path"]) == ("broken_log", file.name)
    assert place["detail"].startswith("breaks off after 9 records: record 9 at byte ")


def test_a_file_that_the_server_removes_is_noted(tmp_path, monkeypatch):
    (file,) = write_log(tmp_path / "r", probabilities(2))
    gone = tmp_path / "gone.tfrecord"
    monkeypatch.setattr(LoggedAnswers, "files", lambda log: [gone, file])
    answers, (note,) = read(tmp_path / "r")
    (place,) = note["examples"]
    assert len(answers) == 2 and place["path"] == gone.name
    assert "breaks off after 0 records: [Errno 2] No such file" in place["detail"]


def test_unusable_records_are_counted_by_kind(tmp_path):
    file = tmp_path / "r-1.tfrecord"
    bare = prediction_log_pb2.PredictionLog()
    bare.predict_log.response.outputs["probabilities"].CopyFrom(tf.make_tensor_proto([[1.0]]))
    ragged = prediction_log_pb2.PredictionLog()
    ragged.predict_log.response.outputs["label"].CopyFrom(tf.make_tensor_proto([b"cat"]))
    ragged.predict_log.response.outputs["probabilities"].CopyFrom(tf.make_tensor_proto([1.0]))
    words = prediction_log_pb2.PredictionLog()
    words.predict_log.response.outputs["label"].CopyFrom(tf.make_tensor_proto([b"cat"]))
    words.predict_log.response.outputs["probabilities"].CopyFrom(tf.make_tensor_proto([[b"1"]]))
    with tf.io.TFRecordWriter(str(file)) as out:
        for content in (b"\xff\xff", b"", bare, ragged, words):
            out.write(content if isinstance(content, bytes) else content.SerializeToString())
    answers, notes = read(file)
    assert not answers
    (note,) = notes
    details = {place["detail"] for place in note["examples"]}
    assert (note["reason"], note["count"]) == ("skipped_records", 5)
    assert details == {"no PredictionLog", "no label and probabilities for each image"}
