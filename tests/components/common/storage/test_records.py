"""Shard files sort by their number however many there are, and damaged ones are named."""

from pathlib import Path

import pytest

from imgpipe.components.common.storage import records
from imgpipe.models.errors import ResourceError


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
