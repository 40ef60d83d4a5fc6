"""Axes of covariances: the principal axes of the channels of feature maps in training images.

New axes give all images new covariances. Therefore they are kept in the output folder, as the
accepted schema is, and images that are added leave them as they are. They are no part of the key of
TFX's cache: a bank in the cache has the axes of its run.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from imgpipe.components.common.image_record import read_ingest_summary
from imgpipe.components.common.storage import records
from imgpipe.models import names, preprocess
from imgpipe.models.arrays import Array, Floats
from imgpipe.models.features.bank import axes_file
from imgpipe.models.features.examples import Labelled
from imgpipe.models.features.extractor import BankNetwork, FeatureExtractor
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.models.machine.process import images_at_once, one_blas_thread
from imgpipe.models.network.classifier import backbone_of
from imgpipe.models.network.covariance_pooling import number_of_axes
from imgpipe.models.settings.model import ModelSettings

_IMAGES = 128  # of which axes are made: the training images with the lowest hashes
_GROWTH = 2  # factor of the training images with which axes are made anew


@dataclass(frozen=True)
class RunAxes:
    """Where the axes of a run come from and go to.

    Attributes:
        examples: URI of the kept images.
        features: URI of the bank, which holds the axes of its covariances.
        images: Number of training images.
        kept: Folder of the axes of earlier runs.
    """

    examples: str
    features: str
    images: int
    kept: str

    @functools.cached_property
    def training(self) -> Labelled:
        """The training images."""
        return Labelled.read([f"{self.examples}/Split-{names.TRAIN}/{records.FILE_PREFIX}-*"])

    def with_axes(self, network: BankNetwork) -> BankNetwork:
        """Return a network with the axes of its covariances, if it has any."""
        if not network.settings.reads_covariances:
            return network
        network = network.changed(axes="")  # those of images of another size
        settings = network.settings
        # By another rule, images of which axes were made may be in validation or test.
        ingested = read_ingest_summary(self.examples)
        parts = [FeatureExtractor(*network).key(0), ingested and ingested["rule"]]
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        file = Path(axes_file(self.kept, settings.size))
        if not self._serves(file, key):
            atomic_write(file, self._made(settings, key))
        written = axes_file(self.features, settings.size)
        records.write_bytes(written, file.read_bytes())
        return network.changed(axes=written)

    def _serves(self, file: Path, key: str) -> bool:
        """Return whether a file, which may be missing or damaged, holds axes for this run."""
        try:
            arrays = dict(np.load(io.BytesIO(file.read_bytes())))
            return str(arrays["key"]) == key and self.images < _GROWTH * int(arrays["images"])
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return False

    def _made(self, settings: ModelSettings, key: str) -> bytes:
        """Return the content of a file of new axes, and of what they were made of."""
        size = settings.size
        chosen = self.training.first(_IMAGES)
        pixels = np.empty((len(chosen), size, size, 3), np.uint8)  # a quarter of the memory
        for places, encoded in chosen.values(names.IMAGE_BYTES):
            pixels[places] = [preprocess.whole_pixels(image, size) for image in encoded]
        axes = principal_axes(pixels, settings)
        content = io.BytesIO()
        np.savez(content, *axes, hashes=chosen.hashes, images=self.images, key=key)
        return content.getvalue()


def principal_axes(pixels: Array, settings: ModelSettings) -> list[Floats]:
    """Return the first principal axes of the channels of each feature map, float32 [C, d].

    They are those of the covariances over the positions of an image, summed over images, of which
    the pixels are [N, S, S, 3], 0..255. One thread adds them in this order, so that the same images
    give the same bits. The sign of an axis is that with which its largest component is positive.
    """
    network = backbone_of(settings)
    feature_maps = tf.function(lambda part: network(part, training=False), autograph=False)
    dimension = number_of_axes(network.outputs)
    sums = [np.zeros((each.shape[-1],) * 2) for each in network.outputs]
    axes = []
    with one_blas_thread():
        for first in range(0, len(pixels), images_at_once()):
            part = tf.constant(pixels[first : first + images_at_once()], tf.float32)
            for total, values in zip(sums, feature_maps(part), strict=True):
                maps = values.numpy().astype(np.float32)
                centred = maps - maps.mean(axis=(1, 2), keepdims=True)
                rows = centred.reshape(-1, maps.shape[-1])
                total += rows.T @ rows
        for total in sums:
            columns = np.linalg.eigh(total).eigenvectors[:, ::-1][:, :dimension]
            largest = columns[np.abs(columns).argmax(axis=0), np.arange(dimension)]
            axes.append((columns * np.where(largest < 0, -1, 1)).astype(np.float32))
    return axes
