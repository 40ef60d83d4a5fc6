"""Shards of Examples artifacts, which components read and write in the workers of Beam.

An element of a pipeline is a shard, not an image. A worker reads its images and writes what it
makes of them, so that no image bytes pass between the stages, and memory does not grow with the
number of images. If a worker fails, another attempt writes the same files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imgpipe.components.common.storage.records import read_records, shard_files, shard_path
from imgpipe.models import names


@dataclass(frozen=True)
class Shard:
    """The files with one number in an Examples artifact.

    Attributes:
        files: Paths of the files, at most one for each split.
        number: The number.
        of: Number of shards.
    """

    files: tuple[str, ...]
    number: int
    of: int

    def records(self) -> Iterator[bytes]:
        """Iterate over the serialised Examples, with only a few in memory at a time."""
        for path in self.files:
            yield from read_records(path)

    def outputs(self, uri: str, splits: tuple[str, ...] = names.SPLITS) -> dict[str, str]:
        """Return the path of the file with the same number in another artifact, by split."""
        return {split: shard_path(uri, split, self.number, self.of) for split in splits}


def shards(uri: str, splits: tuple[str, ...] = names.SPLITS) -> list[Shard]:
    """Return the shards of some splits of an Examples artifact, in order."""
    by_split = [shard_files(uri, split) for split in splits]
    count = max(map(len, by_split))
    all_shards: list[Shard] = []
    for number in range(count):
        paths = tuple(files[number] for files in by_split if number < len(files))
        all_shards.append(Shard(paths, number, count))
    return all_shards


def batches(records: Iterable[bytes], count: int, size: int = 0) -> Iterator[list[bytes]]:
    """Yield lists of consecutive records.

    Args:
        records: Serialised Examples.
        count: Most records in a list.
        size: Most bytes of the records of a list together, unless it has only one; 0 is any number.
    """
    batch: list[bytes] = []
    bytes_of_batch = 0
    for record in records:
        too_large = size and bytes_of_batch + len(record) > size
        if batch and (too_large or len(batch) == count):
            yield batch
            batch = []
            bytes_of_batch = 0
        batch.append(record)
        bytes_of_batch += len(record)
    if batch:
        yield batch
