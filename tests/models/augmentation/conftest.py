"""Fixtures and helpers that compute views of small images."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from imgpipe.models.augmentation import ViewSpec, augment, seeds

#: Settings with which a view is the image itself. Each test turns on what it is about.
STILL = ViewSpec(rotation=0, shifts=0, shear=0, zoom=0, horizontal_flip=False)


def hashes_of(count: int) -> np.ndarray:
    """Return the seeds [count] of `count` different images, which come from their hashes."""
    return np.array(seeds([hashlib.sha256(str(n).encode()).hexdigest() for n in range(count)]))


def views_of(images: np.ndarray, view: object, spec: ViewSpec) -> np.ndarray:
    """Compute views with `augment` in a graph; an image's hash is that of its index."""
    import tensorflow as tf

    graph = tf.function(lambda i, h, v: augment(i, h, v, spec), jit_compile=False)
    hashes = tf.constant(hashes_of(len(images)), tf.int64)
    return graph(tf.constant(images, tf.float32), hashes, tf.constant(view, tf.int64)).numpy()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Return float32 [24, 32, 32, 3] whose values are far from both ends of 0..255."""
    return np.random.default_rng(3).uniform(80, 170, (24, 32, 32, 3)).astype(np.float32)
