"""Records are streamed from their files, so that memory does not grow with the data set."""

from pathlib import Path

import pytest

from imgpipe.components.common.storage.shards import batches, shards
from tests import python_program

_PROGRAM = """
import resource, sys
from imgpipe.components.common.storage.shards import batches, shards

def run(uri):
    every = (batch for shard in shards(uri) for batch in batches(shard.records(), 32))
    print("records", sum(map(len, every)))

run(sys.argv[1])
small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(sys.argv[2])
print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small) // 1024)
"""
_MIB = 1 << 20


def _artifact(folder: Path, mebibytes: int, count: int = 1) -> str:
    """Write an Examples artifact of records of 1 MiB, spread over shards and splits."""
    from imgpipe.components.common.storage.records import ShardWriter, make, shard_path
    from imgpipe.models import names

    for number in range(count):
        paths = {split: shard_path(str(folder), split, number, count) for split in names.SPLITS}
        with ShardWriter(paths) as writer:
            for i in range(number, mebibytes, count):
                values = {names.IMAGE_BYTES: b"x" * _MIB, names.LABEL_INDEX: i}
                writer.write(names.SPLITS[i % 3], make(values))
    return str(folder)


def test_a_shard_holds_the_records_of_all_splits_with_its_number(tmp_path: Path):
    every = shards(_artifact(tmp_path, 8, count=2))
    assert [len(list(shard.records())) for shard in every] == [4, 4]
    written = every[1].outputs("elsewhere", ("train", "test"))
    assert written == {
        "train": "elsewhere/Split-train/data_tfrecord-00001-of-00002",
        "test": "elsewhere/Split-test/data_tfrecord-00001-of-00002",
    }


@pytest.mark.parametrize(
    ("count", "size", "lengths"),
    [(2, 0, [2, 2, 1]), (9, 4, [2, 1, 1, 1]), (9, 100, [5])],
    ids=["by number", "by size", "one batch"],
)
def test_batches_are_limited_by_number_and_size(count: int, size: int, lengths: list[int]):
    """A record that is too large for any batch has one of its own."""
    records = [b"ab", b"ab", b"abcdef", b"abcd", b"a"]
    found = list(batches(records, count, size))
    assert [len(batch) for batch in found] == lengths
    assert [record for batch in found for record in batch] == records


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [600])
def test_reading_keeps_a_batch_in_memory_and_not_the_data_set(tmp_path: Path, mebibytes: int):
    small = _artifact(tmp_path / "small", 60)
    large = _artifact(tmp_path / "large", mebibytes)
    said = python_program.printed(_PROGRAM, small, large)
    assert f"records {mebibytes}" in said
    grown = int(said.split("grown")[1])
    assert grown < mebibytes / 3, f"{grown} MiB more for {mebibytes} MiB of records"
