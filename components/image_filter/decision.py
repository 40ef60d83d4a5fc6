"""The decision about one image: the findings of the checks, and its repaired record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from imgpipe.components.image_file.content import Content, alpha_channel
from imgpipe.components.image_filter.check import Check, Finding, Repair, Settings
from imgpipe.components.image_filter.checks import (
    CHECKS,
    MEASUREMENTS,
    decodable,
    files,
    repairs,
)
from imgpipe.components.image_filter.overrides import Override, find
from imgpipe.components.image_filter.placement import Move
from imgpipe.components.image_record import ImageRecord

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the file that judge.overrides names"
_LAST = 1 << 30  # order of a rejection by an override: it comes after all checks


@dataclass(frozen=True)
class Decision:
    """The result of the checks of one image, before it is compared with other images.

    Attributes:
        record: The inspected record, with the label of the override if there is one.
        source_label: The label in the source.
        source_index: Its index in the vocabulary, -1 when it is not in it.
        move: The split to which the image is moved, and why; None when it is not moved.
        override: The override of the image, or None.
        rejection: The finding that rejects the image, or None when the image is kept.
        order: Order of the check that rejected the image.
        repairs: Findings that were repaired.
        warnings: Findings that are only reported.
        repaired: The record after the repairs, or None when there were none.
        perceptual_hash: Perceptual hashes, b"" when the image cannot be compared.
    """

    record: ImageRecord
    source_label: str
    source_index: int = -1
    move: Move | None = None
    override: Override | None = None
    rejection: Finding | None = None
    order: int = _LAST
    repairs: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    repaired: ImageRecord | None = None
    perceptual_hash: bytes = field(default=b"", repr=False)

    @property
    def kept(self) -> ImageRecord:
        """The record with the repairs."""
        return self.repaired or self.record

    @property
    def is_relabelled(self) -> bool:
        """Whether an override gives the image another label than the source."""
        return self.record.label_index != self.source_index

    def moved(self, move: Move | None) -> Decision:
        """Return the decision with the image in another split; it must be kept.

        Args:
            move: The split and the reason. None, or the split of the image, changes nothing. Nor
                is an image moved from a split that the source has given, to which a file with the
                same content may belong.
        """
        record = self.record
        if move is None or move.split == record.split or self.rejection is not None:
            return self
        if record.split not in move.drawn:
            return self
        if self.source_index >= 0:  # an override changes no label of test
            record = dataclasses.replace(
                record, label=self.source_label, label_index=self.source_index
            )
        record = relabelled(dataclasses.replace(record, split=move.split), self.override)
        return dataclasses.replace(
            self,
            record=record,
            move=move,
            repairs=tuple(repair.about(record) for repair in self.repairs),
            warnings=tuple(warning.about(record) for warning in self.warnings),
        )

    def in_group(self, number: int) -> Decision:
        """Return the decision with the number of the image's group of near-duplicates."""
        return dataclasses.replace(self, record=dataclasses.replace(self.record, near_group=number))

    def written(self, record: ImageRecord) -> ImageRecord:
        """Return the record that is written when the image is kept.

        Args:
            record: The record with its bytes and measurements, after the repairs.
        """
        known = ("split", "label", "label_index", "problem", "near_group")
        return dataclasses.replace(record, **{name: getattr(self.record, name) for name in known})

    def stored_at(self, stored: str) -> Decision:
        """Return the decision with the path, relative to the quarantine, of the stored bytes."""
        if self.rejection is None:
            return self
        return dataclasses.replace(
            self, rejection=dataclasses.replace(self.rejection, stored=stored)
        )

    def without_pixels(self) -> Decision:
        """Return the decision without the bytes and measurements of the image."""
        return dataclasses.replace(
            self,
            record=self.record.without_pixels(),
            repaired=self.repaired and self.repaired.without_pixels(),
        )


def relabelled(record: ImageRecord, override: Override | None) -> ImageRecord:
    """Apply an override to the label of a record, and drop the problems that concern the old label.

    Labels of the test split never change; see `Override.accepts`.
    """
    if override is None or override.verdict != "relabel" or not override.accepts(record.split):
        return record
    return dataclasses.replace(
        record,
        label=override.label,
        label_index=override.label_index,
        problem="" if files.is_about_label(record.problem) else record.problem,
    )


