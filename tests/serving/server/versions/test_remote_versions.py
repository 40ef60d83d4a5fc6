"""Base paths that TensorFlow's file system reads.

``ram://`` stands for ``gs://``, because the same code reads both.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.serving.client import Client
from imgpipe.serving.server import ModelServer, model_server
from imgpipe.serving.server.errors import ServerError
from imgpipe.serving.server.status import Code, StatusError
from imgpipe.serving.server.versions.remote_versions import RemotePath, RemoteStore, base_path_of

POLL_S = 0.05
TWO = {"x": np.float32([2.0])}
DATA = "variables/variables.data-00000-of-00001"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Set the cache folder and return where the copies of versions are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "imgpipe" / "served"


@pytest.fixture
def bucket():
    """Return the URI of an empty base path in memory."""
    uri = f"ram://bucket/{uuid.uuid4().hex}/flowers"
    tf.io.gfile.makedirs(uri)
    yield uri
    tf.io.gfile.rmtree(uri)


@pytest.fixture
def upload(models, tmp_path, bucket):
    """Return a function that copies a ready model to the bucket.

    The manifest is written last, as on every object store.
    """

    def do(name, version, *, manifest=True, damage=""):
        source = tmp_path / f"{name}-{version}"
        shutil.copytree(models / name, source)
        files = {
            path.relative_to(source).as_posix(): path.read_bytes()
            for path in sorted(source.rglob("*"))
            if path.is_file()
        }
        entries = {
            key: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for key, data in files.items()
        }
        if manifest:
            files["manifest.json"] = json.dumps({"files": entries}).encode()
        if damage:
            files[damage] = bytes([files[damage][0] ^ 1]) + files[damage][1:]
        for key, data in files.items():
            path = f"{bucket}/{version}/{key}"
            tf.io.gfile.makedirs(path.rpartition("/")[0])
            with tf.io.gfile.GFile(path, "wb") as file:
                file.write(data)

    return do


def copies(cache):
    """Return the sorted version numbers of the copies in the cache."""
    return sorted(path.name.partition("-")[0] for path in cache.glob("*/[!.]*"))


@pytest.mark.parametrize("manifest", [True, False])
def test_versions_are_copied_and_served(bucket, upload, cache, eventually, manifest):
    upload("half_plus_two", 1, manifest=manifest)
    with ModelServer("m", bucket, poll_seconds=POLL_S) as server:
        assert server.wait_until_available(60) == 1
        with Client(server.target, "m") as client:
            assert client.predict(TWO).outputs["y"].tolist() == [3.0]
            upload("half_plus_three", 2, manifest=manifest)
            eventually(lambda: client.predict(TWO).version == 2)
            assert client.predict(TWO).outputs["y"].tolist() == [4.0]
    assert copies(cache) == ["1", "2"]
    assert not list(cache.glob("*/.tmp-*"))


def test_a_damaged_upload_is_not_served_and_the_version_before_is(bucket, upload):
    upload("half_plus_two", 1)
    upload("half_plus_three", 2, damage=DATA)
    with ModelServer("m", bucket, poll_seconds=POLL_S) as server:
        assert server.wait_until_available(60) == 1
        newest = server.core.states("m")[0]
    assert newest.code == Code.DATA_LOSS and "not the file that was published" in newest.message


def test_a_copy_is_reused_unless_it_is_damaged(bucket, upload, cache):
    upload("half_plus_two", 1)
    store = RemoteStore(RemotePath(bucket))
    path = store.inspect(1, "1").local()
    file = path / DATA
    whole, before = file.read_bytes(), file.stat().st_ino
    assert store.inspect(1, "1").local() == path and file.stat().st_ino == before
    file.write_bytes(b"x" + whole[1:])
    assert store.inspect(1, "1").local() == path and file.read_bytes() == whole


def test_two_models_of_one_base_path_use_the_same_copy(bucket, upload, cache, monkeypatch):
    """Both copy at the same time; the one that waits finds the complete copy."""
    upload("half_plus_two", 1)
    fetched, original = [], RemoteStore._fetch
    both = threading.Barrier(2)

    def at_once(self, *arguments):
        both.wait(60)
        path = original(self, *arguments)
        fetched.append((path / DATA).stat().st_ino)
        return path

    monkeypatch.setattr(RemoteStore, "_fetch", at_once)
    stores = [RemoteStore(RemotePath(bucket)) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        paths = list(threads.map(lambda store: store.inspect(1, "1").local(), stores))
    assert paths[0] == paths[1] and fetched[0] == fetched[1]
    assert copies(cache) == ["1"]


def test_partial_copies_of_killed_processes_are_removed(bucket, upload, cache):
    upload("half_plus_two", 1)
    path = RemoteStore(RemotePath(bucket)).inspect(1, "1").local()
    leftover = path.parent / ".tmp-of-a-killed-process"
    leftover.mkdir()
    (leftover / "half").write_bytes(b"half of a file")
    upload("half_plus_three", 2)
    RemoteStore(RemotePath(bucket)).inspect(2, "2").local()
    assert not leftover.exists() and copies(cache) == ["1", "2"]


def test_copies_of_deleted_versions_are_removed(bucket, upload, cache):
    store = RemoteStore(RemotePath(bucket))
    for version in (1, 2):
        upload("half_plus_two", version)
        store.inspect(version, str(version)).local()
    tf.io.gfile.rmtree(f"{bucket}/1")
    upload("half_plus_two", 3)
    store.inspect(3, "3").local()
    assert copies(cache) == ["2", "3"]


def test_an_upload_in_progress_is_incomplete(bucket, upload):
    upload("half_plus_two", 1)
    tf.io.gfile.remove(f"{bucket}/1/{DATA}")
    found = RemoteStore(RemotePath(bucket)).inspect(1, "1")
    assert found.missing == f"{DATA} of the manifest is not there"


def test_a_bucket_that_cannot_be_read_raises_os_error():
    with pytest.raises(OSError, match="Could not find directory"):
        RemoteStore(RemotePath("ram://nowhere/at/all")).names()


def test_base_paths_are_local_or_remote_by_their_scheme():
    assert str(base_path_of("file:///models/a")) == "/models/a"
    assert str(base_path_of("/models/a")) == "/models/a"
    assert base_path_of("gs://bucket/a/") == RemotePath("gs://bucket/a")


def test_gs_is_read_by_tensorflow():
    assert "gs" in tf.io.gfile.get_registered_schemes()


WORDS = r"s3://bucket/m cannot be read: .* no file system for s3://\. Expected .* gs://"


def test_a_scheme_that_tensorflow_cannot_read_is_refused_at_start(capsys, tmp_path):
    with pytest.raises(ServerError, match=WORDS):
        ModelServer("m", "s3://bucket/m").start()
    assert model_server.main(["--port=0", "--model_base_path=s3://bucket/m"]) == 2
    assert re.search(WORDS, capsys.readouterr().err)
    file = tmp_path / "models.config"
    file.write_text(
        'model_config_list { config { name: "m" base_path: "s3://bucket/m" '
        'model_platform: "tensorflow" } }'
    )
    assert model_server.main(["--port=0", f"--model_config_file={file}"]) == 2
    assert re.search(f"Model m: .*{WORDS}", capsys.readouterr().err)


def test_object_names_outside_the_folder_of_the_version_are_refused(bucket, monkeypatch):
    root, name = f"{bucket}/1", "../../x"
    tf.io.gfile.makedirs(root)
    with tf.io.gfile.GFile(f"{root}/{name}", "w") as file:
        file.write("x")
    monkeypatch.setattr(tf.io.gfile, "walk", lambda _: [(root, [], [name])])  # as S3 could list it
    found = RemoteStore(RemotePath(bucket)).inspect(1, "1")
    with pytest.raises(StatusError, match="leads out of the directory"):
        found.fetch()
