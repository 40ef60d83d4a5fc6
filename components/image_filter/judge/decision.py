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
from imgpipe.components.image_filter.judge.overrides import Override, override_of
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.models.names import feature_names as names

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"
_LAST = len(CHECKS)  # position of a rejection by an override, which comes after all checks


@dataclass(frozen=True)
class Move:
    """The split to which an image is moved, and why."""

    split: str
    reason: str  # one of `placement.REASONS`
    #: Splits from which images are moved; the source decides about the others.
    drawn: tuple[str, ...]


@dataclass(frozen=True)
class ImageGroups:
    """The groups to which an image belongs.

    Attributes:
        near_group: Number of its group of near-duplicates, 0 for none.
        family: Its family, if one was found; "" for none.
        in_train: Whether images of the family are in train.
    """

    near_group: int = 0
    family: str = ""
    in_train: bool = False


@dataclass
class ImageDecision:
    """The result of the checks of one image.

    Attributes:
        record: The inspected record, with the label of the override if there is one.
        source_label: The label in the source.
        source_index: Its index in the vocabulary, -1 when it is not in it.
        override: The override of the image, or None.
        perceptual_hash: Perceptual hashes, b"" when the image cannot be compared.
        move: The split to which the image is moved, and why; None when it is not moved.
        rejection: The finding that rejects the image, or None when the image is kept.
        order: Position among the checks of the one that rejected the image.
        repairs: Findings that were repaired.
        warnings: Findings that are only reported.
        repaired: The record after the repairs, or None when there were none.
        has_found_family: Whether the group of the record is a family that was found, and not a
            group that the source gives.
    """

    record: ImageRecord
    source_label: str
    source_index: int = -1
    override: Override | None = None
    perceptual_hash: bytes = field(default=b"", repr=False)
    move: Move | None = None
    rejection: ImageFinding | None = None
    order: int = _LAST
    repairs: list[ImageFinding] = field(default_factory=list)
    warnings: list[ImageFinding] = field(default_factory=list)
    repaired: ImageRecord | None = None
    has_found_family: bool = False

    @property
    def kept(self) -> ImageRecord:
        """The record with the repairs."""
        return self.repaired or self.record

    @property
    def is_relabelled(self) -> bool:
        """Whether an override gives the image another label than the source."""
        return self.record.label_index != self.source_index

    def add(self, finding: ImageFinding, order: int = _LAST) -> None:
        """Add a finding, which rejects the image or is reported."""
        if finding.severity == "reject":
            self.rejection = finding
            self.order = order
        else:
            self.warnings.append(finding)

    def move_to(self, move: Move | None) -> None:
        """Move the image to another split.

        Args:
            move: The split and the reason. None, or the split of the image, changes nothing. Nor
                is a rejected image moved, or one from a split that the source has given, to which
                a file with the same content may belong.
        """
        record = self.record
        if move is None or move.split == record.split or self.rejection is not None:
            return
        if record.split not in move.drawn:
            return
        if self.source_index >= 0:  # an override changes no label of test
            record = dataclasses.replace(
                record, label=self.source_label, label_index=self.source_index
            )
        self.record = relabelled(dataclasses.replace(record, split=move.split), self.override)
        self.move = move

    def complete(
        self,
        settings: JudgeSettings,
        limits: Mapping[str, Limits],
        compared: ImageFinding | None,
        groups: ImageGroups,
    ) -> None:
        """Add what is known when all images were seen.

        Args:
            settings: Settings of the checks.
            limits: Limits of the checks that need the set, by check.
            compared: What the comparison with other images found.
            groups: The groups to which the image belongs.
        """
        self.has_found_family = bool(groups.family)
        held_out = self.record.split != names.TRAIN
        self.record = dataclasses.replace(
            self.record,
            near_group=groups.near_group,
            group=groups.family or self.record.group,
            seen_family=int(held_out and groups.in_train),
        )
        for order, check in enumerate(CHECKS):
            # An image is rejected by the first check in order, which may be one of these.
            if check.needs == "set" and (self.rejection is None or order < self.order):
                finding = self.finding_of(check, self.record, settings, limits.get(check.name))
                if finding is not None:
                    self.add(finding, order)
        if compared is not None and self.rejection is None:
            self.add(compared)

    def written(self, record: ImageRecord) -> ImageRecord:
        """Return the record that is written when the image is kept.

        Args:
            record: The record with its bytes and measurements, after the repairs.
        """
        return dataclasses.replace(
            self.record,
            image_bytes=record.image_bytes,
            repairs=record.repairs,
            content=record.content,
        )

    def without_pixels(self) -> ImageDecision:
        """Return the decision without the bytes and measurements of the image."""
        return dataclasses.replace(
            self,
            record=self.record.without_pixels(),
            repaired=self.repaired and self.repaired.without_pixels(),
        )

    def finding_of(
        self, check: ImageCheck, record: ImageRecord, settings: JudgeSettings, limit: float | Limits
    ) -> ImageFinding | None:
        """Run a check; None when it finds nothing, is ignored or is overridden.

        Args:
            check: The check.
            record: The record, with the measurements of the transcoded file if there is one.
            settings: Settings of the checks.
            limit: What the check compares with; see `ImageCheck.run`.
        """
        severity = settings.severity_of(check.name, check.severity)
        accepted = self.override is not None and self.override.accepts(record.split)
        if severity == "ignore":
            return None
        if accepted and "ignore" in check.may_be and severity != "repair":
            return None
        if check.needs == "pixels" and not record.content.is_measured:
            return None  # the image was not decoded
        finding = check.run(record, limit)
        if finding is None or finding.repaired is not None:  # `decodable` sets the severity itself
            return finding
        remedy = finding.remedy or check.remedy
        return dataclasses.replace(finding, severity=severity, remedy=remedy)

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
    decision = ImageDecision(record, inspected.label, inspected.label_index, override, hashes)
    measured = record  # with the measurements of the transcoded file, if there is one
    repairs: list[tuple[ImageFinding, Repair | None]] = []
    for order, check in enumerate(CHECKS):
        if check.needs == "set":
            continue  # `complete` runs it
        finding = decision.finding_of(check, measured, settings, settings.limit_of(check))
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
        decision.add(finding, order)
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
