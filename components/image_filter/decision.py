"""The decision about one image: what the checks say of it, and its repaired record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from imgpipe.components.image_file.content import Content, decode
from imgpipe.components.image_file.header import pillow
from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.check import Check, Finding, Repair, Settings
from imgpipe.components.image_filter.checks import (
    CHECKS,
    MEASUREMENTS,
    decodable,
    orientation,
    source_problem,
)
from imgpipe.components.image_filter.overrides import Override, find
from imgpipe.components.image_record import ImageRecord
from imgpipe.models import feature_names as names

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the file that judge.overrides names"
_LAST = 1 << 30  # order of a rejection by an override: every check goes before it
_WITH_ALPHA = ("RGBA", "LA", "PA")  # Pillow's modes


@dataclass(frozen=True)
class Decision:
    """What the checks say of one image; the comparison with other images comes later.

    Attributes:
        record: The record as inspected, with the label that people gave it.
        source_label: The label that the source gave it.
        rejection: Why the image is rejected, None when it is kept.
        order: Order of the check that rejected.
        repairs: The repairs that were made.
        warnings: What the image is kept with.
        repaired: The record after its repairs, None when there were none.
        perceptual_hash: Hashes of what the image shows, b"" when it cannot be compared.
    """

    record: ImageRecord
    source_label: str
    rejection: Finding | None = None
    order: int = _LAST
    repairs: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    repaired: ImageRecord | None = None
    perceptual_hash: bytes = field(default=b"", repr=False)

    @property
    def kept(self) -> ImageRecord:
        """The record as it is written when the image is kept."""
        return self.repaired or self.record

    def stored_at(self, place: str) -> Decision:
        """The decision to reject, with the place of the bytes below the quarantine."""
        if self.rejection is None:
            return self
        return dataclasses.replace(
            self, rejection=dataclasses.replace(self.rejection, stored=place)
        )

    def without_pixels(self) -> Decision:
        """The decision without bytes, to wait for the comparison with other images."""
        record = self.record.without_pixels()
        return dataclasses.replace(self, record=record, repaired=None, perceptual_hash=b"")


def override_of(record: ImageRecord, settings: Settings) -> Override | None:
    """What people decided about this image, None when they did not."""
    return find(settings.overrides, record.image_hash)


def relabelled(record: ImageRecord, settings: Settings) -> ImageRecord:
    """The record with the label that people gave it, without problems that concern the old label.

    A label of the test split never changes: an override there would move the figure that is there
    to check all other choices.
    """
    override = override_of(record, settings)
    if override is None or override.verdict != "relabel" or record.split == names.TEST:
        return record
    return dataclasses.replace(
        record,
        label=override.label,
        label_index=override.label_index,
        problem="" if source_problem.is_about_label(record.problem) else record.problem,
    )


def decide(found: ImageRecord, settings: Settings) -> Decision:
    """Ask the checks in order, up to the first that rejects, and make the repairs.

    What people accepted is neither rejected nor warned of by a check that may be ignored; a file
    that cannot be used stays rejected whatever anybody decided. A file that only Pillow reads is
    transcoded first, and the checks of pixels look at the result.
    """
    record = relabelled(found, settings)
    seen = record  # with the measurements of the transcoded file
    override = override_of(record, settings)
    decision = Decision(record, found.label, perceptual_hash=record.perceptual_hash or b"")
    repairs: list[tuple[Finding, Repair | None]] = []
    warnings: list[Finding] = []
    for check in _asked(CHECKS, override, settings):
        finding = check.judge(seen, settings)
        if finding is None:
            continue
        severity = check.severity_in(settings)
        if finding.repaired is not None:
            content, error = _inspected(finding.repaired, record)
            if content is None:
                finding = Finding(decodable.UNDECODABLE, f"even as PNG: {error}")
                return _rejected(decision, finding, check)
            seen = dataclasses.replace(record, figures=content.figures)
            hashes = record.perceptual_hash or content.perceptual_hash
            decision = dataclasses.replace(decision, perceptual_hash=hashes)
            repairs.append((finding, None))
        elif severity == "reject":
            return _rejected(decision, finding, check)
        elif severity == "repair":
            repairs.append((dataclasses.replace(finding, severity="repair"), check.repair))
        else:
            warnings.append(dataclasses.replace(finding, severity="warn"))
    if override is not None and override.verdict == "reject":
        finding = Finding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY)
        return dataclasses.replace(decision, rejection=finding.about(record))
    return _repaired(dataclasses.replace(decision, warnings=tuple(warnings)), repairs)


def decide_in_set(decision: Decision, settings: Settings) -> Decision:
    """Add what the checks say that need the limits of the whole set, `Settings.limits`."""
    override = override_of(decision.record, settings)
    checks = [check for check in CHECKS if check.needs == "set"]
    for check in _asked(checks, override, settings):
        finding = check.judge(decision.record, settings)
        if finding is None:
            continue
        if check.severity_in(settings) != "reject":
            warning = dataclasses.replace(finding, severity="warn").about(decision.record)
            decision = dataclasses.replace(decision, warnings=(*decision.warnings, warning))
        elif decision.rejection is None or check.order < decision.order:
            return _rejected(decision, finding, check)
    return decision


def _asked(checks: Sequence[Check], override: Override | None, settings: Settings) -> list[Check]:
    """The checks that are neither ignored nor overruled."""
    accepted = override is not None and override.verdict == "accept"
    return [
        check
        for check in checks
        if check.severity_in(settings) != "ignore" and not (accepted and check.skippable)
    ]


def _rejected(decision: Decision, finding: Finding, check: Check) -> Decision:
    stored = decision.rejection.stored if decision.rejection is not None else ""
    rejection = dataclasses.replace(finding, severity="reject", remedy=check.remedy, stored=stored)
    return dataclasses.replace(
        decision, rejection=rejection.about(decision.record), order=check.order
    )


def _repaired(decision: Decision, repairs: Sequence[tuple[Finding, Repair | None]]) -> Decision:
    """The decision with its repairs made; one that fails becomes a warning."""
    record = decision.record
    data, done, warnings = record.image_bytes, [], list(decision.warnings)
    for finding, repair in repairs:
        try:
            if finding.repaired is not None:
                data = finding.repaired
            elif repair is not None:
                data = repair(record, data)
        except Exception as error:  # Pillow's plugins raise anything on odd files
            detail = f"{finding.detail}; not mended: {error or type(error).__name__}"
            warnings.append(Finding(finding.reason, detail, "warn"))
        else:
            done.append(dataclasses.replace(finding, repaired=None).about(record))
    return dataclasses.replace(
        decision,
        repairs=tuple(done),
        warnings=tuple(warning.about(record) for warning in warnings),
        repaired=_written(record, data, done) if done else None,
    )


def _written(record: ImageRecord, data: bytes, done: Sequence[Finding]) -> ImageRecord | None:
    """The record with its repaired bytes, and what they measure."""
    values, _ = decode(data)
    if values is None:
        return None
    content = Content.of(Pixels(values), MEASUREMENTS)
    reasons = [repair.reason for repair in done]
    return dataclasses.replace(
        record,
        image_bytes=data,
        decode_error="",
        repairs=",".join(reasons),
        width=content.width,
        height=content.height,
        figures=content.figures,
        orientation=1 if orientation.CHECK.name in reasons else record.orientation,
    )


def _inspected(data: bytes, record: ImageRecord) -> tuple[Content | None, str]:
    """What a transcoded file shows, and how much of the original was transparent."""
    values, error = decode(data)
    if values is None:
        return None, error
    return Content.of(Pixels(values, _alpha(record)), MEASUREMENTS), ""


def _alpha(record: ImageRecord) -> np.ndarray | None:
    """The alpha channel of a file that only Pillow reads, uint8 [H, W]."""
    if record.mode not in _WITH_ALPHA:
        return None
    with pillow(record.image_bytes) as image:
        return np.asarray(image.convert("RGBA").getchannel("A"))
