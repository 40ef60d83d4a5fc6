"""The blob store of files, for several hosts, keeps the promises of the blob store in SQLite."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from imgpipe.components.example_gen.inspection_cache import InspectionCache
from imgpipe.components.feature_bank.store import FeatureStore
from imgpipe.components.image_record import ImageRecord
from imgpipe.components.storage import blob_store
from imgpipe.models.errors import ConfigError, ResourceError


def values(count: int) -> dict[bytes, bytes]:
    """Return a dictionary of `count` values by their 32-byte keys."""
    return {hashlib.sha256(bytes([n])).digest(): bytes([n]) * n for n in range(count)}


def shared(folder: Path) -> str:
    """Return the locator of the blob store of files in this folder."""
    return f"{blob_store.SHARED}{folder}"


def test_values_of_one_host_are_found_by_another(tmp_path):
    blob_store.open_store(shared(tmp_path), "features").put(values(20))
    other = blob_store.open_store(shared(tmp_path), "features")
    assert other.get([*values(20), b"\0" * 32]) == values(20)
    assert not [file for file in tmp_path.rglob("*") if "sqlite" in file.name]


@pytest.mark.parametrize("locator", ["gs://bucket/bank", "shared:gs://bucket/bank"])
def test_a_store_in_a_bucket_is_refused(locator):
    with pytest.raises(ConfigError, match=r"a local folder.* 'gs://bucket/bank'"):
        blob_store.open_store(locator, "features")


def test_a_damaged_file_counts_as_absent(tmp_path):
    store = blob_store.open_store(shared(tmp_path), "features")
    store.put(values(20))
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file())
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"?")
    assert len(store.get(list(values(20)))) == 18


def test_concurrent_writers_of_the_same_values_do_not_collide(tmp_path):
    def attempt() -> None:
        blob_store.open_store(shared(tmp_path), "features").put(values(60))

    threads = [threading.Thread(target=attempt) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blob_store.open_store(shared(tmp_path), "features").get(list(values(60))) == values(60)
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 60


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "features").write_bytes(b"")
    with pytest.raises(ResourceError, match=r"cannot be written: .* that all hosts can write to"):
        blob_store.open_store(shared(tmp_path), "features").put(values(1))


def test_feature_store_and_inspection_cache_use_the_store_of_files(tmp_path):
    FeatureStore(shared(tmp_path / "bank")).put({})
    record = ImageRecord(path="a/b.jpg", label="a", image_hash="0" * 64, width=7)
    with InspectionCache(shared(tmp_path / "judge"), 100) as cache:
        cache.put(record)
    with InspectionCache(shared(tmp_path / "judge"), 100) as cache:
        found = cache.complete(ImageRecord(path="c/d.jpg", image_hash="0" * 64))
    assert found is not None and found.width == 7
    assert not [file for file in tmp_path.rglob("*") if "sqlite" in file.name]
