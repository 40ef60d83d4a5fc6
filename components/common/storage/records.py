"""Reading and writing tf.Examples, the TFRecord files that hold them, and small JSON files.

Files are written under a temporary name and then renamed. Every split has all shard files, some of
which may be empty, so that readers find every split whatever the data.

In a Beam pipeline, an element is a `Shard`, not an image. A worker reads its images and writes what
it makes of them, so that no image bytes pass between the stages, and memory does not grow with the
number of images. If a worker fails, another attempt writes the same files.

TensorFlow is imported when something is read or written, not when this module is imported.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.rows import record_batches
from imgpipe.models.files.atomic_write import TEMPORARY, atomic_write

if TYPE_CHECKING:
    import tensorflow as tf

Value = bytes | str | int | float | list[float] | list[int]

#: Beginning of the names of shard files, before their numbers.
FILE_PREFIX = "data_tfrecord"
_SHARD = re.compile(rf"{FILE_PREFIX}(-view\d+)?-\d{{5,}}-of-\d{{5,}}$")
#: Value of the `split_names` property of Examples artifacts.
SPLIT_NAMES_JSON = json.dumps(list(names.SPLITS))
_RECORDS_AT_ONCE = 16  # they may hold large images


def shard_path(uri: str, split: str, shard: int, shards: int) -> str:
    """Path of one shard file of an Examples artifact at `uri`."""
    return f"{uri}/Split-{split}/{FILE_PREFIX}-{numbered(shard, shards)}"


def numbered(shard: int, shards: int) -> str:
    """Return the end of the name of a shard file, such as "00000-of-00004".

    Numbers have five digits, and more where there are more shards, so that names sort by number.
    """
    digits = max(5, len(str(shards)))
    return f"{shard:0{digits}d}-of-{shards:0{digits}d}"


def shard_files(uri: str, split: str) -> list[str]:
    """Paths of the shard files of a split, in order."""
    import tensorflow as tf

    paths = sorted(tf.io.gfile.glob(f"{uri}/Split-{split}/{FILE_PREFIX}-*"))
    return [path for path in paths if _SHARD.search(path)]


def read_records(files: str | Sequence[str]) -> Iterator[bytes]:
    """Iterate over the records of TFRecord files, with only a few in memory at a time.

    Args:
        files: Path of a file, or the paths of several, which are read in this order.

    Raises:
        tensorflow.errors.DataLossError: A record is cut or has changed.
    """
    import tensorflow as tf

    # Each step of a dataset takes 0.1 ms, which batches divide.
    with tf.device("cpu"):
        batches = record_batches(files, _RECORDS_AT_ONCE).as_numpy_iterator()
    # Outside of the block, which would otherwise hold for what the caller does with a record: a
    # network that is called in between belongs on a GPU.
    for batch in batches:
        yield from batch


def read_examples(path: str) -> Iterator[tf.train.Example]:
    """Iterate over the Examples of one TFRecord file, with only a few in memory at a time.

    Raises:
        ResourceError: A record is cut, has changed, or is no Example.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        for record in read_records(path):
            yield tf.train.Example.FromString(record)
    except (tf.errors.DataLossError, DecodeError) as error:
        raise ResourceError(
            f"{path} is damaged ({type(error).__name__}). Expected the records that a component "
            "wrote. Run the pipeline again, which makes damaged artifacts anew."
        ) from error


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


def first(example: tf.train.Example, name: str, default: Any = None) -> Any:
    """First value of a feature (bytes, int or float), or `default` when it is absent."""
    feature = example.features.feature.get(name)
    kind = feature.WhichOneof("kind") if feature is not None else None
    values = getattr(feature, kind).value if kind else ()
    return values[0] if values else default


def text(example: tf.train.Example, name: str) -> str:
    """Return a bytes feature as text; bytes that are not UTF-8 become surrogates."""
    value = first(example, name, b"")
    return bytes(value).decode("utf-8", "surrogateescape")


def iterate(uri: str, split: str) -> Iterator[tf.train.Example]:
    """Iterate over the Examples of a split of an Examples artifact, in the order of its files."""
    for path in shard_files(uri, split):
        yield from read_examples(path)


def raw(example: tf.train.Example, name: str) -> bytes:
    """Return a bytes feature, or b"" when it is absent."""
    return bytes(first(example, name, b""))


def content_hash(example: tf.train.Example) -> str:
    """Hex SHA-256 of the bytes that are decoded: the file's, or the repaired ones."""
    if raw(example, names.REPAIRS):
        return hashlib.sha256(raw(example, names.IMAGE_BYTES)).hexdigest()
    return text(example, names.IMAGE_HASH)


