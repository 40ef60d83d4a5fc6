"""Whether the data of a run may be trained on: reasons against it, each with what to do.

These are pure functions over the quarantine's summary and TFDV's anomalies; the component that
calls them is `DataGate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2

from imgpipe.components.image_filter.checks import METADATA
from imgpipe.components.image_filter.checks import near_duplicate as near
from imgpipe.models import feature_names as names

_WHOLE = 5  # reasons of one kind that a message gives as whole sentences
_NAMED = 25  # further ones that it names; the rest is only counted, gate.json has them all


@dataclass(frozen=True)
class GateSettings:
    """What the gate demands."""

    vocabulary: tuple[str, ...]
    minimum: Mapping[str, int] = field(default_factory=dict)  # split → images each class needs
    allow_missing_classes: bool = False  # classes of the vocabulary that no image has
    max_rejected_share: float = 0.1


@dataclass(frozen=True)
class Reason:
    """One thing that is wrong."""

    kind: str  # no_images, missing_class, too_few, rejected_share, anomaly, drift, skew, lost
    subject: str  # class or feature, "" for the whole
    split: str
    expected: str
    seen: str
    advice: str

    def sentence(self) -> str:
        """For people: what, where, expected, seen, what to do."""
        place = f" in {self.split}" if self.split else ""
        about = f" {self.subject!r}" if self.subject else ""
        title = self.kind.replace("_", " ")
        return f"{title}{about}{place}: expected {self.expected}, seen {self.seen}; {self.advice}"


def too_few(summary: Mapping[str, Any], settings: GateSettings) -> list[Reason]:
    """Classes without enough images in a split; one reason for a class without any."""
    kept = summary["by_split"]
    reasons = []
    for name in settings.vocabulary:
        counts = {split: kept.get(split, {}).get(name, 0) for split in names.SPLITS}
        if not any(counts.values()):
            if not settings.allow_missing_classes:
                advice = "add images, remove its folder, or set gate.allow_missing_classes"
                reasons.append(Reason("missing_class", name, "", "images", "none", advice))
            continue
        for split, count in counts.items():
            least = settings.minimum.get(split, 0)
            if count < least:
                advice = f"add images of {name}, or lower gate.min_{split}"
                seen = str(count)
                reasons.append(Reason("too_few", name, split, f"at least {least}", seen, advice))
    return reasons


def rejected_share(summary: Mapping[str, Any], settings: GateSettings) -> list[Reason]:
    """Too large a part of the images in quarantine, or none left at all."""
    images, rejected = summary["in"], summary["rejected"]
    by_reason = ", ".join(f"{count} {name}" for name, count in summary["by_reason"].items())
    if not summary["kept"]:
        advice = "see the quarantine for each file"
        seen = f"{images} in, all rejected ({by_reason})" if images else "an empty source"
        return [Reason("no_images", "", "", "at least one good image", seen, advice)]
    if rejected / images <= settings.max_rejected_share:
        return []
    leaks = ""
    if summary["by_reason"].get(near.ACROSS_SPLITS):
        leaks = "; data.group_pattern keeps near-duplicates in one split, so that none has to go"
    return [
        Reason(
            "rejected_share",
            "",
            "",
            f"at most {settings.max_rejected_share:.1%} of the images",
            f"{rejected / images:.1%} ({rejected} of {images}: {by_reason})",
            "see the quarantine for each file, or raise gate.max_rejected_share" + leaks,
        )
    ]


def anomalous(
    anomalies: Mapping[str, anomalies_pb2.Anomalies],
    summary: Mapping[str, Any],
) -> list[Reason]:
    """TFDV's anomalies; an empty split has none of its own (`too_few` judges it)."""
    advice = "if this is right: imgpipe schema accept, with the same arguments as the run"
    reasons = []
    for split, found in anomalies.items():
        if not sum(summary["by_split"].get(split, {}).values()):
            continue
        for feature in sorted(found.anomaly_info):
            info = found.anomaly_info[feature]
            if _ours_and_new(feature, info):
                continue
            seen = _words(info)
            expected = "what the schema allows"
            reasons.append(Reason("anomaly", feature, split, expected, seen, advice))
        for reason in found.dataset_anomaly_info.reason:
            seen = _words(reason)
            reasons.append(Reason("anomaly", "", split, "what the schema allows", seen, advice))
    return reasons