def decide(inspected: ImageRecord, settings: Settings) -> Decision:
    """Run the checks in order until one rejects the image, and make the repairs.

    For an image that an override accepts or relabels, checks that may be ignored are skipped. A
    file that cannot be used is rejected regardless of overrides. A file that only Pillow can read
    is transcoded, and the following checks use the transcoded pixels.

    Args:
        inspected: The record as the inspection created it.
        settings: Settings of the checks.
    """
    override = find(settings.overrides, inspected.image_hash)
    record = relabelled(inspected, override)
    seen = record  # with the measurements of the transcoded file
    hashes = record.perceptual_hash or b""
    decision = Decision(
        record, inspected.label, inspected.label_index, override=override, perceptual_hash=hashes
    )
    todo: list[tuple[Finding, Repair | None]] = []
    warnings: list[Finding] = []
    for check in CHECKS:
        finding = _run_check(check, seen, override, settings)
        if finding is None:
            continue
        if finding.repaired is not None:
            alpha = alpha_channel(record.image_bytes, record.format, record.mode)
            content, error = Content.decoded(finding.repaired, MEASUREMENTS, alpha)
            if content is None:
                detail = f"even as PNG: {error}"
                finding = Finding(decodable.UNDECODABLE, detail, remedy=check.remedy)
                return _with_finding(decision, finding, check.order)
            seen = dataclasses.replace(record, figures=content.figures)
            hashes = record.perceptual_hash or content.perceptual_hash
            decision = dataclasses.replace(decision, perceptual_hash=hashes)
            todo.append((finding, None))
        elif finding.severity == "reject":
            return _with_finding(decision, finding, check.order)
        elif finding.severity == "repair":
            todo.append((finding, check.repair))
        else:
            warnings.append(finding)
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        finding = Finding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY)
        return _with_finding(decision, finding)
    return _with_repairs(dataclasses.replace(decision, warnings=tuple(warnings)), todo)


def settled(decision: Decision, settings: Settings, compared: Finding | None) -> Decision:
    """Add what is known when all images were seen.

    Args:
        decision: The decision of the first pass.
        settings: Settings of the checks, with the limits of the whole set.
        compared: What the comparison with other images found.
    """
    for check in CHECKS:
        if check.needs != "set":
            continue
        finding = _run_check(check, decision.record, decision.override, settings)
        if finding is None:
            continue
        if finding.severity != "reject":
            decision = _with_finding(decision, finding)
        # The first pass rejects by the first check in order; this check may come before it.
        elif decision.rejection is None or check.order < decision.order:
            return _with_finding(decision, finding, check.order)
    if compared is None or decision.rejection is not None:
        return decision
    return _with_finding(decision, compared)


def _run_check(
    check: Check, record: ImageRecord, override: Override | None, settings: Settings
) -> Finding | None:
    """Run a check; None when it finds nothing, is ignored or is overridden."""
    severity = check.severity_in(settings)
    accepted = override is not None and override.accepts(record.split)
    if severity == "ignore":
        return None
    if accepted and "ignore" in check.may_be and severity != "repair":
        return None
    if check.needs == "pixels" and not record.figures:
        return None  # the image was not decoded
    finding = check.run(record, settings)
    if finding is None or finding.repaired is not None:  # `decodable` sets the severity itself
        return finding
    return dataclasses.replace(finding, severity=severity, remedy=check.remedy)


def _with_finding(decision: Decision, finding: Finding, order: int = _LAST) -> Decision:
    """Return the decision with a finding, which rejects the image or is reported."""
    stored = decision.rejection.stored if decision.rejection is not None else ""
    finding = finding.about(decision.record, stored=stored)
    if finding.severity == "reject":
        return dataclasses.replace(decision, rejection=finding, order=order)
    return dataclasses.replace(decision, warnings=(*decision.warnings, finding))


def _with_repairs(decision: Decision, todo: Sequence[tuple[Finding, Repair | None]]) -> Decision:
    """Make the repairs. A repair that fails becomes a warning."""
    record = decision.record
    data, done, warnings = record.image_bytes, [], list(decision.warnings)
    for finding, repair in todo:
        try:
            if finding.repaired is not None:
                data = finding.repaired
            elif repair is not None:
                data = repair(record, data)
        except Exception as error:  # Pillow's plugins raise exceptions of any type
            detail = f"{finding.detail}; not repaired: {error or type(error).__name__}"
            warnings.append(Finding(finding.reason, detail, "warn"))
        else:
            done.append(dataclasses.replace(finding, repaired=None).about(record))
    repaired = _rewritten(record, data, done) if done else None
    return dataclasses.replace(
        decision,
        repairs=tuple(done),
        warnings=tuple(warning.about(record) for warning in warnings),
        repaired=repaired,
        # A rotated image resembles others that are upright, and not those that lie on their side.
        perceptual_hash=(repaired and repaired.perceptual_hash) or decision.perceptual_hash,
    )


def _rewritten(record: ImageRecord, data: bytes, done: Sequence[Finding]) -> ImageRecord | None:
    """Return the record with its repaired bytes and their measurements."""
    content, _ = Content.decoded(data, MEASUREMENTS)
    if content is None:
        return None
    reasons = [repair.reason for repair in done]
    # Pillow makes TIFF files upright while they are transcoded.
    upright = repairs.orientation.name in reasons or record.format == "TIFF"
    return dataclasses.replace(
        record,
        image_bytes=data,
        decode_error="",
        repairs=",".join(reasons),
        width=content.width,
        height=content.height,
        figures=content.figures,
        perceptual_hash=content.perceptual_hash,
        orientation=1 if upright else record.orientation,
    )
