"""A request log is found, and its images are read with the answers, as far as it is intact."""

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources import open_source
from imgpipe.components.example_gen.sources.request_log import LogSource
from imgpipe.models.errors import ConfigError
from imgpipe.models.finding import Finding
from imgpipe.pipeline import api
from tests.pipeline.request_drift.drawn import CLASSES, image, probabilities, write_log

# TFX, TFDV and ML Metadata warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")


def files(path):
    return LogSource(str(path)).files()


def read(path):
    notes: list[Finding] = []
    return list(LogSource(str(path)).answers(notes)), notes


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


def test_the_images_of_a_log_are_items_with_the_answers_as_labels(tmp_path):
    sent = [image(0), b"no image", image(1), image(0), image(2)]
    (file,) = write_log(tmp_path / "r", probabilities(5), sent, batch=3)
    source = open_source(f"log:{tmp_path}/r")
    scan = source.scan()
    begin = file.read_bytes().index(b"no image")
    assert scan.items[1].path == f"{file.name}/{begin:012d}"
    assert [source.read(item) for item in scan.items] == sent
    tops = probabilities(5).argmax(axis=1)
    assert [item.label for item in scan.items] == [CLASSES[top] for top in tops]
    records = list(inspect(source, scan.items, 1_000_000))
    assert [record.is_measured for record in records] == [True, False, True, True, True]
    assert [record.image_hash for record in records] == [item.sha256 for item in scan.items]


def test_a_log_without_images_is_no_source_of_images(tmp_path):
    write_log(tmp_path / "r", probabilities(2))
    with pytest.raises(ConfigError, match=r"in 0 files.*a server logs with --log-images"):
        open_source(f"log:{tmp_path}/r").listing()


def test_check_reads_a_log_and_a_run_refuses_it(tmp_path):
    sent = [*(image(number) for number in range(8)), b"no image", image(0)]
    write_log(tmp_path / "r", probabilities(10), sent, batch=4)
    check = api.check(f"log:{tmp_path}/r", tmp_path / "out")
    assert check.result["data"]["in"] == 10
    assert "answers_as_labels" in {
        finding["reason"] for finding in check.result["data"]["findings"]
    }
    assert check.result["data"]["by_reason"] == {"not_an_image": 1, "duplicate": 1}
    with pytest.raises(ConfigError, match="nobody has confirmed the labels"):
        api.run(f"log:{tmp_path}/r", tmp_path / "out")


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
    monkeypatch.setattr(LogSource, "files", lambda source: [gone, file])
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
    assert answers == []
    assert {(note["reason"], note["examples"][0]["detail"], note["count"]) for note in notes} == {
        ("skipped_records", "no PredictionLog", 1),
        ("skipped_records", "no label and probabilities for each image", 4),
    }
