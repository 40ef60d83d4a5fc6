"""The decision about an image on its own: the checks in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.components.image_filter.judge.check import ImageCheck
from imgpipe.components.image_filter.judge.checks import CHECKS, files
from imgpipe.models.settings.data import JudgeSettings
from imgpipe.models.settings.override import Override

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"


def examine(
    row: ImageRow, settings: JudgeSettings, override: Override | None = None
) -> list[ImageFinding]:
    """Run the checks in order until one rejects the image, and return what they find.

    What rejects an image is the only finding about it. For an image that an override accepts or
    relabels, checks that may be ignored are skipped. A file that cannot be used is rejected
    regardless of overrides.

    Args:
        row: The row as the inspection made it.
        settings: Settings of the checks.
        override: Decision of a person about the image.
    """
    findings: list[ImageFinding] = []
    for finding in _found(row, settings, override):
        if finding.severity == "reject":
            return [finding]
        findings.append(finding)
    return findings


def _found(
    row: ImageRow, settings: JudgeSettings, override: Override | None
) -> Iterator[ImageFinding]:
    is_used = override is not None and override.verdict != "reject"
    if override is not None and override.verdict == "relabel":
        row = dataclasses.replace(
            row,
            label=override.label,
            label_index=override.label_index,
            problem="" if row.problem in files.ABOUT_LABEL else row.problem,
        )
    for check in CHECKS:
        is_skipped = is_used and "ignore" in check.may_be
        if is_skipped or (check.needs == "pixels" and not row.is_measured):
            continue
        finding = _found_by(check, row, settings)
        if finding is not None:
            yield finding
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        yield ImageFinding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY)


def _found_by(check: ImageCheck, row: ImageRow, settings: JudgeSettings) -> ImageFinding | None:
    """Return what a check finds in an image, with what happens to it and what to do."""
    severity = check.severity_in(settings)
    if severity == "ignore":
        return None
    finding = check.run(row, settings)
    if finding is None or finding.severity == "repair":  # `decodable` sets it itself
        return finding
    remedy = finding.remedy or check.remedy
    if severity == "reject" and check.severity == "warn":
        remedy = f"to keep them: --set judge.severity.{check.name}=warn"
    return dataclasses.replace(finding, severity=severity, remedy=remedy)
