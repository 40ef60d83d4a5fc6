"""Views of small images, by the same call everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from imgpipe.models.augmentation import ViewSpec, augment, seeds

#: Nothing changes; each test turns on what it is about.
STILL = ViewSpec(rotation=0, shifts=0, shear=0, zoom=0, horizontal_flip=False)


def hashes_of(count: int) -> np.ndarray:
    """Seeds of `count` different images."""
    return np.array(seeds([hashlib.sha256(str(n).encode()).hexdigest() for n in range(count)]))


def views_of(images: np.ndarray, view: object, spec: ViewSpec) -> np.ndarray:
    """`augment`, as a graph, on images whose hashes are those of their places."""
    import tensorflow as tf

    graph = tf.function(lambda i, h, v: augment(i, h, v, spec), jit_compile=False)
    hashes = tf.constant(hashes_of(len(images)), tf.int64)
    return graph(tf.constant(images, tf.float32), hashes, tf.constant(view, tf.int64)).numpy()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Float32 [24, 32, 32, 3], no colour near either end of 0..255."""
    return np.random.default_rng(3).uniform(80, 170, (24, 32, 32, 3)).astype(np.float32)
