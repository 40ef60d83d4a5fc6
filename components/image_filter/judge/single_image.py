"""The decision about an image on its own: the checks add what they find to its row."""

from __future__ import annotations

import dataclasses

from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.components.image_filter.judge.check import ImageCheck
from imgpipe.components.image_filter.judge.checks import CHECKS, files
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.models.settings.override import Override

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"


def _judge(row: ImageRow, check: ImageCheck, settings: JudgeSettings) -> None:
    """Add what a check finds in an image, unless it is ignored or overridden."""
    severity = check.severity_in(settings)
    if severity == "ignore" or (row.is_accepted and "ignore" in check.may_be):
        return
    finding = check.run(row, settings)
    if finding is None:
        return
    if finding.severity != "repair":  # `decodable` sets it itself
        remedy = finding.remedy or check.remedy
        if severity == "reject" and check.severity == "warn":
            remedy = f"to keep them: --set judge.severity.{check.name}=warn"
        finding = dataclasses.replace(finding, severity=severity, remedy=remedy)
    row.add(finding)


def decide(row: ImageRow, settings: JudgeSettings, override: Override | None = None) -> ImageRow:
    """Run the checks in order until one rejects the image, and return its row.

    For an image that an override accepts or relabels, checks that may be ignored are skipped. A
    file that cannot be used is rejected regardless of overrides.

    Args:
        row: The row as the inspection made it.
        settings: Settings of the checks.
        override: Decision of a person about the image.
    """
    row.source_label = row.label
    row.source_index = row.label_index
    row.verdict = override.verdict if override is not None else ""
    move(row, row.split, override)
    is_solved = row.verdict == "relabel" and files.is_about_label(row.problem)
    if is_solved and row.is_accepted:
        row.problem = ""  # which concerns the old label
    for check in CHECKS:
        if check.needs == "pixels" and not row.is_measured:
            continue  # the image was not decoded
        _judge(row, check, settings)
        if row.rejection is not None:
            return row
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        row.add(ImageFinding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY))
    return row


def move(row: ImageRow, split: str, override: Override | None) -> None:
    """Move an image to a split, where its override may hold or no longer hold."""
    row.split = split
    if override is not None and override.relabels(split):
        row.label = override.label
        row.label_index = override.label_index
    elif row.source_index >= 0:
        row.label = row.source_label
        row.label_index = row.source_index
