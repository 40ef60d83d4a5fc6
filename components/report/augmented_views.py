"""The augmented views of a few training images that the page shows."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from imgpipe.components.report.sections.views import columns, key
from imgpipe.components.storage import records
from imgpipe.models import feature_names as names
from imgpipe.models.augmentation import ViewSpec, contact_sheet

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
        PNG files by `key`.
    """
    settings = facts["settings"]
    made: dict[str, bytes] = {}
    for row in facts.get("views") or []:
        data = images.get(row["image_hash"])
        if data is None:
            continue
        spec = dataclasses.replace(ViewSpec(**settings["views"]), count=columns(settings))
        views = contact_sheet.view_pixels(data, row["content_hash"], spec, settings["image_size"])
        for number, view in enumerate(views):
            made[key(row["image_hash"], number)] = bytes(tf.io.encode_png(view).numpy())
    return made
