"""The augmented views of a few training images that the page shows.

The pixels are those that the feature bank gives to the backbone, with the same decoding, the same
seeds and the same graph.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imgpipe.components.report.sections.training import view_columns, view_key
from imgpipe.components.storage import records
from imgpipe.models import augmentation, preprocess
from imgpipe.models import feature_names as names
from imgpipe.models.augmentation import ViewSpec

ROWS = 4  # images shown
_LOOKED_AT = 256  # number of training examples from which the images are chosen


def choose(examples_uri: str) -> list[dict[str, str]]:
    """Choose a few training images from each class in turn.

    Args:
        examples_uri: URI of the Examples that ImageFilter kept.

    Returns:
        Path, label, image_hash and content_hash of up to `ROWS` images.
    """
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for example in itertools.islice(records.iterate(examples_uri, names.TRAIN), _LOOKED_AT):
        row = {
            "path": records.text(example, names.PATH),
            "label": records.text(example, names.LABEL),
            "image_hash": records.text(example, names.IMAGE_HASH),
            "content_hash": records.content_hash(example),
        }
        found[row["label"]].append(row)
    turns = itertools.zip_longest(*(found[label] for label in sorted(found)))
    return [row for turn in turns for row in turn if row][:ROWS]


def encoded_views(facts: Mapping[str, Any], images: Mapping[str, bytes]) -> dict[str, bytes]:
    """Encode the views of the images in ``facts["views"]``.

    Args:
        facts: Facts of the run.
        images: Encoded images by hash. Images that are missing are skipped.

    Returns:
        PNG files by `view_key`.
    """
    settings = facts["settings"]
    made: dict[str, bytes] = {}
    for row in facts.get("views") or []:
        data = images.get(row["image_hash"])
        if data is None:
            continue
        spec = dataclasses.replace(ViewSpec(**settings["views"]), count=view_columns(settings))
        views = view_pixels(data, row["content_hash"], spec, settings["image_size"])
        for number, view in enumerate(views):
            made[view_key(row["image_hash"], number)] = bytes(tf.io.encode_png(view).numpy())
    return made


def view_pixels(
    image: bytes, content_hash: str, spec: ViewSpec, image_size: int
) -> npt.NDArray[np.uint8]:
    """Return the image itself and all its augmented views.

    Args:
        image: The encoded image.
        content_hash: SHA-256 (hex) of the encoded image, which seeds the views.
        spec: Settings of the views and their number.
        image_size: Side S in pixels at which the backbone sees the image.

    Returns:
        The views, uint8 [1 + count, S, S, 3].

    Raises:
        tf.errors.InvalidArgumentError: The bytes are not an image that the op can decode.
    """
    count = 1 + spec.count
    pixels = preprocess.decode_and_resize(tf.constant(image), image_size)
    views = _graph(spec, image_size)(
        tf.repeat(pixels[None], count, 0),
        tf.repeat(tf.constant(augmentation.seeds([content_hash]), tf.int64), count),
        tf.range(count, dtype=tf.int64),
    )
    return tf.cast(tf.round(tf.clip_by_value(views, 0.0, 255.0)), tf.uint8).numpy()


@functools.lru_cache(maxsize=1)  # one page is made at a time
def _graph(spec: ViewSpec, image_size: int) -> Any:
    """Return `augment` as a graph, which is traced once for a page."""
    return tf.function(
        lambda pixels, seeds, views: augmentation.augment(pixels, seeds, views, spec),
        autograph=False,
        jit_compile=False,
        input_signature=[
            tf.TensorSpec([None, image_size, image_size, 3], tf.float32),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None], tf.int64),
        ],
    )
