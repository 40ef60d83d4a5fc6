"""Seals reveal every difference of an artifact; damaged values of a store are taken as absent."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from imgpipe.components.common.storage import integrity
from imgpipe.components.common.storage.integrity import BlobStore
from imgpipe.components.feature_bank.storage import FeatureStore, record_key
from imgpipe.models.errors import ConfigError, ResourceError

SHARD = "Split-train/data_tfrecord-00000-of-00001"

DIM = 8


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """Return the folder of a sealed artifact with a shard of ten records and a JSON file."""
    folder = tmp_path / "out[1]" / "ImageFilter" / "examples" / "7"
    (folder / SHARD).parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / SHARD)) as writer:
        for number in range(10):
            writer.write(b"record %d" % number)
    (folder / "facts.json").write_text("{}")
    integrity.seal(folder)
    return folder


def test_an_unchanged_artifact_has_no_damage(artifact):
    assert integrity.damage(artifact, complete=False) == ""
    assert integrity.damage(artifact, complete=True) == ""
    assert sorted(path.name for path in artifact.parent.iterdir()) == [".seal-7.json", "7"]


def test_flipped_bytes_are_noticed_even_with_the_time_of_modification_from_before(artifact):
    path = artifact / SHARD
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "has changed" in integrity.damage(artifact, complete=False)


def test_a_decaying_disk_is_noticed_by_the_complete_check(artifact):
    """It changes bytes without changing the times of the file; the seal is written again here."""
    content = bytearray((artifact / SHARD).read_bytes())
    content[100] ^= 255
    (artifact / SHARD).write_bytes(content)
    seal = integrity.seal_file(artifact)
    seal.write_text(seal.read_text())
    assert integrity.damage(artifact, complete=False) == ""
    assert "has changed" in integrity.damage(artifact, complete=True)


def test_missing_and_added_files_are_named(artifact):
    (artifact / ".hidden").write_text("")
    assert integrity.damage(artifact, complete=True) == ""
    (artifact / "Split-train" / "data_tfrecord-00001-of-00002").write_text("")
    assert integrity.damage(artifact, complete=False) == (
        "Split-train/data_tfrecord-00001-of-00002 was added after its component finished"
    )
    (artifact / "facts.json").unlink()
    assert integrity.damage(artifact, complete=False) == "facts.json is missing"


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"files": {"facts.json": 3}}', "\x00"])
def test_a_seal_that_is_missing_or_unreadable_is_reported_as_damage(artifact, text):
    integrity.seal_file(artifact).unlink()
    if text is not None:
        integrity.seal_file(artifact).write_text(text)
    words = "has no seal" if text is None else "cannot be compared with its seal"
    assert words in integrity.damage(artifact, complete=False)


def test_removing_an_artifact_removes_its_seal_and_may_be_repeated(artifact):
    integrity.remove(artifact)
    assert list(artifact.parent.iterdir()) == []
    integrity.remove(artifact)


def _vectors(count: int, seed: int = 0) -> dict[bytes, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return {
        record_key(f"image{seed}-{i}", "view"): numbers.normal(size=DIM).astype(np.float16)
        for i in range(count)
    }


def test_vectors_are_found_by_image_and_computation(tmp_path: Path):
    vectors = _vectors(300)
    FeatureStore(tmp_path).put(vectors)
    found = FeatureStore(tmp_path).get([*vectors, b"\0" * 32], DIM)
    assert found.keys() == vectors.keys()
    for key, vector in vectors.items():
        np.testing.assert_array_equal(found[key], vector)
    assert FeatureStore(tmp_path).get(list(vectors), DIM + 1) == {}, "of another length"
    assert len({record_key(image, view) for image in "ab" for view in "01"}) == 4


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c[:5] + b"x" + c[6:], lambda c: b""]
)
def test_a_damaged_value_counts_as_absent_and_is_stored_again(tmp_path: Path, damage):
    vectors = _vectors(3)
    store = FeatureStore(tmp_path)
    store.put(vectors)
    victim, *others = vectors
    (file,) = tmp_path.glob(f"features/*/{victim.hex()}")
    file.write_bytes(damage(file.read_bytes()))
    assert set(store.get(list(vectors), DIM)) == set(others)
    store.put(vectors)
    assert set(store.get(list(vectors), DIM)) == set(vectors)


def test_a_folder_that_cannot_be_used_is_an_error_with_advice(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"bank\.store, judge\.store"):
        BlobStore(tmp_path / "file", "features").put({b"k" * 32: b"v"})
    with pytest.raises(ConfigError, match="gs://bucket/bank"):
        BlobStore("gs://bucket/bank", "features")
