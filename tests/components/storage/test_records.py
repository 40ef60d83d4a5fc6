"""Shard files sort by their number however many there are, and damaged ones are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imgpipe.components.storage import records
from imgpipe.models.errors import ResourceError

#: The caller works on the second of two devices while it iterates over the records of a file.
_ON_ANOTHER_DEVICE = """
import sys
import tensorflow as tf
from imgpipe.components.storage.records import read_records

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
with tf.device("CPU:1"):
    print({tf.zeros(()).device[-5:] for _ in read_records(sys.argv[1])})
"""


@pytest.mark.parametrize("shards", [3, 100_000, 1_000_001])
def test_shards_sort_by_number(tmp_path: Path, shards: int) -> None:
    numbers = [0, 1, 2, *([99_998, 99_999, shards - 1] if shards > 3 else [])]
    paths = [records.shard_path(str(tmp_path), "train", number, shards) for number in numbers]
    for path in reversed(paths):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    assert records.shard_files(str(tmp_path), "train") == list(dict.fromkeys(paths))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    path = Path(records.shard_path(str(tmp_path), "train", 0, 1))
    with records.ShardWriter({"all": str(path)}) as out:
        for number in range(3):
            out.write("all", records.make({"path": f"{number}.jpg"}))
    assert len(list(records.iterate(str(tmp_path), "train"))) == 3
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-5:]
    else:
        content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResourceError, match=r"data_tfrecord.* is damaged .*Run the pipeline again"):
        list(records.iterate(str(tmp_path), "train"))


def test_what_the_caller_computes_between_records_stays_on_its_device(tmp_path: Path) -> None:
    path = str(tmp_path / "records")
    with records.ShardWriter({"all": path}) as out:
        for number in range(40):
            out.write("all", records.make({"path": f"{number}.jpg"}))
    command = [sys.executable, "-c", _ON_ANOTHER_DEVICE, path]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.strip() == "{'CPU:1'}"
