"""What becomes of one record, and the account of many: what ImageFilter and `imgpipe check` share.

Neither Beam nor TFX here. The verdicts of both come from these functions, so they are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imgpipe.components.image_file.inspection import look_at
from imgpipe.components.image_file.measurements import Measurements
from imgpipe.components.image_filter import checks, identical_files, quarantine
from imgpipe.components.image_filter.check import Record, Settings, Verdict
from imgpipe.components.image_filter.near_duplicates import groups, matching
from imgpipe.components.image_filter.near_duplicates.search import RADIUS
from imgpipe.components.records import first, text
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    import tensorflow as tf

#: Reasons that come only when the size is not odd.
_AFTER_SIZES = (
    *(c.name for c in checks.CHECKS[checks.CHECKS.index(checks.odd_size.CHECK) + 1 :]),
    checks.REVIEWED,
)

#: Checks that look at pixels.
_OF_PIXELS = tuple(
    check for check in checks.CHECKS if check is checks.alpha.CHECK or check.threshold is not None
)


def to_record(example: tf.train.Example) -> Record:
    """The view of an Example that checks are asked about."""
    figures = [first(example, name) for name in names.MEASURED]
    return Record(
        path=text(example, names.PATH),
        label=text(example, names.LABEL),
        label_index=first(example, names.LABEL_INDEX, -1),
        split=text(example, names.SPLIT),
        image_hash=text(example, names.IMAGE_HASH),
        width=first(example, names.WIDTH, 0),
        height=first(example, names.HEIGHT, 0),
        format=text(example, names.FORMAT),
        mode=text(example, names.MODE),
        byte_size=first(example, names.BYTE_SIZE, 0),
        frames=first(example, names.FRAMES, 1),
        orientation=first(example, names.ORIENTATION, 1),
        read_error=text(example, names.READ_ERROR),
        decode_error=text(example, names.DECODE_ERROR),
        group=text(example, names.GROUP),
        problem=text(example, names.PROBLEM),
        data=first(example, names.IMAGE_BYTES, b""),
        measured=None if None in figures else Measurements(*figures),
        likeness=first(example, names.LIKENESS),
    )


def judge(record: Record, settings: Settings) -> checks.Judgement:
    """The checks' judgement; a transcoded file counts only when the serving op decodes the result.

    Its pixels are known only then, so that is when the checks of pixels are asked.
    """
    judgement = checks.judge(record, settings)
    if judgement.repair is None or judgement.repair.data is None:
        return judgement
    look = look_at(judgement.repair.data)
    if look.measured is None:
        verdict = Verdict(checks.decodable.UNDECODABLE, f"even as PNG: {look.error}")
        return checks.Judgement(reject=verdict, override=checks.decodable.CHECK.override)
    figures = dataclasses.replace(look.measured, transparency=checks.alpha.share(record))
    seen = checks.judge(dataclasses.replace(record, measured=figures), settings, _OF_PIXELS)
    if seen.reject is not None:
        return seen
    said = {warning.reason for warning in judgement.warnings}
    fresh = (warning for warning in seen.warnings if warning.reason not in said)
    return dataclasses.replace(
        judgement,
        repairs=(*judgement.repairs, *seen.repairs),
        warnings=(*judgement.warnings, *fresh),
        likeness=look.likeness,
    )


def row(record: Record, judgement: checks.Judgement) -> bytes:
    """What the search for near-duplicates needs of a record that stays; b"" for nothing."""
    return matching.row(record.image_hash, record.likeness or judgement.likeness or b"")


def with_sizes(settings: Settings, pixels: Mapping[int, int]) -> Settings:
    """The settings, knowing the sizes of the whole set (width × height → pictures that have it)."""
    usual = checks.odd_size.limits(pixels, checks.odd_size.CHECK.threshold_in(settings))
    return dataclasses.replace(settings, sizes=usual)


def finished(first: checks.Judgement, record: Record, settings: Settings) -> checks.Judgement:
    """The whole judgement, from one that was made before the sizes of the set were known.

    Gives what `judge` gives with the same settings, without the record's bytes.
    """
    later = checks.judge(record, settings, (checks.odd_size.CHECK,))
    if later.reject is not None and later.reject.reason == checks.odd_size.CHECK.name:
        if first.reject is None or first.reject.reason in _AFTER_SIZES:
            return later
        return first
    if first.reject is not None:
        return first
    return dataclasses.replace(first, warnings=(*first.warnings, *later.warnings))


def near_settings(settings: Settings) -> matching.NearSettings:
    """What people set for near-duplicates, of what they set for all checks."""
    radius = int(settings.threshold.get(groups.NEAR, RADIUS))
    accepted = [key for key, override in settings.overrides.items() if override.verdict != "reject"]
    return matching.NearSettings(radius, dict(settings.severity), tuple(accepted))


def reject_of(
    record: Record,
    judgement: checks.Judgement,
    drop: identical_files.Drop | None,
    near: groups.Ruling | None,
) -> quarantine.Reject | None:
    """Why the record goes; None when it stays."""
    if judgement.reject is not None:
        verdict = judgement.reject
        return quarantine.reject(record, verdict.reason, verdict.detail, judgement.override)
    if drop is not None:
        override = identical_files.OVERRIDES[drop.reason]
        return quarantine.reject(record, drop.reason, drop.detail, override, drop.kept_copy)
    if near is not None and near.severity == "reject":
        override = groups.OVERRIDES[near.reason]
        return quarantine.reject(record, near.reason, near.detail, override, near.other)
    return None


@dataclass
class Account:
    """What some files came to; small, and gathered."""

    read: int = 0
    kept: dict[str, dict[str, int]] = field(default_factory=dict)  # split → label → images
    rejects: list[quarantine.Reject] = field(default_factory=list)
    repairs: list[quarantine.Finding] = field(default_factory=list)
    warnings: list[quarantine.Finding] = field(default_factory=list)
    reviews: list[quarantine.Finding] = field(default_factory=list)  # overrides that were met
    relabelled: dict[str, int] = field(default_factory=dict)  # split → kept images with a new label
    overrides: set[str] = field(default_factory=set)  # their hashes, as in the file

    def review(
        self, found: str, record: Record, reject: quarantine.Reject | None, settings: Settings
    ) -> None:
        """Account for what people decided about a picture; `found` is the label it came with."""
        override = checks.override_of(record, settings)
        if override is None:
            return
        self.overrides.add(override.image_hash)
        verdict: str = override.verdict
        detail = ""
        if verdict == "relabel" and record.split == names.TEST:
            verdict = quarantine.NOT_RELABELLED
            detail = f"keeps {found or 'no label'}: overrides never change a label of test"
        elif verdict == "relabel":
            detail = f"{found or 'no label'} → {record.label}"
        if override.verdict != "reject" and reject is not None:
            detail = f"stays rejected: {reject.reason}, {reject.detail}"
        elif record.label != found:
            self.relabelled[record.split] = self.relabelled.get(record.split, 0) + 1
        self.reviews.append(quarantine.finding(record, Verdict(verdict, detail)))

    def mend(self, record: Record, done: Iterable[Verdict], failed: Iterable[Verdict]) -> None:
        """Account for the repairs of a record that stays."""
        self.repairs += [quarantine.finding(record, repair) for repair in done]
        self.warnings += [quarantine.finding(record, warning) for warning in failed]

    def keep(self, record: Record, judgement: checks.Judgement, near: groups.Ruling | None) -> None:
        """Account for a record that stays, and for what it is warned of."""
        self.warnings += [quarantine.finding(record, warn) for warn in judgement.warnings]
        if near is not None:
            verdict = Verdict(near.reason, near.detail, "warn")
            self.warnings.append(quarantine.finding(record, verdict))
        labels = self.kept.setdefault(record.split, {})
        labels[record.label] = labels.get(record.label, 0) + 1


def totals(
    accounts: Sequence[Account],
    vocabulary: Sequence[str],
    notes: Sequence[Mapping[str, str]],
    settings: Settings,
) -> dict[str, Any]:
    """All accounts as the arguments of `quarantine.write` and `quarantine.summarise`."""
    kept = {split: dict.fromkeys(vocabulary, 0) for split in names.SPLITS}
    relabelled = dict.fromkeys(names.SPLITS, 0)
    for account in accounts:
        for split, count in account.relabelled.items():
            relabelled[split] += count
        for split, labels in account.kept.items():
            for label, count in labels.items():
                kept[split][label] = kept[split].get(label, 0) + count
    return {
        "images": sum(account.read for account in accounts),
        "kept": kept,
        "rejects": [reject for account in accounts for reject in account.rejects],
        "repairs": [repair for account in accounts for repair in account.repairs],
        "warnings": [warning for account in accounts for warning in account.warnings],
        "notes": notes,
        "reviews": [review for account in accounts for review in account.reviews],
        "relabelled": relabelled,
        "unknown": sorted(set(settings.overrides).difference(*(a.overrides for a in accounts))),
    }
