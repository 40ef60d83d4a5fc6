"""The specification of a source determines its kind and the folder at which its path starts."""

import hashlib
import random

import pytest

from imgpipe.components.example_gen.sources import absolute_spec, open_source, split_spec
from imgpipe.components.example_gen.sources.base import KEY_BYTES, fingerprint
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.data import DataSettings


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("photos", "folder"),
        ("photos.ZIP", "archive"),
        ("photos.tar.gz", "archive"),
        ("list.jsonl", "manifest"),
        ("list.csv", "manifest"),
        ("pixels.csv", "csv"),
        ("tables", "csv"),
        ("x/train.tfrecord-00000-of-00002", "tfrecord"),
        ("x/*.tfrecord*", "tfrecord"),
        ("records", "tfrecord"),
        ("tfds:cats_vs_dogs:train[:10%]", "tfds"),
        ("Manifest:pixels.csv", "manifest"),
        ("folder:photos.zip", "folder"),
    ],
)
def test_the_kind_of_a_source_is_found_from_its_specification(tmp_path, monkeypatch, spec, kind):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a", "tables", "records"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "list.csv").write_text("label;Path\n")
    (tmp_path / "pixels.csv").write_text("label,p0\n")
    (tmp_path / "tables/train.csv").write_text("1,2")
    (tmp_path / "records/x.tfrecord").write_bytes(b"")
    assert split_spec(spec, DataSettings())[0] == kind


def test_the_error_for_an_unknown_kind_names_the_known_ones():
    kinds = "one of archive:…, csv:…, folder:…, gs:…, log:…, manifest:…, s3:…, tfds:…"
    with pytest.raises(ConfigError, match=kinds):
        split_spec("ftp://host", DataSettings())


def test_relative_paths_start_at_the_folder_and_names_are_unchanged(tmp_path):
    assert absolute_spec("a/../b.zip", tmp_path) == f"{tmp_path}/b.zip"
    assert absolute_spec("csv:b.csv", tmp_path) == f"csv:{tmp_path}/b.csv"
    assert absolute_spec("tfds:x:train", tmp_path) == "tfds:x:train"
    assert absolute_spec("gs://bucket/x", tmp_path) == "gs://bucket/x"
    assert not absolute_spec("~/photos", tmp_path).startswith(str(tmp_path))


@pytest.mark.parametrize("spec", ["~no-such-user/photos", "x" * 300])
def test_a_path_that_cannot_be_one_is_an_error_of_the_configuration(tmp_path, spec):
    with pytest.raises(ConfigError, match="data source"):
        open_source(absolute_spec(spec, tmp_path))


_KEYS = [
    *(hashlib.sha256(str(number).encode()).digest() for number in range(2_000)),
    *(bytes(KEY_BYTES), bytes(31) + b"\x01", b"\x01" + bytes(31), b"a" * 31 + b"\x00"),
]


def test_the_fingerprint_is_the_hash_of_the_sorted_keys() -> None:
    expected = hashlib.sha256(b"".join(sorted(_KEYS))).hexdigest()
    shuffled = random.Random(0).sample(_KEYS, len(_KEYS))
    assert fingerprint(shuffled) == expected
    assert fingerprint([b"".join(_KEYS[:300]), *_KEYS[300:]]) == expected, "joined by shard"
    assert fingerprint([]) == hashlib.sha256().hexdigest()
