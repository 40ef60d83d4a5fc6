"""What a feature bank stores: as much as fits into its budget, in a store addressed by content."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgpipe.components.common.storage.blob_store import BlobStore
from imgpipe.models import names
from imgpipe.models.features.extractor import BankNetwork, FeatureExtractor
from imgpipe.models.settings.network import one_block, single_blocks

#: Name of the `BlobStore`.
STORE = "features"
_FREE_SHARE = 0.25  # three copies and some room; see `free_budget`


def record_key(image_hash: str, view_key: str) -> bytes:
    """Key of one stored array, 32 bytes; `view_key` is that of `FeatureExtractor.key`."""
    return hashlib.sha256(f"{image_hash}:{view_key}".encode()).digest()


class FeatureStore:
    """Arrays by key in a folder, as `BlobStore` takes it, safe for several processes and hosts."""

    def __init__(self, directory: str | Path) -> None:
        self._blobs = BlobStore(directory, STORE)

    def get(self, keys: Sequence[bytes], length: int) -> dict[bytes, np.ndarray]:
        """Return the arrays, float16 [length], of those keys that are stored and intact."""
        return {
            key: np.frombuffer(value, "<f2")  # float16 in the same byte order on every host
            for key, value in self._blobs.get(keys).items()
            if len(value) == 2 * length
        }

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Store `vectors` (float16, of any length) by key."""
        self._blobs.put({key: np.asarray(v, "<f2").tobytes() for key, v in vectors.items()})

    def learn_sizes(self, extractor: FeatureExtractor) -> tuple[int, ...]:
        """Return the sizes of an extractor's blocks, which are slow to compute, and store them."""
        key = record_key("sizes", extractor.key(0))
        value = self._blobs.get([key]).get(key)
        if value is None:
            value = json.dumps(extractor.sizes).encode()
            self._blobs.put({key: value})
        return tuple(json.loads(value))


@dataclass(frozen=True)
class StoragePlan:
    """What is stored for each image, and where. It holds plain values that Beam can pickle.

    Attributes:
        network: The network whose features are stored.
        store: Folder of the content-addressed store, as `BlobStore` takes it.
        views: Number of augmented views that are stored of each training image, beside the image
            itself.
        sizes: Number of features in each block of a view; with () nothing is stored.
        note: Why it does not store everything; "" when it does.
        kept: What a head reads of each record of the bank, as the setting `features` names it; ""
            for everything. The store has all blocks in any case.
    """

    network: BankNetwork
    store: str
    views: int
    sizes: tuple[int, ...] = ()
    note: str = ""
    kept: str = ""

    @property
    def dim(self) -> int:
        """Number of features of a view; 0 if nothing is stored."""
        return sum(self.sizes)

    @property
    def recorded(self) -> tuple[int, ...]:
        """Number of features in each block of a record."""
        return self.sizes if self.block is None else (self.sizes[self.block],)

    @property
    def block(self) -> int | None:
        """Number of the only block of a record; None if it has all blocks of the store."""
        return single_blocks(self.network.settings.largest_kind).get(self.kept)

    @property
    def columns(self) -> slice:
        """Places of the features of a record among those of the store."""
        start = 0 if self.block is None else sum(self.sizes[: self.block])
        return slice(start, start + sum(self.recorded))

    @property
    def read(self) -> str:
        """What a head reads of the records, as the setting `features` names it."""
        return self.kept or self.network.settings.largest_kind

    def views_of(self, split: str) -> list[int]:
        """Numbers of the views of an image of a split."""
        return list(range(self.views + 1)) if split == names.TRAIN else [0]


def shared_extractor(network: BankNetwork) -> FeatureExtractor:
    """Return the extractor of a backbone, which all threads of a process share."""
    # A file of weights or an own network may change between two runs of a process.
    return _shared(network, FeatureExtractor(*network).key(0))


@functools.lru_cache(maxsize=2)
def _shared(network: BankNetwork, key: str) -> FeatureExtractor:
    return FeatureExtractor(*network)


def make_plan(
    network: BankNetwork, store: str, images: Mapping[str, int], budget: float
) -> StoragePlan:
    """Decide what to store within the budget, in bytes.

    If not everything fits, fewer augmented views are stored. Training then has one view less, but
    needs no forward pass of every image in every epoch.
    """
    views = network.settings.views.count
    if not network.settings.frozen:
        note = "the backbone itself is trained, so that images are read"
        return StoragePlan(network, store, views, note=note)
    sizes = FeatureStore(store).learn_sizes(shared_extractor(network))
    needed = {count: bytes_of(images, count, sum(sizes)) for count in range(views, -1, -1)}
    over = f"features would take {_size(needed[views])}, over bank.budget, which is {_size(budget)}"
    count = next((count for count, size in needed.items() if size <= budget), None)
    if count is None:
        return StoragePlan(network, store, views, note=over)
    stored = f"{over}; those of {count} augmented views of each training image are stored"
    return StoragePlan(network, store, count, sizes, stored if count < views else "")


def plan_one_block(
    network: BankNetwork, store: str, images: Mapping[str, int], budget: float, why: str
) -> StoragePlan:
    """Decide what to store if the head is to read one block, because all are over the budget.

    `why` is the reason of that; see `make_plan` for the rest.
    """
    kind = one_block(network.settings.largest_kind)
    plan = make_plan(network.changed(features=kind), store, images, budget)
    note = plan.note or f"{why}; the head reads {kind} features, and no others are tried"
    return replace(plan, note=note)


def _size(count: float) -> str:
    """Format a number of bytes in the unit that fits: `1.794 MiB`, `12.5 GiB`."""
    return f"{count / 2**20:.4g} MiB" if count < 2**30 else f"{count / 2**30:.4g} GiB"


def bytes_of(images: Mapping[str, int], views: int, dim: int) -> int:
    """Return the size of the features of all images, float16, of which the numbers are given."""
    return 2 * (sum(images.values()) + views * images[names.TRAIN]) * dim


def free_budget(store: str, artifact: str) -> float:
    """Bytes that the features of a run may take where no budget is given.

    They are written three times at most: to the store, to the artifact and, above what memory
    holds, to a temporary file of ImageTrainer beside it. Neither folder need exist.
    """
    free = [shutil.disk_usage(_existing(folder)).free for folder in (store, artifact)]
    return _FREE_SHARE * min(free)


def _existing(folder: str) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(parent for parent in Path(folder, "_").parents if parent.exists())
