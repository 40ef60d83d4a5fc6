"""The record of one image, and its mapping to and from tf.train.Example.

Inspection creates the record, the checks read it, and the Examples artifacts store it. TensorFlow
is imported only when an Example is created.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.components.common.storage.records import first, make, text
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

#: File beside the splits of ImageExampleGen's Examples: their numbers of images, the notes of the
#: source and the rule of the splits.
INGEST_SUMMARY = "ingest.json"
#: Reasons of `ImageRecord.problem`: several labels, splits or groups for one file, a label that is
#: not in `data.classes`, and a group whose images are in several splits of the source.
TWO_LABELS = "two_labels"
TWO_SPLITS = "two_splits"
TWO_GROUPS = "two_groups"
OUTSIDE_CLASSES = "outside_classes"
GROUP_ACROSS_SPLITS = "group_across_splits"
#: Features that are omitted when they have this value.
_OPTIONAL = {
    names.PERCEPTUAL_HASH: None,
    names.REPAIRS: "",
    names.NEAR_GROUP: 0,
    names.SEEN_FAMILY: 0,
    "camera": "",
    "captured": 0,
    "damage": "",
}


@dataclass(frozen=True)
class ImageRecord:
    """One image file: its path, label and bytes, its header, decode result and measurements."""

    path: str  # relative to the root of the source, with forward slashes
    label: str = ""  # class name, "" when the source gives none
    label_index: int = -1  # index in the vocabulary, -1 for a label that is not in it
    split: str = ""
    image_hash: str = ""  # hex SHA-256 of the file as found, "" when it could not be read
    width: int = 0  # pixels as decoded, or from the header when the file was not decoded
    height: int = 0
    format: str = ""  # Pillow's name of the format, such as "JPEG"
    mode: str = ""  # Pillow's mode, such as "RGB"
    byte_size: int = 0
    frames: int = 1
    channels: int = 0
    read_error: str = ""  # why the file could not be read
    decode_error: str = ""  # why the serving op cannot decode the file, "" when it can
    damage: str = ""  # sign that the pixels of a readable file are wrong; "" for none
    symlink: int = 0  # 1 when the file was reached through a symbolic link
    camera: str = ""  # model of the camera, "" when the file does not say it
    captured: int = 0  # moment of the photograph by the camera's clock, in seconds; 0: unknown
    group: str = ""  # images of one group share a split; "" when the image has no group
    near_group: int = 0  # number of the group of near-duplicates, from 1 on; 0 for none
    seen_family: int = 0  # 1 for a held-out image if train has images of its group
    problem: str = ""  # "<reason>: <detail>" when the source rejects the file
    repairs: str = ""  # names of the repairs made to the bytes, separated by commas
    image_bytes: bytes = field(default=b"", repr=False)  # the encoded file
    perceptual_hash: bytes | None = field(default=None, repr=False)  # None when not decoded
    #: Values by measurement, rounded to 32 bits as an Example stores them; empty when not decoded.
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Number of pixels, width × height."""
        return self.width * self.height

    @property
    def aspect_ratio(self) -> float:
        """Width / height, rounded as an Example stores it; 0 when the size is unknown."""
        return float(np.float32(self.width / self.height)) if self.height else 0.0

    def without_pixels(self) -> ImageRecord:
        """Return a copy without bytes and measurements, of which memory holds many."""
        return dataclasses.replace(self, image_bytes=b"", perceptual_hash=None, figures={})

    def features(self) -> dict[str, Any]:
        """Values of all features of the record, by name."""
        values = {name: getattr(self, name) for name in _SIMPLE}
        values = {k: v for k, v in values.items() if k not in _OPTIONAL or v != _OPTIONAL[k]}
        return {**values, names.ASPECT_RATIO: self.aspect_ratio, **self.figures}

    def to_example(self) -> tf.train.Example:
        """Convert to a tf.train.Example with the values of `features`."""
        return make(self.features())

    @classmethod
    def from_example(cls, example: tf.train.Example) -> ImageRecord:
        """Convert back from `to_example`; a missing feature gets the default of its field."""
        values: dict[str, Any] = {
            name: first(example, name, default)
            if default is None or isinstance(default, bytes | int)
            else text(example, name)
            for name, default in _SIMPLE.items()
        }
        # All features with one float are measurements, so that a new one needs no list here.
        figures = {
            name: feature.float_list.value[0]
            for name, feature in example.features.feature.items()
            if name != names.ASPECT_RATIO and len(feature.float_list.value) == 1
        }
        return cls(figures=figures, **values)


#: Default of each field that is a feature of the same name.
_SIMPLE = {
    field.name: field.default
    for field in dataclasses.fields(ImageRecord)
    if field.name != "figures"
}
