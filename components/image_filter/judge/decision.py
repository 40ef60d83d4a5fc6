"""The decision about one image on its own: its row with what the checks found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.image_filter.judge.check import ImageCheck, ImageFinding, Limits
from imgpipe.components.image_filter.judge.checks import CHECKS, files
from imgpipe.components.image_filter.judge.image_row import ImageRow
from imgpipe.components.image_filter.judge.overrides import Override, override_of
from imgpipe.components.image_filter.judge.settings import JudgeSettings

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"


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
        image: The record; for a check that needs the set, the row.
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
    if finding is None or finding.severity == "repair":  # `decodable` sets it itself
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
) -> ImageRow:
    """Run the checks in order until one rejects the image, and return its row.

    For an image that an override accepts or relabels, checks that may be ignored are skipped. A
    file that cannot be used is rejected regardless of overrides.

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
    for check in CHECKS:
        if check.needs == "set":
            continue  # `comparison` runs it
        if check.needs == "pixels" and not record.content.is_measured:
            continue  # the image was not decoded
        finding = finding_of(check, record, settings, settings.limit_of(check), override)
        if finding is not None:
            row.add(finding)
        if row.rejection is not None:
            return row
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        row.add(ImageFinding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY))
    return row
