"""The rules of the data gate, which find reasons against training on the data of a run.

These are pure functions of the quarantine's summary and TFDV's anomalies. `DataGate` and
`imgpipe check` call them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from imgpipe.components.image_filter.checks import METADATA, whole_set
from imgpipe.models import feature_names as names

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

#: What to do about rejected files.
SEE_REASONS = "see the reason for each file in the quarantine"
#: What to do about an anomaly, drift or skew that is wanted.
ACCEPT = "to accept it, run again with --accept"
#: TFDV's description of values that a feature did not have before, and one of the values in it.
_NEW_VALUES = re.compile(r"values missing from the schema: (.+)")
_NEW_VALUE = re.compile(r"(?:^|, )(.+?) \([~<]\d+%\)")
_MAX_SENTENCES = 5  # reasons of one kind that a message gives as sentences of their own


@dataclass(frozen=True)
class GateSettings:
    """The requirements of the gate.

    Attributes:
        vocabulary: Class names in sorted order.
        minimum: Minimum number of images of each class, by split.
        allow_missing_classes: Whether classes of the vocabulary may have no image.
        max_rejected_share: Largest accepted share of rejected images, 0 to 1.
    """

    vocabulary: tuple[str, ...]
    minimum: Mapping[str, int] = field(default_factory=dict)
    allow_missing_classes: bool = False
    max_rejected_share: float = 0.1

    @classmethod
    def of(cls, section: Mapping[str, Any], vocabulary: Sequence[str]) -> GateSettings:
        """Return the requirements of the section ``[gate]`` of a configuration."""
        return cls(
            tuple(vocabulary),
            {split: section[f"min_{split}"] for split in (names.TRAIN, names.VALIDATION)},
            section["allow_missing_classes"],
            section["max_rejected_share"],
        )


@dataclass(frozen=True)
class Reason:
    """One reason against the data."""

    kind: str  # no_images, missing_class, too_few, rejected_share, anomaly, drift, skew, lost
    subject: str  # class or feature, "" for the whole data set
    split: str  # "" for all splits
    expected: str
    seen: str
    advice: str

    def sentence(self) -> str:
        """Return a message that says what was expected, what was found and what to do."""
        where = f" in {self.split}" if self.split else ""
        about = f" {self.subject!r}" if self.subject else ""
        title = self.kind.replace("_", " ")
        return f"{title}{about}{where}: expected {self.expected}, found {self.seen}; {self.advice}"


def too_few(summary: Mapping[str, Any], settings: GateSettings) -> list[Reason]:
    """Find the classes with too few images in a split; a class without images is one reason."""
    kept = summary["by_split"]
    reasons = []
    for name in settings.vocabulary:
        counts = {split: kept.get(split, {}).get(name, 0) for split in names.SPLITS}
        if not any(counts.values()):
            if not settings.allow_missing_classes:
                advice = (
                    "add images, remove its folder, or accept classes without images with "
                    "--set gate.allow_missing_classes=true"
                )
                reasons.append(Reason("missing_class", name, "", "images", "none", advice))
            continue
        for split, count in counts.items():
            least = settings.minimum.get(split, 0)
            if count < least:
                fewer = f"accept fewer with --set gate.min_{split}={count}"
                advice = f"add images of {name}, or {fewer if count else f'lower gate.min_{split}'}"
                expected = f"at least {least}"
                reasons.append(Reason("too_few", name, split, expected, str(count), advice))
    return reasons


def rejected_share(summary: Mapping[str, Any], settings: GateSettings) -> list[Reason]:
    """Find out whether too many images were rejected, or all of them."""
    images, rejected = summary["in"], summary["rejected"]
    by_reason = ", ".join(f"{count} {name}" for name, count in summary["by_reason"].items())
    if not summary["kept"]:
        advice = SEE_REASONS
        seen = f"{images} images, all rejected ({by_reason})" if images else "an empty source"
        return [Reason("no_images", "", "", "at least one good image", seen, advice)]
    if rejected / images <= settings.max_rejected_share:
        return []
    accepted = math.ceil(100 * rejected / images) / 100
    leaks = ""
    if summary["by_reason"].get(whole_set.ACROSS_SPLITS):
        leaks = "; with data.group_pattern near-duplicates stay in one split and are not rejected"
    return [
        Reason(
            "rejected_share",
            "",
            "",
            f"at most {settings.max_rejected_share:.1%} of the images",
            f"{rejected / images:.1%} ({rejected} of {images}: {by_reason})",
            f"{SEE_REASONS}, or allow this share with --set gate.max_rejected_share={accepted:g}"
            + leaks,
        )
    ]


def anomalous(
    anomalies: Mapping[str, anomalies_pb2.Anomalies], summary: Mapping[str, Any]
) -> list[Reason]:
    """Convert TFDV's anomalies to reasons, except for empty splits, which `too_few` handles."""
    reasons = []
    classes: set[str] = set()
    for split, found in anomalies.items():
        if not sum(summary["by_split"].get(split, {}).values()):
            continue
        of_features = sorted(found.anomaly_info.items())
        seen = [(name, info) for name, info in of_features if not _is_our_new_feature(name, info)]
        seen += [("", reason) for reason in found.dataset_anomaly_info.reason]
        for name, info in seen:
            text = _description(info)
            if name == names.LABEL and (unknown := _NEW_VALUES.search(text)):
                classes.update(_NEW_VALUE.findall(unknown[1]) or [unknown[1]])
                continue
            reasons.append(Reason("anomaly", name, split, "what the schema allows", text, ACCEPT))
    if classes:  # once, and not for each split
        new = f"new ones: {', '.join(sorted(classes))}"
        expected = "the classes of the accepted data"
        reasons.append(Reason("anomaly", names.LABEL, "", expected, new, ACCEPT))
    return reasons


