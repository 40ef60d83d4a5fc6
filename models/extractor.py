"""From encoded images to feature vectors: the frozen backbone, once for each image and view.

Decoding runs in tf.data beside the forward pass; the forward pass is a plain tf.function over
batches of views, in bfloat16 where the CPU multiplies it natively. `FeatureExtractor.key` is the
content address under which the store behind the bank keeps a vector.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from models import augmentation, backbones, preprocess, progress
from models.augmentation import ViewSpec
from models.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

PRECISIONS: Final = ("auto", "float32", "bfloat16")
BATCH_VIEWS: Final = 32  # 64 is no faster, and twice the memory

#: Part of every content address; raise it when the same weights and pixels give other features.
_VERSION: Final = "1"
_BFLOAT16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16"})
_GPU_DEVICES: Final = ("/dev/nvidia0", "/dev/dxg")  # Linux, and Windows' subsystem for it


class FeatureExtractor:
    """Runs one backbone on views of images.

    Making one is cheap, and so are `dim` and `key`; the model is built at the first `extract`.
    Safe to use from several threads.

    Args:
        backbone: Name in the table of backbones.
        image_size: Side in pixels; None is the size the weights were trained at.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the CPU has it and no GPU is
            used, float32 elsewhere.
        views: How augmented views look.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        image_size: int | None = None,
        precision: str = "auto",
        views: ViewSpec | None = None,
    ) -> None:
        self.backbone = backbones.get(backbone)
        self.image_size = self.backbone.image_size if image_size is None else image_size
        if self.image_size < 1:
            raise ConfigError(f"image_size: expected pixels, 1 or more. Received: {image_size!r}")
        self.precision = resolve_precision(precision)
        self.views = ViewSpec() if views is None else views
        self._lock = threading.Lock()
        self._forward: Callable[..., tf.Tensor] | None = None

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return self.backbone.feature_dim

    def key(self, view: int) -> str:
        """Content address (hex) of everything but the image that decides a view's features.

        The clean view's does not depend on the augmentation, and no view's on their number.
        """
        parts = {
            "version": _VERSION,
            "backbone": self.backbone.key(),
            "preprocess": preprocess.PREPROCESS_VERSION,
            "image_size": self.image_size,
            "precision": self.precision,
            "view": view,
            "augmentation": self.views.key() if view else None,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def extract(
        self, images: Sequence[bytes], hashes: Sequence[str], views: Sequence[Sequence[int]]
    ) -> list[npt.NDArray[np.float16]]:
        """Features of the views asked for.

        Args:
            images: Encoded images.
            hashes: Content hash (hex) of each; with the view's number it seeds the augmentation.
            views: Numbers of the views wanted of each image, 0 the clean one; may be empty.

        Returns:
            For each image, float16 [number of its views, dim], in the order asked for.

        Raises:
            tf.errors.InvalidArgumentError: An image cannot be decoded.
        """
        if not len(images) == len(hashes) == len(views):
            raise ValueError(
                "expected as many hashes and lists of views as images. Received: "
                f"{len(images)} images, {len(hashes)} hashes, {len(views)} lists of views"
            )
        counts = [len(wanted) for wanted in views]
        features = np.empty((sum(counts), self.dim), np.float16)
        if features.size:
            forward, done = self._model(), 0
            for batch in self._batches(images, hashes, views):
                vectors = forward(*batch).numpy()
                features[done : done + len(vectors)] = vectors
                done += len(vectors)
                progress.advance(len(vectors), "views")
        return np.split(features, np.cumsum(counts))[: len(counts)]

    def _batches(
        self, images: Sequence[bytes], hashes: Sequence[str], views: Sequence[Sequence[int]]
    ) -> tf.data.Dataset:
        """Batches (float32 [N, S, S, 3], seeds int64 [N], views int64 [N]) of at most 32 views."""
        import tensorflow as tf

        wanted = [i for i, numbers in enumerate(views) if numbers]
        columns = (
            tf.constant([images[i] for i in wanted], tf.string),
            tf.constant(augmentation.seeds([hashes[i] for i in wanted]), tf.int64),
            tf.ragged.constant([list(views[i]) for i in wanted], tf.int64, ragged_rank=1),
        )

        def repeat(image: tf.Tensor, seed: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, ...]:
            pixels = preprocess.decode_and_resize(image, self.image_size)
            count = tf.size(numbers)
            return tf.repeat(pixels[None], count, 0), tf.repeat(seed, count), numbers

        dataset = tf.data.Dataset.from_tensor_slices(columns)
        dataset = dataset.map(repeat, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return dataset.unbatch().batch(BATCH_VIEWS).prefetch(2)

    def _model(self) -> Callable[..., tf.Tensor]:
        with self._lock:
            if self._forward is None:
                self._forward = self._compile()
            return self._forward

    def _compile(self) -> Callable[..., tf.Tensor]:
        import tensorflow as tf

        model = build_features(self.backbone, self.image_size, self.precision)
        size = self.image_size

        # XLA is 15 to 20 times slower than this on a CPU.
        @tf.function(
            jit_compile=False,
            input_signature=[
                tf.TensorSpec([None, size, size, 3], tf.float32),
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None], tf.int64),
            ],
        )
        def forward(pixels: tf.Tensor, seeds: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
            return model(augmentation.augment(pixels, seeds, views, self.views), training=False)

        return forward


def build_features(backbone: backbones.Backbone, image_size: int, precision: str) -> Any:
    """Keras model from pixels [N, S, S, 3] (0..255) to pooled features float32 [N, dim].

    Keras' dtype policy is global: it is set for the build and put back, whatever happens.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        pixels = keras.Input((image_size, image_size, 3), dtype="float32", name="pixels")
        pool = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")
        return keras.Model(pixels, pool(backbone.build(pixels)), name=backbone.name)
    finally:
        keras.config.set_dtype_policy(before)


@functools.cache
def resolve_precision(precision: str) -> str:
    """ "float32" or "bfloat16"; "auto" looks at the machine.

    Raises:
        ConfigError: It is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision: expected one of {', '.join(PRECISIONS)}. Received: {precision!r}"
        )
    if precision != "auto":
        return precision
    return "float32" if _has_gpu() or not _has_bfloat16() else "bfloat16"


def _has_bfloat16() -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return not _BFLOAT16_FLAGS.isdisjoint(text.split())


def _has_gpu() -> bool:
    """Whether TensorFlow will use a GPU; it is imported only where the machine shows one."""
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
