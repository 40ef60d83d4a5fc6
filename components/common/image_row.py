"""An image of the source, as reading makes it, and what is found in it.

`images.py` has the table of all images, and the filter what becomes of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from typing_extensions import TypedDict

from imgpipe.components.common.image_file.content import Content
from imgpipe.components.common.image_file.header import as_png, by_pillow
from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.storage.records import make, read_json
from imgpipe.models import names
from imgpipe.models.finding import Finding
from imgpipe.models.settings.data import Severity
from imgpipe.serving.look import Look

if TYPE_CHECKING:
    import tensorflow as tf

INGEST_SUMMARY: Final = "ingest.json"
#: Reasons of a `Problem`: several labels, splits or groups for one file, a label that is
#: not in `data.classes`, and a group whose images are in several splits of the source.
TWO_LABELS = "two_labels"
TWO_SPLITS = "two_splits"
TWO_GROUPS = "two_groups"
OUTSIDE_CLASSES = "outside_classes"
GROUP_ACROSS_SPLITS = "group_across_splits"
#: Why a file is repaired: only Pillow reads it, so that it is stored as PNG.
TRANSCODED = "transcoded"
#: Features that have a distribution. Statistics, schema and anomalies are about these.
METADATA: tuple[str, ...] = (*names.METADATA, *MEASUREMENTS)
#: What an Example has besides the bytes: what features and training need, and the path, by which
#: people know an image. Those of ImageExampleGen have what is known when an image is read.
_OF_READ: Final = (
    *(names.LABEL, names.LABEL_INDEX, names.SPLIT, names.PATH, names.IMAGE_HASH, names.GROUP),
)
OF_KEPT: Final = (*_OF_READ, names.REPAIRS, names.FAMILY)


class Problem(NamedTuple):
    """Why a source rejects an image."""

    reason: str
    detail: str


class PlacedImage(TypedDict):
    """An image of the source with its label and its split, as all lists have it."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    label: Annotated[str, "Label of the image."]
    split: Annotated[str, "Split of the image."]


class FileFinding(PlacedImage):
    """A finding about a file, as all lists have it."""

    reason: Annotated[str, "Name of the check, or of a reviewed file the decision."]
    detail: Annotated[str, "What was found."]
    severity: Annotated[str, "What happens to the file: reject, repair or warn."]
    score: Annotated[float, "Score of the image in this check; the lowest is the worst."]
    override: Annotated[str, "What to do about it, or to keep a rejected file."]
    kept_copy: Annotated[str, "Path of the image of which it is a copy; empty without one."]
    stored: Annotated[str, "Name of the file in the quarantine; empty without a run."]


@dataclass(frozen=True, slots=True)
class ImageFinding:
    """What a check or the comparison with other images found in one image.

    A check sets the reason, the detail and the score; `described` lists it as a `FileFinding`.
    """

    reason: str
    detail: str
    severity: Severity = "reject"
    score: float = 0.0  # lower is worse; 0 when the finding has no degree
    remedy: str = ""  # what to do to keep the image
    kept_copy: str = ""  # path of the image of which it is a copy


@dataclass(slots=True)
class ImageRow(Content):
    """An image file of the source: what its bytes are, and what its source says.

    Attributes:
        path: Path in the source, with forward slashes.
        label: Its class; "" without one.
        label_index: Index of the label in the vocabulary, -1 for a label that is not in it.
        split: Its split, which may have been drawn.
        image_hash: Hex SHA-256 of the file as found; "" when it could not be read.
        group: The group that the source gives; "" for none. Images of one group share a split.
        byte_size: Number of bytes of the file.
        read_error: Why the file could not be read.
        problem: Reason for which the source rejects the file; "" if it does not.
        problem_detail: What it says about that.
        image_bytes: The encoded file, which no table has.
    """

    path: str
    label: str = ""
    label_index: int = -1
    split: str = ""
    image_hash: str = ""
    group: str = ""
    byte_size: int = 0
    read_error: str = ""
    problem: str = ""
    problem_detail: str = ""
    image_bytes: bytes = field(default=b"", repr=False)


def served_bytes(row: Any, image_bytes: bytes) -> bytes:
    """Return a file as the model reads it: as PNG if only Pillow reads it.

    Args:
        row: The image, as an `ImageRow` or a row of a table.
        image_bytes: The file as found.
    """
    image, _ = by_pillow(Look(image_bytes)) if row.converted else (None, "")
    return image_bytes if image is None else as_png(image)


def to_example(
    row: Any, image_bytes: bytes, features: Iterable[str] = _OF_READ
) -> tf.train.Example:
    """Return the Example of an image; `row` is an `ImageRow`, or a row of a table for `OF_KEPT`."""
    values = {name: getattr(row, name) for name in features}
    return make({names.IMAGE_BYTES: image_bytes, **values})


def described(row: Any, finding: ImageFinding) -> FileFinding:
    """Return a finding with the image that it is about, which is a row of a table."""
    return {
        "path": row.path,
        "image_hash": row.image_hash,
        "label": row.label,
        "split": row.split,
        "reason": finding.reason,
        "detail": finding.detail,
        "severity": finding.severity,
        "score": round(finding.score, 6),
        "override": "" if finding.severity == "repair" else finding.remedy,
        "kept_copy": finding.kept_copy,
        "stored": row.stored if finding.severity == "reject" else "",
    }


class IngestSummary(TypedDict):
    """What was read of a source."""

    images: Annotated[int, "Number of files."]
    splits: Annotated[dict[str, int], "Number of files by split."]
    fingerprint: Annotated[str, "SHA-256 of the keys of all files."]
    notes: Annotated[list[Finding], "What the source did not read, by reason."]
    rule: Annotated[dict[str, Any], "The rule of the splits, as a `SplitRule` has it."]


def read_ingest_summary(examples_uri: str) -> IngestSummary | None:
    """Read the summary beside Examples; None if there is none."""
    import tensorflow as tf

    path = f"{examples_uri}/{INGEST_SUMMARY}"
    if not tf.io.gfile.exists(path):
        return None
    summary: IngestSummary = read_json(path)
    return summary
