"""Tests that the damaged values of a store are taken as absent."""

from pathlib import Path

import numpy as np
import pytest

from imgpipe.components.common.storage.blob_store import BlobStore
from imgpipe.components.feature_bank.storage import FeatureStore, record_key
from imgpipe.models.errors import ConfigError, ResourceError

DIM = 8


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
