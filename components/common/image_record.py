"""An image as components write it to tf.Examples and as results name it, and the summary of all.

Inspection creates the record, the checks read it, and the Examples artifacts store it. TensorFlow
is imported only when an Example is created.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from typing_extensions import TypedDict

from imgpipe.components.common.image_file.content import Content
from imgpipe.components.common.image_file.header import as_png, by_pillow
from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.storage.records import Value, first, make, read_json, text
from imgpipe.models import names
from imgpipe.models.finding import Finding
from imgpipe.serving.look import Look

if TYPE_CHECKING:
    import tensorflow as tf

_OF_ITS_CONTENT = {
    field.name: field.default for field in dataclasses.fields(Content) if field.name != "figures"
}
INGEST_SUMMARY: Final = "ingest.json"


class NamedImage(TypedDict):
    """An image of the source."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]


class LabelledImage(NamedImage):
    """An image with its label."""

    label: Annotated[str, "Label of the image."]


class PlacedImage(LabelledImage):
    """An image with its label and its split."""

    split: Annotated[str, "Split of the image."]


#: Reasons of `ImageRecord.problem`: several labels, splits or groups for one file, a label that is
#: not in `data.classes`, and a group whose images are in several splits of the source.
TWO_LABELS = "two_labels"
TWO_SPLITS = "two_splits"
TWO_GROUPS = "two_groups"
OUTSIDE_CLASSES = "outside_classes"
GROUP_ACROSS_SPLITS = "group_across_splits"
#: What `ImageRecord.repairs` says of an image that is stored as PNG.
TRANSCODED = "transcoded"
#: Features that have a distribution. Statistics, schema and anomalies are about these.
METADATA: tuple[str, ...] = (*names.METADATA, *MEASUREMENTS)


@dataclass(frozen=True)
class ImageRecord:
    """One image file: its path, label and bytes, and what the bytes contain."""

    path: str  # relative to the root of the source, with forward slashes
    label: str = ""  # class name, "" when the source gives none
    label_index: int = -1  # index in the vocabulary, -1 for a label that is not in it
    split: str = ""
    image_hash: str = ""  # hex SHA-256 of the file as found, "" when it could not be read
    byte_size: int = 0
    read_error: str = ""  # why the file could not be read
    group: str = ""  # images of one group share a split; "" when the image has no group
    near_group: int = 0  # number of the group of near-duplicates, from 1 on; 0 for none
    seen_family: int = 0  # 1 for a held-out image if train has images of its group
    problem: str = ""  # "<reason>: <detail>" when the source rejects the file
    repairs: str = ""  # "transcoded" where the file is stored as PNG
    image_bytes: bytes = field(default=b"", repr=False)  # the encoded file
    content: Content = field(default_factory=Content)  # empty for a file that cannot be read

    @property
    def aspect_ratio(self) -> float:
        """Width / height, rounded as an Example stores it; 0 when the size is unknown."""
        width, height = self.content.width, self.content.height
        return float(np.float32(width / height)) if height else 0.0

    def as_served(self) -> ImageRecord:
        """Return the record of an image that is used, as PNG if only Pillow reads the file."""
        image, _ = by_pillow(Look(self.image_bytes)) if self.content.converted else (None, "")
        if image is None:
            return self
        content = dataclasses.replace(self.content, decode_error="", converted="")
        stored = as_png(image)
        return dataclasses.replace(self, image_bytes=stored, repairs=TRANSCODED, content=content)

    def features(self) -> dict[str, Value]:
        """Values of the features by name; only `METADATA` has those that say nothing, too."""
        values = {name: getattr(self, name) for name in _OF_THE_FILE}
        values |= {name: getattr(self.content, name) for name in _OF_ITS_CONTENT}
        said = {k: v for k, v in values.items() if k in METADATA or v != _DEFAULTS[k]}
        return {**said, names.ASPECT_RATIO: self.aspect_ratio, **self.content.figures}

    def to_example(self) -> tf.train.Example:
        """Convert to a tf.train.Example with the values of `features`."""
        return make(self.features())

    @classmethod
    def from_example(cls, example: tf.train.Example) -> ImageRecord:
        """Convert back from `to_example`; a missing feature gets the default of its field."""
        # All features with one float are measurements, so that a new one needs no list here.
        figures = {
            name: feature.float_list.value[0]
            for name, feature in example.features.feature.items()
            if name != names.ASPECT_RATIO and len(feature.float_list.value) == 1
        }
        content = Content(figures=figures, **_read(example, _OF_ITS_CONTENT))
        return cls(content=content, **_read(example, _OF_THE_FILE))


def _read(example: tf.train.Example, defaults: Mapping[str, object]) -> dict[str, Any]:
    """Read the features that are fields, by the defaults of these fields."""
    return {
        name: first(example, name, default)
        if default is None or isinstance(default, bytes | int)
        else text(example, name)
        for name, default in defaults.items()
    }


#: Default of each field that is a feature of the same name.
_OF_THE_FILE = {
    field.name: field.default
    for field in dataclasses.fields(ImageRecord)
    if field.name != "content"
}
_DEFAULTS = _OF_THE_FILE | _OF_ITS_CONTENT


class IngestSummary(TypedDict):
    """What was read of a source."""

    images: Annotated[int, "Number of files."]
    splits: Annotated[dict[str, int], "Number of files by split."]
    fingerprint: Annotated[str, "SHA-256 of the keys of all files."]
    notes: Annotated[list[Finding], "What the source did not read, by reason."]
    rule: Annotated[dict[str, Any], "The rule of the splits, as `SplitRule.from_json` reads it."]


def read_ingest_summary(examples_uri: str) -> IngestSummary | None:
    """Read the summary beside Examples; None if there is none."""
    import tensorflow as tf

    path = f"{examples_uri}/{INGEST_SUMMARY}"
    if not tf.io.gfile.exists(path):
        return None
    summary: IngestSummary = read_json(path)
    return summary
