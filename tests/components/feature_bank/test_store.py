"""The feature store returns what was stored, and treats damaged values as absent."""

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from imgpipe.components.feature_bank.store import FeatureStore, record_key
from imgpipe.components.storage import blob_store
from imgpipe.models.errors import ResourceError

DIM = 8


def _vectors(count: int, seed: int = 0) -> dict[bytes, np.ndarray]:
    """Return `count` vectors of DIM float16 numbers by their keys in the store."""
    numbers = np.random.default_rng(seed)
    return {
        record_key(f"image{seed}-{i}", "view"): numbers.normal(size=DIM).astype(np.float16)
        for i in range(count)
    }


def test_vectors_survive_reopening(tmp_path: Path):
    vectors = _vectors(1200)
    store = FeatureStore(tmp_path)
    store.put(vectors)
    store.close()
    again = FeatureStore(tmp_path)
    found = again.get([*vectors, b"\0" * 32], DIM)
    again.close()
    assert found.keys() == vectors.keys()
    for key, vector in vectors.items():
        np.testing.assert_array_equal(found[key], vector)


def test_keys_differ_by_image_and_by_computation():
    keys = {record_key(image, view) for image in ("a", "b") for view in ("0", "1")}
    assert len(keys) == 4
    known = bytes.fromhex("0ed32d3352f0cddd88b03a266c387e1a4683d5356ce381463b4b42cf9ccadfaf")
    assert record_key("a", "0") == known, "another key would lose the features of earlier versions"


def test_a_damaged_record_counts_as_absent(tmp_path: Path):
    vectors = _vectors(3)
    store = FeatureStore(tmp_path)
    store.put(vectors)
    store.close()
    victim, *others = vectors
    with sqlite3.connect(tmp_path / "features.sqlite") as db:
        [(value,)] = db.execute("SELECT value FROM features WHERE key = ?", (victim,)).fetchall()
        flipped = value[:-1] + bytes([value[-1] ^ 1])
        db.execute("UPDATE features SET value = ? WHERE key = ?", (flipped, victim))
    db.close()
    store = FeatureStore(tmp_path)
    assert set(store.get(list(vectors), DIM)) == set(others)
    store.close()
    store = FeatureStore(tmp_path)
    assert store.get(list(vectors), DIM + 1) == {}, (
        "vectors of another length are not these features"
    )
    store.close()


@pytest.mark.parametrize("value", [None, "text", 7, 0.5, b"", b"\x00"])
def test_a_row_of_another_type_counts_as_absent(tmp_path: Path, value: object):
    vectors = _vectors(3)
    store = FeatureStore(tmp_path)
    store.put(vectors)
    victim, *others = vectors
    with sqlite3.connect(tmp_path / "features.sqlite") as db:
        db.execute("UPDATE features SET value = ? WHERE key = ?", (value, victim))
    db.close()
    assert set(store.get(list(vectors), DIM)) == set(others)
    store.put({victim: vectors[victim]})
    assert set(store.get(list(vectors), DIM)) == set(vectors)
    store.close()


def test_a_value_whose_type_became_text_does_not_hide_the_others(tmp_path: Path):
    """SQLite's type of a value is one number, and few values are valid UTF-8."""
    vectors = _vectors(3)
    store = FeatureStore(tmp_path)
    store.put(vectors)
    with sqlite3.connect(tmp_path / "features.sqlite") as db:
        text = "CAST(substr(value, 1, 9) AS TEXT)"
        db.execute(f"UPDATE features SET value = {text} WHERE key = ?", (next(iter(vectors)),))
    db.close()
    assert set(store.get(list(vectors), DIM)) == set(list(vectors)[1:])
    store.close()


def test_a_file_that_another_process_has_replaced_is_kept(tmp_path: Path):
    first, second = _vectors(2000), _vectors(20, seed=1)
    store = FeatureStore(tmp_path)
    store.put(first)
    store.close()
    file = tmp_path / "features.sqlite"
    stores = [FeatureStore(tmp_path) for _ in range(2)]
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xa5" * (file.stat().st_size - 4096))
    for store, vectors in zip(stores, (first, second), strict=True):
        store.get(list(first), DIM)  # which finds the damage
        store.put(vectors)
    assert stores[1].get([*first, *second], DIM).keys() == {*first, *second}
    for store in stores:
        store.close()


def test_flipped_bytes_anywhere_in_the_file_never_give_another_vector(tmp_path: Path):
    vectors = _vectors(400)
    store = FeatureStore(tmp_path)
    store.put(vectors)
    store.close()
    path, numbers = tmp_path / "features.sqlite", np.random.default_rng(7)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(40):
        flipped = content.copy()
        flipped[numbers.integers(0, len(content), 30)] ^= 255
        path.write_bytes(flipped.tobytes())
        store = FeatureStore(tmp_path)
        for key, vector in store.get(list(vectors), DIM).items():
            np.testing.assert_array_equal(vector, vectors[key])
        store.put(vectors)
        store.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path):
    (tmp_path / "features.sqlite").write_bytes(b"this is not a database" * 500)
    store = FeatureStore(tmp_path)
    vectors = _vectors(2)
    store.put(vectors)
    assert store.get(list(vectors), DIM).keys() == vectors.keys()
    store.close()
    assert (tmp_path / "features.broken").exists()


def test_a_folder_that_cannot_be_created_is_an_error_with_advice(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"bank\.store or judge\.store"):
        FeatureStore(tmp_path / "file")


def test_concurrent_writers_lose_no_vector(tmp_path: Path):
    def write(seed: int) -> None:
        store = FeatureStore(tmp_path)
        for part in range(5):
            store.put(_vectors(20, seed=seed * 10 + part))
        store.close()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = FeatureStore(tmp_path)
    wanted = {key for i in range(4) for part in range(5) for key in _vectors(20, i * 10 + part)}
    assert set(store.get(list(wanted), DIM)) == wanted
    store.close()


def test_a_file_damaged_inside_can_be_filled_again(tmp_path: Path):
    store = FeatureStore(tmp_path)
    vectors = _vectors(3000)
    store.put(vectors)
    store.close()
    file = tmp_path / "features.sqlite"
    content = bytearray(file.read_bytes())
    content[8192 : len(content) - 4096] = b"\xa5" * (len(content) - 12288)
    file.write_bytes(content)
    store = FeatureStore(tmp_path)
    store.get(list(vectors), DIM)
    store.put(vectors)
    assert store.get(list(vectors), DIM).keys() == vectors.keys()
    store.close()


def test_a_locked_file_raises_a_resource_error_and_is_not_set_aside(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(blob_store, "BUSY_SECONDS", 0.2)
    store = FeatureStore(tmp_path)
    vectors = _vectors(3)
    store.put(vectors)
    other = sqlite3.connect(tmp_path / "features.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ResourceError, match="cannot be used: database is locked"):
        store.put(_vectors(3, seed=1))
    other.execute("ROLLBACK")
    other.close()
    assert store.get(list(vectors), DIM).keys() == vectors.keys()
    store.close()
    assert not list(tmp_path.glob("*.broken*"))
