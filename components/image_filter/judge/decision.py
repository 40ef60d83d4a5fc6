"""The decision about one image: the findings of the checks, and its repaired record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imgpipe.components.common.image_file.content import alpha_channel
from imgpipe.components.common.image_file.transcoding import for_the_model
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.judge.check import ImageCheck, ImageFinding, Limits, Repair
from imgpipe.components.image_filter.judge.checks import CHECKS, decodable, files
from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.components.image_filter.judge.overrides import Override, override_of
from imgpipe.components.image_filter.judge.settings import JudgeSettings

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"


@dataclass
class ImageDecision:
    """The result of the checks of one image on its own.

    Attributes:
        source: The inspected record.
        record: The same, with the label of the override if there is one.
        override: The override of the image, or None.
        perceptual_hash: Perceptual hashes, b"" when the image cannot be compared.
        rejection: The finding that rejects the image, or None when the image is kept.
        repairs: Findings that were repaired.
        warnings: Findings that are only reported.
        repaired: The record after the repairs, or None when there were none.
    """

    source: ImageRecord
    record: ImageRecord
    override: Override | None
    perceptual_hash: bytes = field(default=b"", repr=False)
    rejection: ImageFinding | None = None
    repairs: list[ImageFinding] = field(default_factory=list)
    warnings: list[ImageFinding] = field(default_factory=list)
    repaired: ImageRecord | None = None

    @property
    def kept(self) -> ImageRecord:
        """The record with the repairs."""
        return self.repaired or self.record

    def row(self) -> ImageRow:
        """Return the row of the image."""
        kept = (*self.repairs, *self.warnings)
        return ImageRow.of(
            self.record,
            source_label=self.source.label,
            source_index=self.source.label_index,
            verdict=self.override.verdict if self.override is not None else "",
            is_rewritten=self.repaired is not None,
            findings=kept if self.rejection is None else (self.rejection,),
            perceptual_hash=self.perceptual_hash,
        )

    def add(self, finding: ImageFinding) -> None:
        """Add a finding, which rejects the image or is reported."""
        if finding.severity == "reject":
            self.rejection = finding
        else:
            self.warnings.append(finding)

    def repair(self, todo: Sequence[tuple[ImageFinding, Repair | None]]) -> None:
        """Make the repairs. A repair that fails becomes a warning."""
        data = self.record.image_bytes
        for finding, repair in todo:
            try:
                if finding.repaired is not None:
                    data = finding.repaired
                elif repair is not None:
                    data = repair(self.record)
            except Exception as error:  # Pillow's plugins raise exceptions of any type
                detail = f"{finding.detail}; not repaired: {error or type(error).__name__}"
                self.warnings.append(ImageFinding(finding.reason, detail, "warn"))
            else:
                self.repairs.append(dataclasses.replace(finding, repaired=None))
        if self.repairs:
            reasons = [applied.reason for applied in self.repairs]
            self.repaired = _rewritten(self.record, data, reasons)
        if self.repaired is not None:
            self.perceptual_hash = self.repaired.content.perceptual_hash or self.perceptual_hash


def finding_of(
    check: ImageCheck,
    image: ImageRecord | ImageRow,
    settings: JudgeSettings,
    limit: float | Limits,
    override: Override | None,
) -> ImageFinding | None:
    """Run a check; None when it finds nothing, is ignored or is overridden.

    Args:
        check: The check.
        image: The record, with the measurements of the transcoded file if there is one; for a
            check that needs the set, the row.
        settings: Settings of the checks.
        limit: What the check compares with; see `ImageCheck.run`.
        override: The override of the image, or None.
    """
    severity = settings.severity_of(check.name, check.severity)
    accepted = override is not None and override.accepts(image.split)
    if severity == "ignore":
        return None
    if accepted and "ignore" in check.may_be and severity != "repair":
        return None
    finding = check.run(image, limit)
    if finding is None or finding.repaired is not None:  # `decodable` sets the severity itself
        return finding
    remedy = finding.remedy or check.remedy
    return dataclasses.replace(finding, severity=severity, remedy=remedy)


def relabelled(record: ImageRecord, override: Override | None) -> ImageRecord:
    """Apply an override to the label of a record, and drop the problems that concern the old label.

    Labels of the test split never change; see `Override.relabels`.
    """
    if override is None or not override.relabels(record.split):
        return record
    return dataclasses.replace(
        record,
        label=override.label,
        label_index=override.label_index,
        problem="" if files.is_about_label(record.problem) else record.problem,
    )


def decide(
    inspected: ImageRecord, settings: JudgeSettings, overrides: Mapping[str, Override] = {}
) -> ImageDecision:
    """Run the checks in order until one rejects the image, and make the repairs.

    For an image that an override accepts or relabels, checks that may be ignored are skipped. A
    file that cannot be used is rejected regardless of overrides. A file that only Pillow can read
    is transcoded, and the following checks use the transcoded pixels.

    Args:
        inspected: The record as the inspection created it.
        settings: Settings of the checks.
        overrides: Decisions of people, as `override_of` takes them.
    """
    override = override_of(inspected.image_hash, overrides)
    record = relabelled(inspected, override)
    hashes = record.content.perceptual_hash or b""
    decision = ImageDecision(inspected, record, override, hashes)
    measured = record  # with the measurements of the transcoded file, if there is one
    repairs: list[tuple[ImageFinding, Repair | None]] = []
    for check in CHECKS:
        if check.needs == "set":
            continue  # `comparison` runs it
        if check.needs == "pixels" and not measured.content.is_measured:
            continue  # the image was not decoded
        finding = finding_of(check, measured, settings, settings.limit_of(check), override)
        if finding is None:
            continue
        if finding.repaired is not None:
            content = record.content
            alpha = alpha_channel(record.image_bytes, content.format, content.mode)
            transcoded = content.rewritten(finding.repaired, alpha)
            if not transcoded.is_measured:
                detail = f"even as PNG: {transcoded.decode_error}"
                finding = ImageFinding(decodable.UNDECODABLE, detail, remedy=check.remedy)
            else:
                content = dataclasses.replace(content, figures=transcoded.figures)
                measured = dataclasses.replace(record, content=content)
                decision.perceptual_hash = hashes or transcoded.perceptual_hash or b""
        if finding.severity == "repair":
            repairs.append((finding, check.repair))
            continue
        decision.add(finding)
        if decision.rejection is not None:
            return decision
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        decision.add(ImageFinding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY))
    else:
        decision.repair(repairs)
    return decision


def readable(record: ImageRecord, pixel_limit: int) -> ImageRecord:
    """Return the record of a file that only Pillow reads as a run transcodes it; others unchanged.

    Args:
        record: The inspected record.
        pixel_limit: Number of pixels above which a file is not decoded.
    """
    if not record.content.decode_error:
        return record
    data = for_the_model(record.image_bytes, pixel_limit)
    return _rewritten(record, data, (decodable.TRANSCODED,)) or record


def _rewritten(record: ImageRecord, data: bytes, reasons: Sequence[str]) -> ImageRecord | None:
    """Return the record with its repaired bytes and their measurements."""
    content = record.content.rewritten(data)
    if not content.is_measured:
        return None
    return dataclasses.replace(record, image_bytes=data, repairs=",".join(reasons), content=content)
