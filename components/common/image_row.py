"""An image of the source: the one row that reading makes, the filter completes, and results name.

ImageExampleGen writes a table of the rows beside its Examples, and ImageFilter the completed ones
into the quarantine (`row_files.py`). TensorFlow is imported only when an Example is made.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from typing_extensions import TypedDict

from imgpipe.components.common.image_file.content import Content
from imgpipe.components.common.image_file.header import as_png, by_pillow
from imgpipe.components.common.image_file.pixels import MEASUREMENTS
from imgpipe.components.common.storage.records import Value, make, read_json
from imgpipe.models import names
from imgpipe.models.finding import Finding
from imgpipe.models.settings.data import Severity
from imgpipe.serving.look import Look

if TYPE_CHECKING:
    import tensorflow as tf

INGEST_SUMMARY: Final = "ingest.json"
#: Reasons of `ImageRow.problem`: several labels, splits or groups for one file, a label that is
#: not in `data.classes`, and a group whose images are in several splits of the source.
TWO_LABELS = "two_labels"
TWO_SPLITS = "two_splits"
TWO_GROUPS = "two_groups"
OUTSIDE_CLASSES = "outside_classes"
GROUP_ACROSS_SPLITS = "group_across_splits"
#: What `ImageRow.repairs` says of an image that is stored as PNG.
TRANSCODED = "transcoded"
#: Features that have a distribution. Statistics, schema and anomalies are about these.
METADATA: tuple[str, ...] = (*names.METADATA, *MEASUREMENTS)
#: Fields of a row that an Example has: what features and training need, and the path, by which
#: people know an image. The table has all.
_IN_EXAMPLES = (
    *(names.IMAGE_BYTES, names.LABEL, names.LABEL_INDEX, names.SPLIT, names.PATH),
    *(names.IMAGE_HASH, names.REPAIRS, names.GROUP, names.FAMILY),
)


class PlacedImage(TypedDict):
    """An image of the source with its label and its split, as all lists have it."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    label: Annotated[str, "Label of the image."]
    split: Annotated[str, "Split of the image."]


class Row(PlacedImage):
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

    A check sets the reason, the detail and the score; `ImageRow.described` lists it as a `Row`.
    """

    reason: str
    detail: str
    severity: Severity = "reject"
    score: float = 0.0  # lower is worse; 0 when the finding has no degree
    remedy: str = ""  # what to do to keep the image
    kept_copy: str = ""  # path of the image of which it is a copy


@dataclass(slots=True)
class ImageRow(Content):
    """An image file of the source: what its bytes are, what its source says, what became of it.

    Attributes:
        path: Path in the source, with forward slashes.
        label: Its class, which an override may have given; "" without one.
        label_index: Index of the label in the vocabulary, -1 for a label that is not in it.
        split: Its split, to which it may have been moved.
        image_hash: Hex SHA-256 of the file as found; "" when it could not be read.
        group: The group that the source gives, or the family that was found; "" for none. Images
            of one group share a split.
        byte_size: Number of bytes of the file.
        read_error: Why the file could not be read.
        problem: "<reason>: <detail>" when the source rejects the file.
        image_bytes: The encoded file, which no table has.
        repairs: "transcoded" where it is PNG instead of the file as found.
        is_family: Whether the group is a family that was found.
        near_group: Number of its group of near-duplicates, from 1 on; 0 for none.
        family: Name of the images that are not independent of each other: those of one group, and
            near-duplicates, also over several steps. It is the smallest hash among them, which is
            its own where it is alone; "" before the filter has compared the images.
        seen_family: Whether it is held out, and train keeps an image of its family.
        source_label: The label in the source.
        source_index: Index of that label in the vocabulary, -1 when it is not in it.
        verdict: The verdict of its override; "" without one.
        findings: What was found: the repair and all warnings of an image that is kept, and the one
            finding that rejects another.
        stored: Path of the stored bytes of a rejected file, relative to the quarantine.
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
    image_bytes: bytes = field(default=b"", repr=False)
    repairs: str = ""
    is_family: bool = False
    near_group: int = 0
    family: str = ""
    seen_family: bool = False
    source_label: str = ""
    source_index: int = -1
    verdict: str = ""
    findings: tuple[ImageFinding, ...] = ()
    stored: str = ""

    @property
    def rejection(self) -> ImageFinding | None:
        """The finding that rejects the image; None when it is kept."""
        is_rejected = bool(self.findings) and self.findings[0].severity == "reject"
        return self.findings[0] if is_rejected else None

    @property
    def is_relabelled(self) -> bool:
        """Whether an override gives the image another label than the source."""
        return self.label_index != self.source_index

    @property
    def is_accepted(self) -> bool:
        """Whether a person keeps the image although a check rejects it, also by giving it a label.

        Nothing is decided about an image of test that is relabelled; see `Override.relabels`.
        """
        return self.verdict == "accept" or (self.verdict == "relabel" and self.split != names.TEST)

    def with_severity(self, severity: Severity) -> list[ImageFinding]:
        """Return the findings of a severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def has(self, reason: str) -> bool:
        """Return whether something was found for this reason."""
        return any(finding.reason == reason for finding in self.findings)

    def add(self, finding: ImageFinding) -> None:
        """Add a finding; one that rejects the image is the only one that counts."""
        rejects = finding.severity == "reject"
        self.findings = (finding,) if rejects else (*self.findings, finding)

    @property
    def placed(self) -> PlacedImage:
        """The image by its path, hash, label and split."""
        return {
            "path": self.path,
            "image_hash": self.image_hash,
            "label": self.label,
            "split": self.split,
        }

    def described(self, finding: ImageFinding) -> Row:
        """Return a finding with the image that it is about."""
        return {
            **self.placed,
            "reason": finding.reason,
            "detail": finding.detail,
            "severity": finding.severity,
            "score": round(finding.score, 6),
            "override": "" if finding.severity == "repair" else finding.remedy,
            "kept_copy": finding.kept_copy,
            "stored": self.stored if finding.severity == "reject" else "",
        }

    @property
    def aspect_ratio(self) -> float:
        """Width / height, rounded as an Example stores it; 0 when the size is unknown."""
        return float(np.float32(self.width / self.height)) if self.height else 0.0

    def as_served(self) -> ImageRow:
        """Return an image that is used, with the bytes of a PNG if only Pillow reads the file."""
        image, _ = by_pillow(Look(self.image_bytes)) if self.converted else (None, "")
        if image is None:
            return self
        return dataclasses.replace(
            self,
            decode_error="",
            converted="",
            image_bytes=as_png(image),
            repairs=TRANSCODED,
        )

    @property
    def metadata(self) -> dict[str, Value]:
        """The features that have a distribution, by name; see `METADATA`."""
        return {name: getattr(self, name) for name in names.METADATA} | dict(self.figures)

    def to_example(self) -> tf.train.Example:
        """Convert to a tf.train.Example of the image, its label, its split and its family."""
        return make({name: getattr(self, name) for name in _IN_EXAMPLES})


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