def integer(example: tf.train.Example, name: str, default: int = 0) -> int:
    """Return an int64 feature, or `default` when it is absent."""
    return int(first(example, name, default))


def floats(example: tf.train.Example, name: str) -> list[float]:
    """All values of a float feature."""
    return list(example.features.feature[name].float_list.value)


def make(features: Mapping[str, Value]) -> tf.train.Example:
    """Create a tf.Example.

    Args:
        features: Values by feature name. Text is stored as UTF-8 bytes, and a list of numbers as
            a feature with several values.
    """
    import tensorflow as tf

    example = tf.train.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode("utf-8", "surrogateescape"))
        elif isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(int(value))  # a flag is 0 or 1
        elif isinstance(value, list) and value and isinstance(value[0], int):
            feature.int64_list.value.extend(value)
        elif isinstance(value, list):
            feature.float_list.value.extend(value)
        else:
            feature.float_list.value.append(value)
    return example


def serialise(example: tf.train.Example) -> bytes:
    """Serialise deterministically: equal Examples give equal bytes."""
    return bytes(example.SerializeToString(deterministic=True))


def write_text(path: str, content: str) -> None:
    """Write a small text file atomically.

    Args:
        path: A local path, or the URI of an object store, whose writes are atomic by themselves.
        content: Text, written as UTF-8.
    """
    if "://" not in path:
        atomic_write(Path(path), content)
        return
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "w") as file:
        file.write(content)


def write_bytes(path: str, content: bytes) -> None:
    """Write a file, whole or not at all, however many attempts there are at a time.

    Nothing is forced to disk, because there may be many files: the runner does that for an artifact
    as a whole, before it counts as made.

    Args:
        path: A path or a URI in an existing folder.
        content: The bytes.
    """
    import tensorflow as tf

    # Renaming replaces the file in one step, and attempts at the same file have names of their own.
    beside = _temporary_path(path)
    with tf.io.gfile.GFile(beside, "wb") as file:
        file.write(content)
    tf.io.gfile.rename(beside, path, overwrite=True)


def read_bytes(path: str) -> bytes:
    """Return the content of a local or remote file; a local one is read without TensorFlow."""
    if "://" not in path:
        return Path(path).read_bytes()
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        return bytes(file.read())


def remove_temporary(uri: str) -> None:
    """Remove what attempts that died have left below `uri`.

    Other components read all files of a split, whatever their names are.

    Args:
        uri: URI of an artifact that is complete.
    """
    import tensorflow as tf

    for folder, _, files in tf.io.gfile.walk(uri):
        for file in files:
            if file.startswith(TEMPORARY):
                tf.io.gfile.remove(f"{folder}/{file}")


def remove_folder(path: str) -> None:
    """Remove a local or remote folder and its contents, if it exists."""
    import tensorflow as tf

    if tf.io.gfile.exists(path):
        tf.io.gfile.rmtree(path)


def write_json(path: str, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: str) -> Any:
    """Read JSON from a local or remote file."""
    return json.loads(read_bytes(path))


class ShardWriter:
    """Writes Examples to several files, which all appear when the `with` block ends without error.

    As in `write_bytes`, nothing is forced to disk.

    Args:
        paths: Path of the file to write, by key (a split or another kind of output).

    Attributes:
        written: Number of Examples written, by key.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        self._temporary = {key: _temporary_path(path) for key, path in paths.items()}
        self._writers: dict[str, Any] = {}
        self.written = dict.fromkeys(paths, 0)

    def __enter__(self) -> ShardWriter:
        import tensorflow as tf

        for key, path in self._paths.items():
            tf.io.gfile.makedirs(path.rpartition("/")[0])
            self._writers[key] = tf.io.TFRecordWriter(self._temporary[key])
        return self

    def write(self, key: str, example: tf.train.Example) -> None:
        """Append one Example to the file of `key`."""
        self._writers[key].write(serialise(example))
        self.written[key] += 1

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        import tensorflow as tf

        for writer in self._writers.values():
            writer.close()
        for key, temporary in self._temporary.items():
            if kind is None:
                tf.io.gfile.rename(temporary, self._paths[key], overwrite=True)
            elif tf.io.gfile.exists(temporary):
                tf.io.gfile.remove(temporary)


def _temporary_path(path: str) -> str:
    """Return a path in the same folder that is unique to this attempt at writing `path`."""
    return f"{path.rpartition('/')[0]}/{TEMPORARY}{uuid.uuid4().hex}"
