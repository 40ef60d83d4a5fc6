"""The specification of a source determines its kind and the folder at which its path starts."""

import hashlib
import random

import pytest

from imgpipe.components.example_gen.sources import absolute_spec, read_source
from imgpipe.components.example_gen.sources.images import KEY_BYTES, fingerprint
from imgpipe.models.errors import ConfigError


def test_addresses_that_are_not_read_are_refused():
    with pytest.raises(ConfigError, match=r"expected a path, tfds:NAME, gs:// or s3://"):
        read_source("ftp://host/photos")
    with pytest.raises(ConfigError, match=r"data source 'folder:photos' does not exist"):
        read_source("folder:photos")


def test_relative_paths_start_at_the_folder_and_names_are_unchanged(tmp_path):
    assert absolute_spec("a/../b.zip", tmp_path) == f"{tmp_path}/b.zip"
    assert absolute_spec("a:b.csv", tmp_path) == f"{tmp_path}/a:b.csv"
    assert absolute_spec("tfds:x:train", tmp_path) == "tfds:x:train"
    assert absolute_spec("gs://bucket/x", tmp_path) == "gs://bucket/x"
    assert not absolute_spec("~/photos", tmp_path).startswith(str(tmp_path))


@pytest.mark.parametrize("spec", ["~no-such-user/photos", "x" * 300])
def test_a_path_that_cannot_be_one_is_an_error_of_the_configuration(tmp_path, spec):
    with pytest.raises(ConfigError, match="data source"):
        read_source(absolute_spec(spec, tmp_path))


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
