"""Tests of the training images that a server shows, from the run that published the version."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil

import numpy as np
import pytest

from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.published import training_images
from imgpipe.serving.server.web.nearest import TrainingImages
from tests.images import encoded
from tests.pipeline import past_runs

COLOURS = np.eye(3) * 200 + 20


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """Return a version whose features are the mean colour of an image, float32 [3]."""
    import tensorflow as tf

    def mean(data):
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        return tf.reduce_mean(tf.cast(image, tf.float32), axis=[0, 1])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def features(image_bytes):
        return {"features": tf.map_fn(mean, image_bytes, fn_output_signature=tf.TensorSpec([3]))}

    module = tf.Module()
    module.features = features
    folder = tmp_path_factory.mktemp("model") / "4"
    tf.saved_model.save(module, str(folder), signatures={"features": features})
    return folder


@pytest.fixture
def leave(tmp_path):
    """Return a function that writes a past run with three images, given their features.

    The function returns the output folder.
    """

    def make(features=COLOURS):
        bank, examples = str(tmp_path / "bank"), str(tmp_path / "examples")
        with (
            records.ShardWriter({names.TRAIN: records.shard_path(bank, "train", 0, 1)}) as stored,
            records.ShardWriter({names.TRAIN: records.shard_path(examples, "train", 0, 1)}) as kept,
        ):
            for i, (colour, row) in enumerate(zip(COLOURS, features, strict=True)):
                pixels = np.full((30, 30 + i, 3), colour, np.uint8)
                digest = hashlib.sha256(pixels.tobytes()).hexdigest()
                shared = {names.IMAGE_HASH: digest, names.LABEL_INDEX: i, names.VIEW: 0}
                vector = np.asarray(row, "<f2").tobytes()
                stored.write("train", records.make({**shared, names.FEATURES: vector}))
                image = {names.LABEL: "rgb"[i], names.PATH: f"{i}.png"}
                image[names.IMAGE_BYTES] = encoded(pixels)
                kept.write("train", records.make({**shared, **image}))
        records.write_json(f"{bank}/bank.json", {"dim": 3})
        artifacts = {"FeatureBank": {"features": bank}, "ImageFilter": {"examples": examples}}
        past_runs.leave(tmp_path / "out", "20260101-000000", version=4, artifacts=artifacts)
        return tmp_path / "out"

    return make


def test_the_server_finds_the_nearest_prepared_image(leave, version):
    out = leave()
    file = training_images.prepare(out, version)
    assert file == out / "runs" / "20260101-000000" / "training_images.npz"
    first = TrainingImages(file).nearest(np.array([10, 90, 12], np.float32))[0]
    assert (first["label"], first["path"]) == ("g", "1.png")
    before = file.stat().st_mtime_ns
    assert training_images.prepare(out, version).stat().st_mtime_ns == before, "it is made once"


def test_a_version_of_a_rollback_has_the_images_of_the_run_that_made_it(leave, version, tmp_path):
    out = leave()
    before = training_images.prepare(out, version)
    again = tmp_path / "model" / "6"
    shutil.copytree(version, again)
    (again / "manifest.json").write_text(json.dumps({"pushed_as": 4}))
    assert training_images.prepare(out, again) == before
    assert TrainingImages(before).version == 6, "the server asks for the version that it serves"
    before.write_bytes(b"damaged")
    assert TrainingImages(training_images.prepare(out, version)).version == 4
    with pytest.raises(ResourceError, match="is not a version that a run published"):
        training_images.prepare(out, version.parent)


def test_a_damaged_file_is_written_again(leave, version, monkeypatch):
    out = leave()
    file = training_images.prepare(out, version)
    whole = file.read_bytes()
    # The model computes the features once; loading it for each byte would take minutes.
    monkeypatch.setattr(training_images, "_require_alike", lambda *_: None)
    for place in range(0, len(whole), 31):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        training_images.prepare(out, version)
        nearest = TrainingImages(file).nearest(np.array([10, 90, 12], np.float32))
        assert [row["label"] for row in nearest] == ["g", "b", "r"]


def test_a_file_that_cannot_be_written_is_named(leave, version, monkeypatch):
    out = leave()

    def full(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(training_images.output_files, "atomic_write", full)
    with pytest.raises(ResourceError, match=r"cannot write .*training_images.npz: Read-only file"):
        training_images.prepare(out, version)


def test_features_of_another_network_are_refused(leave, version):
    out = leave(COLOURS[::-1])
    with pytest.raises(ResourceError, match="computes other features than those that its run"):
        training_images.prepare(out, version)
    assert not list(out.rglob("*.npz"))


def test_missing_runs_and_artifacts_are_named(leave, version, tmp_path):
    out = leave()
    with pytest.raises(ResourceError, match=r"no run in .*out published version 9"):
        training_images.prepare(out, version.with_name("9"))
    (tmp_path / "bank").rename(tmp_path / "gone")
    with pytest.raises(ResourceError, match="artifacts of run 20260101-000000 were removed"):
        training_images.prepare(out, version)
    (out / "runs" / "20260101-000000" / "artifacts.json").unlink()
    with pytest.raises(ResourceError, match="did not record its artifacts"):
        training_images.prepare(out, version)
