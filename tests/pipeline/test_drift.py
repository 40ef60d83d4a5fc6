"""Tests of `imgpipe drift`: verdict, exit code, written files and refused arguments."""

import json
import re
import shutil

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from imgpipe.models.errors import ConfigError, ResourceError
from tests import json_formats
from tests.command import ran
from tests.pipeline.request_drift.drawn import image, probabilities, write_log

# TFX, TFDV and ML Metadata warn about their own dependencies, which this project cannot change.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return three logs of 120 answers: with images as in training, with dark ones, without."""
    folder = tmp_path_factory.mktemp("logs")
    said = probabilities(120, seed=1)
    for name, brightness in (("same", 0.5), ("dark", 0.2)):
        sent = [image(number, brightness) for number in range(120)]
        write_log(folder / name, said, sent, batch=8)
    write_log(folder / "bare", said)
    return folder


def run(log, out, *more):
    return ran("drift", log, "--model", out, *more)


def test_images_like_the_training_data_are_no_drift(pushed, logs):
    done = run(logs / "same", pushed)
    words = "no drift: 120 answers of version 1, none of 11 comparisons over its limit"
    assert done.exit_code == 0 and words in done.stdout
    assert "brightness: 0.5" in done.stdout and "confidence: " in done.stdout
    assert "  over " not in done.stdout


def test_dark_images_are_drift(pushed, logs, tmp_path):
    file = tmp_path / "drift.json"
    done = run(logs / "dark", pushed, "--json", file)
    assert done.exit_code == 4
    assert "drift: version 1 receives requests unlike its training data: " in done.stdout
    assert "brightness (0.5" in done.stdout
    found = json.loads(file.read_text())
    assert found["status"] == "drift"
    dark = next(c for c in found["requests"]["comparisons"] if c["feature"] == "brightness")
    assert dark["over"] is True and dark["distance"] > dark["limit"] > 0.3
    requests = found["requests"]
    assert requests["answers"] == requests["different_images"] == requests["measured"] == 120


def test_a_log_without_images_is_judged_by_its_predictions(pushed, logs):
    done = run(logs / "bare", pushed, "--json", "-")
    found = json.loads(done.stdout)
    json_formats.conform("drift", found)
    assert (done.exit_code, found["status"]) == (0, "no_drift")
    assert "no drift in the answers: 120 answers" in done.stderr
    assert "imgpipe serve --request-log PREFIX --log-images" in done.stderr


def test_truncated_logs_missing_versions_and_undecodable_images_are_named(pushed, tmp_path):
    sent = [image(number) for number in range(60)]
    sent[3] = b"no image"
    (file,) = write_log(tmp_path / "r", probabilities(60), sent)
    with file.open("ab") as log:
        log.write(b"half a record")
    write_log(tmp_path / "s", probabilities(4), version=8)
    write_log(tmp_path / "t", probabilities(4), version=7, classes=("cat", "dog", "bee"))
    done = run(tmp_path, pushed)
    assert done.exit_code == 0
    said = done.stdout
    assert f"{file.name}  breaks off after 60 records: record 60 at byte" in said
    assert "8 answers of other versions\n  version 7  there is no such version" in said
    undecodable = r"\b1 of the \d+ images of the log that were looked at cannot be decoded"
    assert re.search(undecodable, said)


def test_a_model_without_statistics_is_refused(pushed, logs, tmp_path):
    shutil.copytree(pushed / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "1" / "provenance")
    about = tmp_path / "model/1/manifest.json"
    manifest = json.loads(about.read_text())
    manifest["files"] = {n: f for n, f in manifest["files"].items() if "provenance" not in n}
    about.write_text(json.dumps(manifest))
    with pytest.raises(ResourceError, match="has no statistics of its training data beside it"):
        run(logs / "same", tmp_path)


def test_drift_is_a_command_that_refuses_a_missing_log(tmp_path):
    with pytest.raises(ConfigError, match="no request log at"):
        ran("drift", tmp_path / "none")


def unanswered(file, count):
    """Write a log of requests whose client asked a server of the past for one output only."""
    log = prediction_log_pb2.PredictionLog()
    said = log.predict_log.response.outputs["probabilities"]
    said.CopyFrom(tf.make_tensor_proto([[0.5, 0.25, 0.25]]))
    with tf.io.TFRecordWriter(str(file)) as out:
        for _ in range(count):
            out.write(log.SerializeToString())


def test_a_log_of_which_too_many_records_are_skipped_is_an_error_with_counts(pushed, tmp_path):
    write_log(tmp_path / "r", probabilities(90))
    unanswered(tmp_path / "r-20260131-120000-1-9.tfrecord", 10)
    done = run(tmp_path / "r", pushed)
    assert done.exit_code == 0 and "10 skipped records" in done.stdout
    unanswered(tmp_path / "r-20260131-120000-1-9.tfrecord", 11)
    with pytest.raises(ConfigError, match=r"11 of the 101 records in .* were skipped") as refused:
        run(tmp_path / "r", pushed)
    assert "(no label and probabilities for each image)" in str(refused.value)
    assert "start it again with a new prefix (--request-log)" in str(refused.value)
    assert refused.value.exit_code == 2
