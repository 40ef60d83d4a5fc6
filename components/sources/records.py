"""TFRecord files of Examples artifacts: one set of shards a split, written beside and renamed.

Every split always has every shard file, an empty one where it got no record, so that readers and
patterns find all splits whatever the data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from models import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

_SHARD = re.compile(r"data_tfrecord-\d{5}-of-\d{5}$")
#: The Examples artifacts' `split_names` property.
SPLIT_NAMES_JSON = json.dumps(list(names.SPLITS))


def shard_path(uri: str, split: str, shard: int, shards: int) -> str:
    """Path of one shard file of an Examples artifact at `uri`."""
    return f"{uri}/Split-{split}/data_tfrecord-{shard:05d}-of-{shards:05d}"


def shard_files(uri: str, split: str) -> list[str]:
    """The shard files of a split, in order."""
    import tensorflow as tf

    found = tf.io.gfile.glob(f"{uri}/Split-{split}/data_tfrecord-*")
    return sorted(path for path in found if _SHARD.search(path))


def read_examples(path: str) -> Iterator[tf.train.Example]:
    """The records of one file, a few in memory at a time."""
    import tensorflow as tf

    with tf.device("cpu"):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield tf.train.Example.FromString(record)


def first(example: tf.train.Example, name: str, default: Any = None) -> Any:
    """The first value of a feature (bytes, int or float); `default` when it is absent."""
    feature = example.features.feature.get(name)
    kind = feature.WhichOneof("kind") if feature is not None else None
    values = getattr(feature, kind).value if kind else ()
    return values[0] if values else default


def text(example: tf.train.Example, name: str) -> str:
    """A bytes feature as text; odd file names survive."""
    value = first(example, name, b"")
    return bytes(value).decode("utf-8", "surrogateescape")


def write_text(path: str, content: str) -> None:
    """Write a small file atomically: beside, then renamed."""
    import tensorflow as tf

    folder, _, name = path.rpartition("/")
    tf.io.gfile.makedirs(folder)
    beside = f"{folder}/.tmp-{name}"
    with tf.io.gfile.GFile(beside, "w") as file:
        file.write(content)
    tf.io.gfile.rename(beside, path, overwrite=True)


def read_json(path: str) -> dict[str, Any]:
    """A JSON object from a file."""
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "r") as file:
        return json.load(file)


class ShardWriter:
    """Writes records to their files; a file appears under its name when all of them are done."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """`paths`: key (a split, a kind of output) → the file it is written to."""
        self._paths = dict(paths)
        self._writers: dict[str, Any] = {}
        self.written = dict.fromkeys(paths, 0)

    def __enter__(self) -> ShardWriter:
        import tensorflow as tf

        for key, path in self._paths.items():
            tf.io.gfile.makedirs(path.rpartition("/")[0])
            self._writers[key] = tf.io.TFRecordWriter(_beside(path))
        return self

    def write(self, key: str, example: tf.train.Example) -> None:
        """Append one record; equal records give equal bytes."""
        self._writers[key].write(example.SerializeToString(deterministic=True))
        self.written[key] += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import tensorflow as tf

        for writer in self._writers.values():
            writer.close()
        for path in self._paths.values():
            if error is None:
                tf.io.gfile.rename(_beside(path), path, overwrite=True)
            elif tf.io.gfile.exists(_beside(path)):
                tf.io.gfile.remove(_beside(path))


def _beside(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.tmp-{name}"
