"""Writes synthetic records and files for `benchmarks.growth`, without any image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 10
_DIM = 1280  # features of an image
_FEWEST = 256  # smallest number of images in validation and in test
RECORDS_A_FILE = 20_000


def content_hash(number: int) -> str:
    """Return a hash in place of the content hash of an image."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def _write(folder: Path, counts: dict[str, int], features: Callable[[int, int], Any]) -> None:
    """Write records to the splits of an Examples artifact, with features from (number, label)."""
    from imgpipe.components.storage import records
    from imgpipe.models import feature_names as names

    first = 0
    for split, count in counts.items():
        shards = max(1, count // RECORDS_A_FILE)
        for shard in range(shards):
            path = records.shard_path(str(folder), split, shard, shards)
            with records.ShardWriter({split: path}) as writer:
                for number in range(count * shard // shards, count * (shard + 1) // shards):
                    image = first + number
                    label = image % CLASSES
                    given: dict[str, records.Value] = {
                        names.IMAGE_HASH: content_hash(image),
                        names.PATH: f"{label}/{image:08d}.jpg",
                        names.LABEL_INDEX: label,
                        names.VIEW: 0,
                    }
                    writer.write(split, records.make({**given, **features(image, label)}))
        first += count


def write_records(folder: Path, count: int) -> None:
    """Write a feature bank and predictions of `count` images."""
    from imgpipe.components.storage import records
    from imgpipe.models import feature_names as names

    centres = np.random.default_rng(0).normal(size=(CLASSES, _DIM)).astype(np.float32)
    noise = np.random.default_rng(1)
    held = max(count // 20, _FEWEST)
    counts = {names.TRAIN: count - 2 * held, names.VALIDATION: held, names.TEST: held}

    def vector(image: int, label: int) -> dict[str, Any]:
        row = centres[label] + 4 * noise.standard_normal(_DIM, np.float32)
        return {names.FEATURES: row.astype("<f2").tobytes()}

    def said(image: int, label: int) -> dict[str, Any]:
        row = np.full(CLASSES, 0.01, np.float32)
        row[label if image % 17 else (label + 1) % CLASSES] = 0.91
        return {names.PROBABILITIES: row.tolist()}

    _write(folder / "bank", counts, vector)
    _write(folder / "predictions", counts, said)
    records.write_json(f"{folder}/bank/bank.json", {"dim": _DIM})


def write_files(folder: Path, count: int) -> None:
    """Write `count` files, which the listing hashes but does not decode."""
    for number in range(count):
        path = folder / "files" / f"class{number % CLASSES}" / f"{number:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "big"))