def _is_our_new_feature(feature: str, info: anomalies_pb2.AnomalyInfo) -> bool:
    """Whether the schema lacks a feature because an older version of imgpipe wrote it."""
    return feature in METADATA and {r.type for r in info.reason} == {info.SCHEMA_NEW_COLUMN}


def _description(info: anomalies_pb2.AnomalyInfo | anomalies_pb2.AnomalyInfo.Reason) -> str:
    """TFDV's description, without its full stop, to be embedded in a sentence."""
    return (info.description or info.short_description).strip().rstrip(".")


def lost(examples: Mapping[str, int], summary: Mapping[str, Any]) -> list[Reason]:
    """Find the splits whose statistics cover another number of images than were kept.

    Args:
        examples: Number of examples in the statistics, by split.
        summary: Summary of the quarantine.
    """
    reasons = []
    for split, labels in summary["by_split"].items():
        kept = sum(labels.values())
        counted = examples.get(split, 0)
        if counted != kept:
            advice = "the artifacts do not belong together; run again from ImageFilter"
            reasons.append(Reason("lost", "", split, f"{kept} images", str(counted), advice))
    return reasons


def counted(summary: Mapping[str, Any], settings: GateSettings) -> list[Reason]:
    """Find the reasons that follow from the counts of images alone, for `imgpipe check`."""
    shares = rejected_share(summary, settings)
    return [*shares, *too_few(summary, settings)] if summary["kept"] else shares


def reasons_against(
    summary: Mapping[str, Any],
    anomalies: Mapping[str, anomalies_pb2.Anomalies],
    examples: Mapping[str, int],
    settings: GateSettings,
) -> list[Reason]:
    """Find all reasons against the data; without one it is accepted.

    Args:
        summary: Summary of the quarantine.
        anomalies: TFDV's anomalies by split.
        examples: Number of examples in the statistics, by split.
        settings: Requirements of the gate.
    """
    found = counted(summary, settings)
    if summary["kept"]:
        found = [*lost(examples, summary), *found, *anomalous(anomalies, summary)]
    return found


def as_dicts(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    """Convert reasons to the entries of `gate.json`: their fields, and their sentence."""
    return [asdict(reason) | {"sentence": reason.sentence()} for reason in reasons]


def summarised(reasons: Sequence[Mapping[str, str]]) -> list[str]:
    """Summarise any number of reasons in a few lines.

    Args:
        reasons: Entries as `as_dicts` returns them.

    Returns:
        The sentences of the first reasons of each kind, and the number of the others of that kind.
    """
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(reason["kind"], []).append(reason["sentence"])
    lines = []
    for kind, sentences in kinds.items():
        lines += sentences[:_MAX_SENTENCES]
        if (more := len(sentences) - _MAX_SENTENCES) > 0:
            lines.append(f"{kind.replace('_', ' ')}: {more:,} more such reasons")
    return lines


def refusal(reasons: Sequence[Reason]) -> str:
    """Return the message of an error that refuses the data, with grouped reasons."""
    number = f"{len(reasons):,} reason{'s' * (len(reasons) > 1)}"
    lines = [f"- {line}" for line in summarised(as_dicts(reasons))]
    return "\n".join([f"the data was refused for {number}:", *lines])
