"""The decision about one image on its own: its row with what the checks found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from imgpipe.components.common.image_file.content import for_the_model
from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.judge.check import ImageCheck, ImageFinding, Limits
from imgpipe.components.image_filter.judge.checks import CHECKS, decodable, files
from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.components.image_filter.judge.overrides import Override, override_of
from imgpipe.components.image_filter.judge.settings import JudgeSettings

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"


class ImageDecision(NamedTuple):
    """The result of the checks of one image on its own.

    Attributes:
        row: The row of the image.
        kept: The record, transcoded if only Pillow reads it, which is written if it is kept.
    """

    row: ImageRow
    kept: ImageRecord


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
    if accepted and "ignore" in check.may_be:
        return None
    finding = check.run(image, limit)
    if finding is None or finding.repaired is not None:  # `decodable` sets the severity itself
        return finding
    remedy = finding.remedy or check.remedy
    if severity == "reject" and check.severity == "warn":
        remedy = f"to keep them: --set judge.severity.{check.name}=warn"
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
    """Run the checks in order until one rejects the image.

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
    row = ImageRow.of(
        record,
        source_label=inspected.label,
        source_index=inspected.label_index,
        verdict=override.verdict if override is not None else "",
    )
    kept = record
    measured = record  # with the measurements of the transcoded file, if there is one
    for check in CHECKS:
        if check.needs == "set":
            continue  # `comparison` runs it
        if check.needs == "pixels" and not measured.content.is_measured:
            continue  # the image was not decoded
        finding = finding_of(check, measured, settings, settings.limit_of(check), override)
        if finding is None:
            continue
        if finding.repaired is not None:
            kept = _transcoded(record, finding.repaired)
            if kept.content.is_measured:
                row.is_rewritten = True
                measured = dataclasses.replace(record, content=kept.content)
                finding = dataclasses.replace(finding, repaired=None)
            else:
                detail = f"even as PNG: {kept.content.decode_error}"
                finding = ImageFinding(decodable.UNDECODABLE, detail, remedy=check.remedy)
        row.add(finding)
        if row.rejection is not None:
            return ImageDecision(row, record)
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        row.add(ImageFinding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY))
        return ImageDecision(row, record)
    return ImageDecision(row, kept)


def readable(record: ImageRecord, pixel_limit: int) -> ImageRecord:
    """Return the record of a file that only Pillow reads as a run transcodes it; others unchanged.

    Args:
        record: The inspected record.
        pixel_limit: Number of pixels above which a file is not decoded.
    """
    if not record.content.decode_error:
        return record
    readable_record = _transcoded(record, for_the_model(record.image_bytes, pixel_limit))
    return readable_record if readable_record.content.is_measured else record


def _transcoded(record: ImageRecord, png: bytes) -> ImageRecord:
    """Return the record with the bytes of a PNG and what is measured of it."""
    content = record.content.rewritten(png, record.image_bytes)
    reason = decodable.TRANSCODED
    return dataclasses.replace(record, image_bytes=png, repairs=reason, content=content)
