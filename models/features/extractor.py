"""From encoded images to features: the frozen backbone runs once for each image and view.

Threads decode the next images while others compute a batch of views each. The forward pass is a
tf.function, in bfloat16 where the CPU supports it. `FeatureExtractor.key` is the key under
which the store behind the feature bank keeps the features. If a layer is given, the forward pass
ends at it and gives its activations, from which the layers above it can be trained.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from imgpipe.models import augmentation, names, preprocess
from imgpipe.models.arrays import Floats
from imgpipe.models.backbones.layer_graph import layer_at
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import source_code
from imgpipe.models.machine import process, progress
from imgpipe.models.machine.process import computed_ahead, has_gpu, images_at_once
from imgpipe.models.machine.system import processor_features, processors
from imgpipe.models.network.classifier import build_maps, features_of
from imgpipe.models.network.covariance_pooling import axes_sha256, read_axes
from imgpipe.models.settings.settings import Settings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from tensorflow.types.experimental import PolymorphicFunction

_LONG: Final = 30.0  # seconds of work of which people are told before

#: Part of every key: the code that makes pixels, views and networks, and what it computes with.
CODE: Final = (
    "models/augmentation.py",
    "models/backbones",
    "models/features/extractor.py",
    "models/files/source_code.py",
    "models/machine/process.py",
    "models/network/classifier.py",
    "models/network/covariance_pooling.py",
    "models/preprocess.py",
    "models/settings/model.py",
    "models/settings/settings.py",
)
_LIBRARIES: Final = ("tensorflow", "keras")
_FLOAT16_LARGEST: Final = 65504.0  # larger values would become infinite
_BFLOAT16_FEATURES: Final = frozenset({"avx512_bf16", "amx_bf16"})


class FeatureExtractor:
    """Computes the features of views of images with one backbone.

    The constructor and `key` do not build the model; the first call of `extract` does. An extractor
    may be used from several threads.

    Args:
        settings: Settings of the network and of its augmented views.
        precision: "float32", "bfloat16" or "auto", which is bfloat16 where the CPU supports it and
            no GPU is used, and float32 otherwise.
        layer: Name of the layer, or of a block such as "block11", whose activations take the place
            of the features; "" for the features.

    Raises:
        ConfigError: There is no such backbone.
    """

    def __init__(self, settings: Settings, precision: str = "auto", layer: str = "") -> None:
        self.backbone = settings.backbone_spec()
        self.image_size = settings.size
        self.settings = settings
        self.views = settings.views
        self.layer = layer
        self.precision = resolve_precision(precision)
        #: Number of views of which all features are about to be computed, at most; 0 says nothing.
        self.expected = 0
        self._lock = threading.Lock()
        #: The model, and its forward pass as a tf.function.
        self._model: tuple[Any, PolymorphicFunction] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of features in each block: of a mean, and of the covariances of each map."""
        joined = self._built()[0].get_layer(names.FEATURES)
        blocks = joined.input if isinstance(joined.input, list) else [joined.output]
        return tuple(int(block.shape[-1]) for block in blocks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features, (dim,), or activations, (h, w, C). Reading it builds the model."""
        return tuple(map(int, self._built()[0].outputs[0].shape[1:]))

    @functools.cached_property
    def _backbone_key(self) -> str:
        return self.backbone.key(self.image_size)  # which builds an own network

    def key(self, view: int) -> str:
        """Return a hash (hex) of everything but the image that determines the features of a view.

        The key of view 0 does not depend on the augmentation, and none on the number of views.
        """
        parts = {
            "code": source_code.fingerprint(CODE, _LIBRARIES),
            "backbone": self._backbone_key,
            "image_size": self.image_size,
            "precision": self.precision,
            "features": self.settings.largest_kind,
            "axes": axes_sha256(read_axes(self.settings)),
            "view": view,
            "augmentation": self.views.key() if view else None,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def extract(
        self,
        images: Sequence[bytes],
        hashes: Sequence[str],
        views: Sequence[Sequence[int]],
        finished: Callable[[int], None] | None = None,
    ) -> list[Floats]:
        """Compute the features of views of images.

        Args:
            images: Encoded images.
            hashes: Content hash (hex) of each image; with the number of the view it seeds the
                augmentation.
            views: For each image, the numbers of its views, where 0 is the image itself; may be
                empty.
            finished: Function that is called after each batch with the number of images whose
                last view was in it.

        Returns:
            For each image, float16 [number of its views, *shape], in the order of `views`.

        Raises:
            tf.errors.InvalidArgumentError: An image cannot be decoded.
            ConfigError: A feature is NaN, or too large for float16.
        """
        counts = [len(wanted) for wanted in views]
        if not sum(counts):
            return [np.empty((0, 0), np.float16) for _ in views]
        rows = np.empty((sum(counts), *self.shape), np.float16)
        _, compiled = self._built()
        forward = compiled.get_concrete_function()  # here, so that no two threads trace it
        ends = np.cumsum(counts)
        done = 0
        batches = self._batches(images, hashes, views)
        at_once = process.batches_at_once(self.feature_maps.network)
        begun = time.monotonic()
        for values in computed_ahead(lambda batch: forward(*batch), batches, at_once, at_once):
            features = values.numpy()
            if not done:  # the first batch also takes the time of compiling
                begun = time.monotonic()
            elif done == 2 * at_once * images_at_once():
                self._announce(done / (time.monotonic() - begun))
            # NaN is not below it either. Activations are not stored, and training would diverge.
            if not self.layer and not (np.abs(features) < _FLOAT16_LARGEST).all():
                raise ConfigError(  # a head would be served on other features
                    f"{self.backbone.name}: expected features between -{_FLOAT16_LARGEST:,.0f} and "
                    f"{_FLOAT16_LARGEST:,.0f}, which the feature bank can store as float16. "
                    "Received: features that are NaN or too large. Normalise the feature map of "
                    "the network, for example with a LayerNormalization layer, or set "
                    'course.freeze = "none"'
                )
            rows[done : done + len(features)] = features
            if finished:
                finished(int(((ends > done) & (ends <= done + len(features))).sum()))
            done += len(features)
        return np.split(rows, ends)[: len(counts)]

    def _announce(self, rate: float) -> None:
        """Say once how long the expected views will take at a number of views a second."""
        expected = self.expected
        self.expected = 0
        seconds = expected / rate
        if seconds > _LONG:
            time_taken = f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} minutes"
            progress.say(
                f"Computing the other {expected:,} features at about {rate:.1f} a second: "
                f"{time_taken}"
            )

    def _batches(
        self, images: Sequence[bytes], hashes: Sequence[str], views: Sequence[Sequence[int]]
    ) -> Iterator[list[tf.Tensor]]:
        """Yield batches: pixels float32 [N, S, S, 3], and seeds and views, int64 [N]."""
        wanted = [i for i, numbers in enumerate(views) if numbers]
        files = (images[i] for i in wanted)
        seeds = augmentation.seeds([hashes[i] for i in wanted])
        at_once = images_at_once()
        # A dataset of tf.data takes as long for 1,240 photographs, and 0.12 s more to start, which
        # each part of a run with a few new images would wait for.
        decoded = computed_ahead(self._decoded, files, processors(), 2 * at_once)
        rows: list[tuple[tf.Tensor, int, int]] = []
        with contextlib.closing(decoded):
            for i, seed, pixels in zip(wanted, seeds, decoded, strict=True):
                rows += [(pixels, seed, view) for view in views[i]]  # decoded once for all views
                while len(rows) >= at_once:
                    yield _batch(rows[:at_once])
                    del rows[:at_once]
        if rows:
            yield _batch(rows)

    @functools.cached_property
    def _decoded(self) -> Callable[[bytes], tf.Tensor]:
        """Function from an encoded image to its pixels, float32 [S, S, 3]."""
        import tensorflow as tf

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
        def decoded(image: tf.Tensor) -> tf.Tensor:
            return preprocess.decode(image, self.image_size)

        def on_processor(image: bytes) -> tf.Tensor:
            with tf.device("CPU"):
                return decoded(tf.constant(image))

        return on_processor

    def _built(self) -> tuple[Any, PolymorphicFunction]:
        """Return the model that gives the features or activations, and the forward pass."""
        with self._lock:
            if self._model is None:
                model, compute = self._activations() if self.layer else self._pooled()
                self._model = model, self._compiled(compute)
            return self._model

    def _activations(self) -> tuple[Any, Callable[[tf.Tensor], tf.Tensor]]:
        model = self.build()
        return model, functools.partial(model, training=False)

    @property
    def feature_maps(self) -> FeatureMaps:
        """The backbone, which all extractors of the same weights, size and precision share."""
        network = BankNetwork(self.settings.with_axes(""), self.precision)
        return _feature_maps(network, FeatureExtractor(*network).key(0))

    def build(self) -> Any:
        """Build a Keras model from pixels float32 [N, S, S, 3], 0..255, to float32 [N, dim].

        If a layer is given, the output is the activations [N, h, w, C] at that layer.
        """
        import keras

        shared = self.feature_maps
        if self.layer:
            outputs = layer_at(shared.network, self.layer).outputs[0]
        else:
            with _policy(self.precision):
                outputs = features_of(self.settings, shared.maps)
        return keras.Model(
            shared.pixels, outputs
        )  # the name of an own network may be none for Keras

    def _pooled(self) -> tuple[Any, Callable[[tf.Tensor], tf.Tensor]]:
        """Return the part above the feature maps as a model, and all as a function of pixels."""
        import keras

        shared = self.feature_maps
        with _policy(self.precision):
            maps = [keras.Input(each.shape[1:], dtype=each.dtype) for each in shared.maps]
            pooling = keras.Model(maps, features_of(self.settings, maps))

        def features(pixels: tf.Tensor) -> tf.Tensor:
            values = shared.graph(pixels)
            return pooling(values if len(values) > 1 else values[0], training=False)

        return pooling, features

    def _compiled(self, compute: Callable[[tf.Tensor], tf.Tensor]) -> PolymorphicFunction:
        """Return the forward pass as a graph, with the augmentation before it."""
        import tensorflow as tf

        side = self.image_size

        @tf.function(
            autograph=False,
            jit_compile=False,
            input_signature=[
                tf.TensorSpec([None, side, side, 3], tf.float32),
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None], tf.int64),
            ],
        )
        def forward(pixels: tf.Tensor, seeds: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
            shown = augmentation.augment(pixels, seeds, views, self.views)
            values = tf.cast(compute(shown), tf.float32)
            limited = tf.clip_by_value(values, -_FLOAT16_LARGEST, _FLOAT16_LARGEST)
            return tf.cast(limited, tf.float16)

        return forward


def _batch(rows: Sequence[tuple[tf.Tensor, int, int]]) -> list[tf.Tensor]:
    """Return rows of pixels, seed and number of a view as three columns."""
    import tensorflow as tf

    pixels, seeds, numbers = zip(*rows, strict=True)
    with tf.device("CPU"):
        return [tf.stack(pixels), tf.constant(seeds, tf.int64), tf.constant(numbers, tf.int64)]


@dataclass(frozen=True)
class FeatureMaps:
    """A frozen backbone in the precision in which features are computed.

    Attributes:
        pixels: Symbolic pixels [N, S, S, 3], 0..255.
        maps: The feature maps of these that a head reads, as `classifier.build_maps` returns them.
    """

    pixels: keras.KerasTensor
    maps: list[keras.KerasTensor]

    @functools.cached_property
    def network(self) -> keras.Model:
        """The backbone as a model, from pixels to the maps."""
        import keras

        return keras.Model(self.pixels, self.maps)

    @functools.cached_property
    def graph(self) -> Callable[[tf.Tensor], list[tf.Tensor]]:
        """The backbone as one graph, which is traced once: from pixels, float32, to the maps."""
        import tensorflow as tf

        # On a CPU, XLA is slower for convolutions (tensorflow/tensorflow#62808); see
        # docs/benchmarks.md, "Constants of the code".
        traced = tf.function(
            lambda pixels: tf.nest.flatten(self.network(pixels, training=False)),  # one is no list
            autograph=False,
            jit_compile=False,
        )
        shape = [None, *self.pixels.shape[1:]]
        return traced.get_concrete_function(tf.TensorSpec(shape, tf.float32))


@functools.lru_cache(maxsize=2)  # two sizes of the images are compared at a time
def _feature_maps(network: BankNetwork, key: str) -> FeatureMaps:
    with _policy(network.precision):
        return FeatureMaps(*build_maps(network.settings))


def _policy(precision: str) -> AbstractContextManager[None]:
    """Return the block in which layers are built for a precision.

    A head that is trained on features of bfloat16 loses nothing when it is served on those of
    float32; what it gains is in docs/benchmarks.md, "Constants of the code".
    """
    return process.dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")


class BankNetwork(NamedTuple):
    """What a feature bank is computed with; see `FeatureExtractor`."""

    settings: Settings
    precision: str

    def changed(self, **model: object) -> BankNetwork:
        """Return the same with other values of some settings of `[model]`."""
        return self._replace(settings=self.settings.but(model=model))

    def with_axes(self, file: str) -> BankNetwork:
        """Return the same with a file of axes; see `Settings.axes`."""
        return self._replace(settings=self.settings.with_axes(file))


def weights_key(settings: Settings, precision: str) -> str:
    """Return the fingerprint of everything but the images that decides the features.

    View 0 is the image itself; view 1 stands for all augmented ones, which share settings.
    """
    extractor = FeatureExtractor(settings, precision)
    return f"{extractor.key(0)[:16]}-{extractor.key(1)[:16]}"


@functools.cache
def resolve_precision(precision: str) -> str:
    """Return "float32" or "bfloat16"; "auto" chooses one of them by the processor and the GPU."""
    if precision != "auto":
        return precision
    if has_gpu() or processor_features().isdisjoint(_BFLOAT16_FEATURES):
        return "float32"
    return "bfloat16"