def _ours_and_new(feature: str, info: anomalies_pb2.AnomalyInfo) -> bool:
    """Whether an older version of the product, not other data, left a feature out of the schema."""
    new = anomalies_pb2.AnomalyInfo.SCHEMA_NEW_COLUMN
    types = {reason.type for reason in info.reason}
    return feature in METADATA and types == {new}


def _words(info: anomalies_pb2.AnomalyInfo | anomalies_pb2.AnomalyInfo.Reason) -> str:
    """TFDV's own words, without the full stop that would end our sentence."""
    return (info.description or info.short_description).strip().rstrip(".")


def lost(examples: Mapping[str, int], summary: Mapping[str, Any]) -> list[Reason]:
    """Statistics over another number of images than were kept (split → examples counted)."""
    reasons = []
    for split, labels in summary["by_split"].items():
        kept = sum(labels.values())
        counted = examples.get(split, 0)
        if counted != kept:
            advice = "the artifacts do not belong together; run again from ImageFilter"
            reasons.append(Reason("lost", "", split, f"{kept} images", str(counted), advice))
    return reasons


def counted(summary: Mapping[str, Any], settings: GateSettings) -> list[Reason]:
    """Reasons that follow from the counts of images alone, as `imgpipe check` knows them."""
    shares = rejected_share(summary, settings)
    if not summary["kept"]:
        return shares
    return [*shares, *too_few(summary, settings)]


def judge(
    summary: Mapping[str, Any],
    anomalies: Mapping[str, anomalies_pb2.Anomalies],
    examples: Mapping[str, int],
    settings: GateSettings,
) -> list[Reason]:
    """All reasons against the data; an empty list is a pass."""
    found = counted(summary, settings)
    if not summary["kept"]:
        return found
    return [*lost(examples, summary), *found, *anomalous(anomalies, summary)]


def told(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    """Reasons as `gate.json` lists them: their fields, and the sentence for people."""
    return [asdict(reason) | {"sentence": reason.sentence()} for reason in reasons]


def grouped(reasons: Sequence[Mapping[str, str]]) -> list[str]:
    """A few sentences for any number of reasons.

    Args:
        reasons: Entries as `told` gives them.

    Returns:
        The first reasons of each kind as whole sentences, and one line for the others of that
        kind, which names some of them and counts the rest.
    """
    kinds: dict[str, list[Mapping[str, str]]] = {}
    for reason in reasons:
        kinds.setdefault(reason.get("kind", ""), []).append(reason)
    lines = []
    for kind, alike in kinds.items():
        lines += [reason["sentence"] for reason in alike[:_WHOLE]]
        if rest := alike[_WHOLE:]:
            lines.append(f"{kind.replace('_', ' ')}, the same for {_named(rest)}")
    return lines


def _named(reasons: Sequence[Mapping[str, str]]) -> str:
    """Where the reasons apply: "'cat' in train, 'dog' in train and 3,040 more"."""
    places = []
    for reason in reasons[:_NAMED]:
        subject, split = reason.get("subject"), reason.get("split")
        places.append((repr(subject) if subject else "all") + (f" in {split}" if split else ""))
    more = len(reasons) - len(places)
    return ", ".join(places) + (f" and {more:,} more" if more else "")


def refusal(reasons: Sequence[Reason]) -> str:
    """The message of a refusal, grouped by kind."""
    number = f"{len(reasons):,} reason{'s' * (len(reasons) > 1)}"
    lines = [f"- {line}" for line in grouped(told(reasons))]
    return "\n".join([f"the data was refused for {number}:", *lines])
