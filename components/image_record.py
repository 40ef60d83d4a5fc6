"""What is known of one image of the source, and its mapping to and from tf.train.Example.

Inspection makes the record, the checks read it, and the Examples artifacts store it. TensorFlow is
imported only where an Example is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from imgpipe.components.records import first, make, text
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

#: Fields whose feature has another name.
_FEATURE_OF = {"perceptual_hash": names.LIKENESS}
#: Features that are left out while they have no value.
_OPTIONAL = {names.LIKENESS: None, names.REPAIRS: ""}


@dataclass(frozen=True)
class ImageRecord:
    """One image file as it was found, with what its header, its decoder and its pixels say."""

    path: str  # below the root of the source, with forward slashes
    label: str = ""  # class name, "" where the source names none
    label_index: int = -1  # place in the vocabulary, -1 for a label that is not in it
    split: str = ""
    image_hash: str = ""  # hex SHA-256 of the file as found, "" when it could not be read
    width: int = 0  # pixels, as decoded; by the header when the file was not decoded
    height: int = 0
    format: str = ""  # Pillow's name
    mode: str = ""  # Pillow's mode
    byte_size: int = 0
    frames: int = 1
    orientation: int = 1  # Exif: 1 upright, 2–8 mirrored or turned
    channels: int = 0
    read_error: str = ""  # why the file could not be read
    decode_error: str = ""  # why the serving op does not decode the file, "" when it does
    symlink: int = 0  # 1 when the file was reached through a symbolic link
    group: str = ""  # images of one group share a split; "" when the image has no group
    problem: str = ""  # "<reason>: <detail>" when the source itself objects to the file
    repairs: str = ""  # names of the repairs made to the bytes, separated by commas
    image_bytes: bytes = field(default=b"", repr=False)  # the encoded file
    perceptual_hash: bytes | None = field(default=None, repr=False)  # None when not decoded
    #: Measurement → its value, rounded to 32 bits as an Example stores it; empty when not decoded.
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width * self.height

    @property
    def aspect_ratio(self) -> float:
        """Width / height, rounded as an Example stores it; 0 while the size is unknown."""
        return float(np.float32(self.width / self.height)) if self.height else 0.0

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 of the bytes that are decoded: those of the file, unless it was repaired."""
        return hashlib.sha256(self.image_bytes).hexdigest() if self.repairs else self.image_hash

    def without_pixels(self) -> ImageRecord:
        """The record without its bytes and what was measured, to be kept in large numbers."""
        return dataclasses.replace(self, image_bytes=b"", perceptual_hash=None, figures={})

    def features(self) -> dict[str, Any]:
        """Every feature of the record by name."""
        values = {name: getattr(self, field) for field, name in _FIELDS.items()}
        values = {k: v for k, v in values.items() if k not in _OPTIONAL or v != _OPTIONAL[k]}
        return {**values, names.ASPECT_RATIO: self.aspect_ratio, **self.figures}

    def to_example(self) -> tf.train.Example:
        """The record as a tf.train.Example with the features of `imgpipe.models.feature_names`."""
        return make(self.features())

    @classmethod
    def from_example(cls, example: tf.train.Example) -> ImageRecord:
        """The reverse of `to_example`; features that are absent get the default of their field."""
        values: dict[str, Any] = {}
        for one in _SIMPLE_FIELDS:
            name = _FIELDS[one.name]
            if isinstance(one.default, (bytes, int)) or one.default is None:
                values[one.name] = first(example, name, one.default)
            else:
                values[one.name] = text(example, name)
        figures = {
            name: feature.float_list.value[0]
            for name, feature in example.features.feature.items()
            if name != names.ASPECT_RATIO and len(feature.float_list.value) == 1
        }
        return cls(figures=figures, **values)


_SIMPLE_FIELDS = [one for one in dataclasses.fields(ImageRecord) if one.name != "figures"]
_FIELDS = {one.name: _FEATURE_OF.get(one.name, one.name) for one in _SIMPLE_FIELDS}
