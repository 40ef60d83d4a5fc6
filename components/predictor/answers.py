"""Answers that are kept across runs, so that a baseline is not asked again about the same images.

The baseline of a run is usually a model that an earlier run has exported, and that run has stored
the answers of its served signature. One file holds the answers of one model. The answers of models
other than the exported one and the baseline are removed after a week, so that the files do not
accumulate. Until then, a run in another output folder that shares the store may use them.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgpipe.components.storage.blob_store import SHARED, BlobStore, path_of

#: Largest number of classes of a model whose answers are kept. An image takes 4 bytes a class.
MOST_CLASSES = 100
#: How the names of the files begin.
PREFIX = "answers_"
_KEPT_SECONDS = 7 * 24 * 3600

#: Probabilities, [classes], by `key_of` the image.
Rows = dict[bytes, npt.NDArray[np.float32]]


def key_of(image: bytes) -> bytes:
    """Return the key of an encoded image, 32 bytes."""
    return hashlib.sha256(image).digest()


class Answers:
    """The probabilities that one model has answered, by `key_of` the image.

    Like every store it is a cache: what is missing or damaged is computed again.

    Args:
        locator: Folder of the file. With "", and with a folder that several hosts share, nothing is
            kept, because small files over a network cost more than the answers.
        model: Text that identifies the model; "" keeps nothing.
    """

    def __init__(self, locator: str, model: str) -> None:
        kept = locator and model and not locator.startswith(SHARED)
        self._blobs = BlobStore(Path(locator), _name(model)) if kept else None

    def get(self, keys: Iterable[bytes], classes: int) -> Rows:
        """Look answers up.

        Args:
            keys: Keys of images.
            classes: Number of classes of the model.

        Returns:
            Probabilities, float32 [classes], of the images that the model has answered.
        """
        found = {} if self._blobs is None else self._blobs.get(list(keys))
        return {
            key: np.frombuffer(value, "<f4")
            for key, value in found.items()
            if len(value) == 4 * classes
        }

    def put(self, rows: Rows) -> None:
        """Keep answers, unless the model has more than `MOST_CLASSES` classes.

        Args:
            rows: Probabilities, [classes], by the key of the image.
        """
        if self._blobs is None or not rows or len(next(iter(rows.values()))) > MOST_CLASSES:
            return
        self._blobs.put({key: np.asarray(row, "<f4").tobytes() for key, row in rows.items()})

    def close(self) -> None:
        """Close the file."""
        if self._blobs is not None:
            self._blobs.close()


def forget_others(locator: str, models: Collection[str]) -> None:
    """Remove the answers of all models but these, if they were not written to for a week.

    Args:
        locator: Folder of the files, as `Answers` takes it.
        models: Texts that identify the models.
    """
    if not locator or locator.startswith(SHARED):
        return
    kept = {path_of(Path(locator), _name(model)).stem for model in models}
    oldest = time.time() - _KEPT_SECONDS
    for file in Path(locator).glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another run has removed it
            if file.name.partition(".")[0] not in kept and file.stat().st_mtime < oldest:
                file.unlink()


def _name(model: str) -> str:
    return PREFIX + hashlib.sha256(model.encode()).hexdigest()[:32]
