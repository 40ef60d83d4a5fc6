"""Shard files sort by number, damaged ones are named, and records are streamed from them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imgpipe.components.common.storage import records
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from tests import python_program

_PROGRAM = """
import resource, sys
from imgpipe.components.common.storage.records import batches, shards

def run(uri):
    every = (batch for shard in shards(uri) for batch in batches(shard.records(), 32))
    print("records", sum(map(len, every)))

run(sys.argv[1])
small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(sys.argv[2])
print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small) // 1024)
"""
_MIB = 1 << 20


@pytest.mark.parametrize("shards", [3, 100_000, 1_000_001])
def test_shards_sort_by_number(tmp_path: Path, shards: int) -> None:
    numbers = [0, 1, 2, *([99_998, 99_999, shards - 1] if shards > 3 else [])]
    paths = [records.shard_path(str(tmp_path), "train", number, shards) for number in numbers]
    for path in reversed(paths):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    assert records.shard_files(str(tmp_path), "train") == list(dict.fromkeys(paths))


@pytest.mark.parametrize("spoil", [lambda c: c[:-5], lambda c: c[:-10] + b"?" + c[-9:]])
def test_a_damaged_shard_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = Path(records.shard_path(str(tmp_path), "train", 0, 1))
    with records.ShardWriter({"all": str(path)}) as out:
        for number in range(3):
            out.write("all", records.make({"path": f"{number}.jpg"}))
    assert len(list(records.iterate(str(tmp_path), "train"))) == 3
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ResourceError, match=r"data_tfrecord.* is damaged .*Run the pipeline again"):
        list(records.iterate(str(tmp_path), "train"))


def _artifact(folder: Path, mebibytes: int, count: int = 1) -> str:
    for number in range(count):
        paths = {
            split: records.shard_path(str(folder), split, number, count) for split in names.SPLITS
        }
        with records.ShardWriter(paths) as writer:
            for i in range(number, mebibytes, count):
                values = {names.IMAGE_BYTES: b"x" * _MIB, names.LABEL_INDEX: i}
                writer.write(names.SPLITS[i % 3], records.make(values))
    return str(folder)


def test_a_shard_holds_the_records_of_all_splits_with_its_number(tmp_path: Path):
    every = records.shards(_artifact(tmp_path, 8, count=2))
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
    written = [b"ab", b"ab", b"abcdef", b"abcd", b"a"]
    found = list(records.batches(written, count, size))
    assert [len(batch) for batch in found] == lengths
    assert [record for batch in found for record in batch] == written


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [600])
def test_reading_keeps_a_batch_in_memory_and_not_the_data_set(tmp_path: Path, mebibytes: int):
    small = _artifact(tmp_path / "small", 60)
    large = _artifact(tmp_path / "large", mebibytes)
    said = python_program.printed(_PROGRAM, small, large)
    assert f"records {mebibytes}" in said
    grown = int(said.split("grown")[1])
    assert grown < mebibytes / 3, f"{grown} MiB more for {mebibytes} MiB of records"
