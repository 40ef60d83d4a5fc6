"""What an output folder decides once: the axes of covariances, and the features that a head reads.

New axes, and another size of the images, give all images new features. Therefore both are kept in
the output folder, as the accepted schema is, and images that are added leave them as they are. They
are decided again when the training images have doubled, or when anything else differs that they
depend on. They are no part of the key of TFX's cache: a bank in the cache has those of its run.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import tensorflow as tf
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from imgpipe.components.common.image_row import read_ingest_summary
from imgpipe.components.common.storage import records
from imgpipe.components.feature_bank.settings import BankPlan
from imgpipe.models import names, preprocess
from imgpipe.models.arrays import Array, Floats
from imgpipe.models.features.bank import FeatureDecision, JudgedFeatures, axes_file
from imgpipe.models.features.examples import Labelled
from imgpipe.models.features.extractor import BankNetwork, FeatureExtractor, FeatureMaps
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.head.feature_choice import HeadInput
from imgpipe.models.machine.process import computed_ahead, images_at_once, one_blas_thread
from imgpipe.models.machine.system import processors
from imgpipe.models.network.covariance_pooling import number_of_axes

_IMAGES = 128  # of which axes are made: the training images with the lowest hashes
_GROWTH = 2  # factor of the training images with which everything is decided again
_CHOICE_FILE = "choice.json"
#: Fields of the plan on which the choice of features depends.
_DECIDING = {"network", "weights_key", "head", "vocabulary"}


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
        plan: What the decisions depend on besides the images, and their folder.
    """

    examples: str
    features: str
    images: int
    plan: BankPlan

    def with_axes(self, network: BankNetwork) -> BankNetwork:
        """Return a network with the axes of its covariances, if it has any."""
        if not network.settings.reads_covariances:
            return network
        network = network.changed(axes="")  # those of images of another size
        extractor = FeatureExtractor(*network)
        size = network.settings.size
        key = self._key(extractor.key(0))
        file = Path(axes_file(self.plan.kept, size))
        if not self._has_axes(file, key):
            atomic_write(file, self._axes(extractor.feature_maps, size, key))
        written = axes_file(self.features, size)
        records.write_bytes(written, file.read_bytes())
        return network.changed(axes=written)

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
        return Path(self.plan.kept, _CHOICE_FILE)

    @property
    def _decision_key(self) -> str:
        return self._key(self.plan.model_dump(mode="json", include=_DECIDING))

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
        for products in computed_ahead(covariances, parts, processors(), processors()):
            for total, product in zip(sums, products, strict=True):
                total += product
        return [*computed_ahead(axes_of, sums, processors(), len(sums))]
