"""An image file as a row of the table of images: what its file tells, and what became of it.

`decide` makes the row of an image on its own, with what the checks found.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.judge.check import (
    ImageCheck,
    ImageFinding,
    Limits,
    Row,
    Severity,
)
from imgpipe.components.image_filter.judge.checks import CHECKS, files
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.models import names

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"
#: What a row has of the file, as the inspection has found it.
_OF_FILE = (
    *("path", "label", "label_index", "split", "image_hash", "group", "byte_size", "format"),
    *("mode", "width", "height", "is_grey", "jpeg_tables", "subsampling", "camera", "captured"),
)


@dataclass(slots=True)
class ImageRow:
    """An image file of the source.

    Attributes:
        path: Path in the source, with forward slashes.
        label: Its class, which an override may have given; "" without one.
        label_index: Index of the label in the vocabulary, -1 for a label that is not in it.
        split: Its split, to which it may have been moved.
        image_hash: Hex SHA-256 of the file as found; "" when it could not be read.
        group: The group that the source gives, or the family that was found; "" for none.
        is_family: Whether the group is a family that was found.
        near_group: Number of its group of near-duplicates, from 1 on; 0 for none.
        seen_family: Whether it is held out, and train has images of its family.
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
    is_family: bool = False
    near_group: int = 0
    seen_family: bool = False
    source_label: str = ""
    source_index: int = -1
    verdict: str = ""
    byte_size: int = 0
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    is_grey: bool = False
    jpeg_tables: int = 0
    subsampling: str = ""
    camera: str = ""
    captured: int = 0
    findings: tuple[ImageFinding, ...] = ()
    stored: str = ""

    @classmethod
    def of(cls, record: ImageRecord, **values: Any) -> ImageRow:
        """Return the row of an inspected image with the label of the source, and further values."""
        inside = vars(record) | vars(record.content) | {"is_grey": record.content.is_grey}
        same = {name: inside[name] for name in _OF_FILE}
        return cls(**same, source_label=record.label, source_index=record.label_index, **values)

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

    @property
    def pixels(self) -> int:
        """Number of pixels; 0 when the size is unknown."""
        return self.width * self.height

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

    def move_to(self, split: str, override: Override | None) -> None:
        """Move the image to a split, where its override may hold or no longer hold."""
        self.split = split
        if override is not None and override.relabels(split):
            self.label = override.label
            self.label_index = override.label_index
        elif self.source_index >= 0:
            self.label = self.source_label
            self.label_index = self.source_index

    def described(self, finding: ImageFinding) -> Row:
        """Return a finding with the image that it is about."""
        return {
            "path": self.path,
            "label": self.label,
            "split": self.split,
            "image_hash": self.image_hash,
            "reason": finding.reason,
            "detail": finding.detail,
            "severity": finding.severity,
            "score": round(finding.score, 6),
            "override": "" if finding.severity == "repair" else finding.remedy,
            "kept_copy": finding.kept_copy,
            "stored": self.stored if finding.severity == "reject" else "",
        }

    def recorded(self, record: ImageRecord) -> ImageRecord:
        """Return the record of the image with its label, its split and what belongs to it.

        Problems that concern its old label are dropped.
        """
        is_solved = self.verdict == "relabel" and files.is_about_label(record.problem)
        return dataclasses.replace(
            record,
            problem="" if is_solved and self.is_accepted else record.problem,
            label=self.label,
            label_index=self.label_index,
            split=self.split,
            group=self.group,
            near_group=self.near_group,
            seen_family=int(self.seen_family),
        )


def judge(
    row: ImageRow,
    check: ImageCheck,
    image: ImageRecord | ImageRow,
    settings: JudgeSettings,
    limit: float | Limits,
) -> None:
    """Add what a check finds in an image to its row, unless it is ignored or overridden.

    `image` is the record, or the row for a check that needs the set; for `limit` see
    `ImageCheck.run`.
    """
    severity = settings.severity_of(check.name, check.severity)
    if severity == "ignore" or (row.is_accepted and "ignore" in check.may_be):
        return
    finding = check.run(image, limit)
    if finding is None:
        return
    if finding.severity != "repair":  # `decodable` sets it itself
        remedy = finding.remedy or check.remedy
        if severity == "reject" and check.severity == "warn":
            remedy = f"to keep them: --set judge.severity.{check.name}=warn"
        finding = dataclasses.replace(finding, severity=severity, remedy=remedy)
    row.add(finding)


def decide(
    inspected: ImageRecord, settings: JudgeSettings, override: Override | None = None
) -> ImageRow:
    """Run the checks in order until one rejects the image, and return its row.

    For an image that an override accepts or relabels, checks that may be ignored are skipped. A
    file that cannot be used is rejected regardless of overrides.

    Args:
        inspected: The record as the inspection created it.
        settings: Settings of the checks.
        override: Decision of a person about the image.
    """
    row = ImageRow.of(inspected, verdict=override.verdict if override is not None else "")
    row.move_to(row.split, override)
    record = row.recorded(inspected)
    for check in CHECKS:
        if check.needs == "set":
            continue  # `comparison` runs it
        if check.needs == "pixels" and not record.content.is_measured:
            continue  # the image was not decoded
        judge(row, check, record, settings, settings.limit_of(check))
        if row.rejection is not None:
            return row
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        row.add(ImageFinding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY))
    return row
