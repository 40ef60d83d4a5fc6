"""What a feature bank stores, and what its output folder decides once.

Features are stored by content, as many as fit into the budget. New axes of covariances, and another
size of the images, give all images new features. Therefore the axes and the choice of features are
kept in the output folder, as the accepted schema is, and images that are added leave them as they
are. They are decided again when the training images have doubled, or when anything else differs
that they depend on. They are no part of the key of TFX's cache: a bank in the cache has those of
its run.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import tensorflow as tf
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from imgpipe.components.common.image_row import read_ingest_summary
from imgpipe.components.common.storage import records
from imgpipe.components.common.storage.blob_store import BlobStore
from imgpipe.models import names, preprocess
from imgpipe.models.arrays import Array, Floats
from imgpipe.models.features.bank import FeatureDecision, JudgedFeatures, axes_file
from imgpipe.models.features.extractor import BankNetwork, FeatureExtractor, FeatureMaps
from imgpipe.models.features.rows import Labelled
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.head.feature_choice import HeadInput
from imgpipe.models.machine.process import (
    batches_at_once,
    computed_ahead,
    images_at_once,
    one_blas_thread,
)
from imgpipe.models.machine.system import processors
from imgpipe.models.network.covariance_pooling import number_of_axes
from imgpipe.models.settings.given import READS, Given
from imgpipe.models.settings.model import one_block, single_blocks

#: Name of the `BlobStore`.
STORE = "features"
_FREE_SHARE = 0.25  # three copies and some room; see `free_budget`

_IMAGES = 128  # of which axes are made: the training images with the lowest hashes
_GROWTH = 2  # factor of the training images with which everything is decided again
_CHOICE_FILE = "choice.json"
#: What FeatureBank reads on which the choice of features does not depend.
_NOT_DECIDING = {"bank", "run.out", "facts.code"}


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


class _KeptDecision(TypedDict):
    """The content of `choice.json`."""

    key: str  # hash of all but the images that the decision depends on
    chosen: HeadInput
    decision: FeatureDecision


@dataclass(frozen=True)
class Kept:
    """What earlier runs have decided in an output folder, and what this run keeps there.

    Attributes:
        examples: URI of the kept images.
        features: URI of the bank, which holds the axes of its covariances.
        images: Number of training images.
        given: What the decisions depend on besides the images, and their folder.
    """

    examples: str
    features: str
    images: int
    given: Given

    def with_axes(self, network: BankNetwork) -> BankNetwork:
        """Return a network with the axes of its covariances, if it has any."""
        if not network.settings.reads_covariances:
            return network
        network = network.with_axes("")  # those of images of another size
        extractor = FeatureExtractor(*network)
        size = network.settings.size
        key = self._key(extractor.key(0))
        file = Path(axes_file(str(self._folder), size))
        if not self._has_axes(file, key):
            atomic_write(file, self._axes(extractor.feature_maps, size, key))
        written = axes_file(self.features, size)
        records.write_bytes(written, file.read_bytes())
        return network.with_axes(written)

    def decision(self) -> tuple[HeadInput, FeatureDecision] | None:
        """Return what a head reads and how that was decided, if an earlier decision still holds."""
        try:
            kept = TypeAdapter(_KeptDecision).validate_json(self._choice.read_bytes())
        except (OSError, ValidationError):  # there is none, or it is damaged
            return None
        if kept["key"] != self._decision_key or not self._holds(kept["decision"]["images"]):
            return None
        return kept["chosen"], kept["decision"]

    def keep(self, chosen: HeadInput, tried: list[JudgedFeatures]) -> FeatureDecision:
        """Keep what a head reads for later runs, and return the decision."""
        time = datetime.now().isoformat(" ", "seconds")
        decision: FeatureDecision = {"time": time, "images": self.images, "tried": tried}
        kept: _KeptDecision = {
            "key": self._decision_key,
            "chosen": chosen,
            "decision": decision,
        }
        atomic_write(self._choice, TypeAdapter(_KeptDecision).dump_json(kept))
        return decision

    @property
    def _choice(self) -> Path:
        return self._folder / _CHOICE_FILE

    @property
    def _folder(self) -> Path:
        return self.given.settings.places.features

    @property
    def _decision_key(self) -> str:
        deciding = [name for name in READS["FeatureBank"] if name not in _NOT_DECIDING]
        return self._key(self.given.text(deciding))

    def _key(self, *parts: object) -> str:
        """Return a hash of these parts and of the rule of the splits.

        By another rule, images by which something was decided may be in validation or test.
        """
        ingested = read_ingest_summary(self.examples)
        everything = [*parts, ingested and ingested["rule"]]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()

    def _holds(self, images: int) -> bool:
        """Return whether a decision by so many training images still holds."""
        return self.images < _GROWTH * images

    def _has_axes(self, file: Path, key: str) -> bool:
        """Return whether a file, which may be missing or damaged, holds axes for this run."""
        try:
            arrays = dict(np.load(io.BytesIO(file.read_bytes())))
            return str(arrays["key"]) == key and self._holds(int(arrays["images"]))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return False

    def _axes(self, feature_maps: FeatureMaps, size: int, key: str) -> bytes:
        """Return the content of a file of new axes, and of what they were made of."""
        files = f"{self.examples}/Split-{names.TRAIN}/{records.FILE_PREFIX}-*"
        chosen = Labelled.read([files]).first(_IMAGES)
        pixels = np.empty((len(chosen), size, size, 3), np.uint8)  # a quarter of the memory
        decode = functools.partial(preprocess.whole_pixels, image_size=size)
        for places, encoded in chosen.values(names.IMAGE_BYTES):
            pixels[places] = [*computed_ahead(decode, encoded, processors(), len(encoded))]
        axes = principal_axes(pixels, feature_maps)
        content = io.BytesIO()
        np.savez(content, *axes, hashes=chosen.hashes, images=self.images, key=key)
        return content.getvalue()


def principal_axes(pixels: Array, feature_maps: FeatureMaps) -> list[Floats]:
    """Return the first principal axes of the channels of each feature map, float32 [C, d].

    They are those of the covariances over the positions of an image, summed over images, of which
    the pixels are [N, S, S, 3], 0..255. Threads compute those of a few images each, and one
    thread adds them in the order of the images, so that the same images give the same bits. The
    sign of an axis is that with which its largest component is positive.
    """
    symbolic = feature_maps.maps
    dimension = number_of_axes(symbolic)
    graph = feature_maps.graph
    at_once = batches_at_once(feature_maps.network)

    def covariances(first: int) -> list[Floats]:
        part = tf.constant(pixels[first : first + images_at_once()], tf.float32)
        products = []
        for values in graph(part):
            maps = values.numpy().astype(np.float32)
            centred = maps - maps.mean(axis=(1, 2), keepdims=True)
            rows = centred.reshape(-1, maps.shape[-1])
            products.append(rows.T @ rows)
        return products

    def axes_of(total: Floats) -> Floats:
        columns = np.linalg.eigh(total).eigenvectors[:, ::-1][:, :dimension]
        largest = columns[np.abs(columns).argmax(axis=0), np.arange(dimension)]
        return (columns * np.where(largest < 0, -1, 1)).astype(np.float32)

    sums = [np.zeros((each.shape[-1],) * 2) for each in symbolic]
    parts = range(0, len(pixels), images_at_once())
    with one_blas_thread():
        for products in computed_ahead(covariances, parts, at_once, at_once):
            for total, product in zip(sums, products, strict=True):
                total += product
        return [*computed_ahead(axes_of, sums, processors(), len(sums))]
