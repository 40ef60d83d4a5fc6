"""Names of shard files, which sort by number however many there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgpipe.components import records


@pytest.mark.parametrize("shards", [3, 100_000, 1_000_001])
def test_shards_sort_by_number(tmp_path: Path, shards: int) -> None:
    numbers = [0, 1, 2, *([99_998, 99_999, shards - 1] if shards > 3 else [])]
    paths = [records.shard_path(str(tmp_path), "train", number, shards) for number in numbers]
    for path in reversed(paths):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    assert records.shard_files(str(tmp_path), "train") == list(dict.fromkeys(paths))
