"""How far the features that a network computes are from those that its head has learned from.

The bank holds features of forward passes in bfloat16, where the processor has it. Rounding changes
features of photographs by some 10 %, and those of images that show little by 40 %. A network that
is not the one of the bank, or sees other pixels, changes them by more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from imgpipe.models import preprocess
from imgpipe.models.arrays import Array, Floats
from imgpipe.models.machine import process
from imgpipe.models.network.classifier import ClassifierNetwork, build_features, copy_weights
from imgpipe.models.settings.settings import Settings

#: Largest difference of the features of one network; see docs/benchmarks.md, "Constants of the
#: code".
LARGEST: Final = 0.25
_TINY: Final = 1e-6  # beside it, features that are all 0 have a size


def difference(computed: Floats, stored: Sequence[Array]) -> float:
    """Return the difference between features [N, D] and stored ones, as a share of their size.

    The stored ones are blocks [N, d], which have sizes of their own and count alike.
    """
    ends = np.cumsum([block.shape[1] for block in stored])[:-1]
    shares = []
    for block, expected in zip(np.split(computed, ends, axis=1), stored, strict=True):
        size = np.linalg.norm(expected.astype(np.float32)) + _TINY
        shares.append(np.linalg.norm(block - expected.astype(np.float32)) / size)
    return float(np.sqrt(np.mean(np.square(shares))))


def rounded(
    classifier: ClassifierNetwork, settings: Settings, images: Sequence[bytes], precision: str
) -> Floats:
    """Return the features [N, D] that a network of these settings computes in a bank's precision.

    It has the weights of the classifier, and sees the pixels that the classifier sees.
    """
    import keras
    import tensorflow as tf

    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    with process.dtype_policy(policy):
        pixels, _, features = build_features(settings)
    network = keras.Model(pixels, features)
    copy_weights(classifier.network, network, common=True)
    decoded = preprocess.batch_decode(tf.constant(list(images)), classifier.image_size)
    return np.asarray(network(decoded, training=False), np.float32)
