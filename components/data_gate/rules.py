"""The rules of the data gate, which find reasons against training on the data of a run.

These are pure functions of the quarantine's summary and TFDV's anomalies. `DataGate` and
`imgpipe check` call them.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from typing_extensions import TypedDict

from imgpipe.components.common.image_row import METADATA
from imgpipe.components.image_filter.findings import title_of
from imgpipe.components.image_filter.placement.families import UNCLEAR
from imgpipe.components.image_filter.summary import DataSummary
from imgpipe.models import names
from imgpipe.models.finding import Finding, make_finding, said
from imgpipe.models.head.certainty import wilson
from imgpipe.models.settings.data import GateSettings

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

#: What to do about rejected files.
SEE_REASONS = "see the reason for each file in the quarantine"
#: Kind of the reason against data of which a class has no image.
MISSING_CLASS = "missing_class"
#: Kinds of reasons that a person may accept: the data differs from what was accepted before.
ACCEPTABLE = frozenset(("new_class", "lost_class", "shrunken_class", "anomaly", "drift", "skew"))
_ACCEPT = "to accept it, run again with --accept"
_MAX_SENTENCES = 5  # reasons of one kind that a message gives as sentences of their own
_MAX_CLASSES = 5  # classes that a reason about several of them names


@dataclass(frozen=True)
class Requirements:
    """What the gate requires of the images of a run.

    Attributes:
        settings: The requirements that the configuration sets.
        vocabulary: Class names in sorted order.
        accepted: Classes of the accepted schema, with their number of images in the data that was
            accepted last, None where it is unknown; empty if nothing was accepted yet.
    """

    settings: GateSettings
    vocabulary: Sequence[str]
    accepted: Mapping[str, int | None] = field(default_factory=dict)

    def least(self, split: str) -> int:
        """Return the minimum number of images of each class in a split."""
        minimum = {
            names.TRAIN: self.settings.min_train,
            names.VALIDATION: self.settings.min_validation,
        }
        return minimum.get(split, 0)


def against(kind: str, subject: str, split: str, expected: str, seen: str, *advice: str) -> Finding:
    """Return a reason against the data.

    `kind` is no_images, missing_class, too_few, rejected_share, lost_class, shrunken_class,
    new_class, anomaly, drift or skew. `subject` is a class or a feature; "" stands for the
    whole data set, several classes or all splits. Each `advice` is a way of its own.
    """
    about = f" {subject!r}" if subject else ""
    where = f" in {split}" if split else ""
    title = f"{kind.replace('_', ' ')}{about}{where}"
    sentence = f"{title}: expected {expected}, found {seen}"
    if kind in ACCEPTABLE:
        advice = ("; ".join([*advice, _ACCEPT]),)
    return make_finding(kind, sentence, advice, title, decides=True)


class FeatureDistance(TypedDict):
    """The distance between what two sets of images have of one property."""

    feature: Annotated[str, "The property."]
    reference: Annotated[str, "The images that the others are compared with."]
    was: Annotated[str, "What these have of the property."]
    now: Annotated[str, "What the images that are examined have of it."]
    measure: Annotated[str, "Name of the distance, as in messages."]
    distance: Annotated[float, "The distance."]
    limit: Annotated[float, "Largest distance that is no drift, with the tolerance for chance."]
    over: Annotated[bool, "Whether the distance is over the limit."]


class DataDecision(TypedDict):
    """What DataGate has decided, as it writes it to `gate.json`."""

    blessed: Annotated[bool, "Whether the data is accepted."]
    reasons: Annotated[list[Finding], "Why it is not."]
    changes: Annotated[list[Finding], "What changed since the accepted data, if anything did."]
    accepted_schema: Annotated[
        str, "Path of the accepted schema that this run wrote; empty if it wrote none."
    ]
    warnings: Annotated[list[Finding], "What differs and does not refuse it."]


def too_few(summary: DataSummary, required: Requirements) -> list[Finding]:
    """Find the classes without images, and those with too few of them in a split.

    All classes without images are one reason, and so are all that have too few in a split.
    """
    kept = summary["by_split"]
    totals = by_class(summary)
    missing = {name: 0 for name in required.vocabulary if not totals.get(name)}
    reasons = []
    for split in names.SPLITS:
        least = required.least(split)
        counts = {name: kept.get(split, {}).get(name, 0) for name in required.vocabulary}
        few = {
            name: count for name, count in counts.items() if count < least and name not in missing
        }
        if few:
            fewest = min(few.values())
            fewer = f"accept fewer with --set gate.min_{split}={fewest}"
            of = next(iter(few)) if len(few) == 1 else "these classes"
            lower = fewer if fewest else f"lower gate.min_{split}"
            advice = f"add images of {of}, leave {of} out of the source, or {lower}"
            reasons.append(_of_classes("too_few", split, f"at least {least}", few, advice))
    if missing and not required.settings.allow_missing_classes:
        who = "its folder" if len(missing) == 1 else "their folders"
        advice = (
            f"add images, remove {who}, or accept classes without images with "
            "--set gate.allow_missing_classes=true"
        )
        reasons.append(_of_classes(MISSING_CLASS, "", "images", missing, advice))
    return reasons


def _of_classes(
    kind: str, split: str, expected: str, counts: Mapping[str, int], advice: str
) -> Finding:
    """Return one reason for some classes, with their number of images.

    Of several classes, those with the fewest images are named.
    """
    if len(counts) == 1:
        [(name, count)] = counts.items()
        return against(kind, name, split, expected, str(count or "none"), advice)
    fewest = sorted(counts, key=lambda name: counts[name])[:_MAX_CLASSES]
    has_images = any(counts.values())
    named = ", ".join(f"{name!r} ({counts[name]})" if has_images else repr(name) for name in fewest)
    others = len(counts) - len(fewest)
    more = f" and {others:,} more" if others else ""
    seen = f"{'fewer' if has_images else 'none'} of {len(counts):,} classes: {named}{more}"
    return against(kind, "", split, f"{expected} of each class", seen, advice)


def by_class(summary: DataSummary) -> dict[str, int]:
    """Return the number of kept images of each class, over all splits."""
    counts: collections.Counter[str] = collections.Counter()
    for labels in summary["by_split"].values():
        counts.update(labels)
    return dict(counts)


def changed_classes(summary: DataSummary, required: Requirements) -> list[Finding]:
    """Find the classes that are new, gone, or much smaller than in the data accepted last.

    A class is much smaller if its number of images fell by more than half and by more than chance,
    or if its share of the images of those classes that are in both did; see `_fell`.
    """
    accepted = required.accepted
    may_be_missing = required.settings.allow_missing_classes
    counts = by_class(summary)
    new = sorted(name for name, count in counts.items() if count and name not in accepted)
    reasons = []
    if accepted and new:
        expected = "the classes of the accepted data"
        reasons.append(against("new_class", "", "", expected, ", ".join(new)))
    for name, before in accepted.items():
        advice = "restore its images"
        now = counts.get(name, 0)
        if before and now:
            if _fell(before, now):
                expected = f"{before:,} images as in the last accepted data"
                reasons.append(against("shrunken_class", name, "", expected, f"{now:,}", advice))
        # A class that still has a folder is a `too_few`, unless it may be without images.
        elif name not in required.vocabulary or (before and may_be_missing):
            expected = "images as in the last accepted data" + (f" ({before:,})" if before else "")
            reasons.append(against("lost_class", name, "", expected, "none", advice))
    return reasons


def _fell(before: int, now: int) -> bool:
    """Whether a count fell by more than half, and by more than chance.

    It fell by more than chance if the upper end of the 95 % Wilson interval of now / (before + now)
    is below 1/2, which is expected of equal rates.
    """
    return 2 * now < before and wilson(now, before + now)[1] < 1 / 2


def rejected_share(summary: DataSummary, required: Requirements) -> list[Finding]:
    """Find out whether too many images were rejected, or all of them."""
    images = summary["in"]
    rejected = summary["rejected"]
    counts = summary["by_reason"].items()
    by_reason = ", ".join(f"{count} {title_of(name)}" for name, count in counts)
    if not summary["kept"]:
        advice = SEE_REASONS
        seen = f"{images} images, all rejected ({by_reason})" if images else "an empty source"
        return [against("no_images", "", "", "at least one good image", seen, advice)]
    if rejected / images <= required.settings.max_rejected_share:
        return []
    accepted = math.ceil(100 * rejected / images) / 100
    rejections = (each for each in summary["findings"] if each["fate"] == "rejected")
    remedies = [each["remedies"][0] for each in rejections if each["remedies"]]
    allow = f"{SEE_REASONS}, or allow this share with --set gate.max_rejected_share={accepted:g}"
    return [
        against(
            "rejected_share",
            "",
            "",
            f"at most {required.settings.max_rejected_share:.1%} of the images",
            f"{rejected / images:.1%} ({rejected} of {images}: {by_reason})",
            *remedies[:1],  # of the most frequent reason
            allow,
        )
    ]


def anomalous(
    anomalies: Mapping[str, anomalies_pb2.Anomalies], summary: DataSummary
) -> list[Finding]:
    """Convert TFDV's anomalies to reasons, except for empty splits, which `too_few` handles."""
    reasons = []
    for split, of_split in anomalies.items():
        if not sum(summary["by_split"].get(split, {}).values()):
            continue
        of_features = sorted(of_split.anomaly_info.items())
        seen = [(name, info) for name, info in of_features if not _is_known(name, info)]
        seen += [("", reason) for reason in of_split.dataset_anomaly_info.reason]
        for name, info in seen:
            text = _description(info)
            reasons.append(against("anomaly", name, split, "what the schema allows", text))
    return reasons


def _is_known(feature: str, info: anomalies_pb2.AnomalyInfo) -> bool:
    """Whether it is a class that `changed_classes` names, or a feature of a newer imgpipe."""
    kinds = {reason.type for reason in info.reason}
    if feature == names.LABEL and kinds == {info.ENUM_TYPE_UNEXPECTED_STRING_VALUES}:
        return True
    return feature in METADATA and kinds == {info.SCHEMA_NEW_COLUMN}


def _description(info: anomalies_pb2.AnomalyInfo | anomalies_pb2.AnomalyInfo.Reason) -> str:
    """TFDV's description, without its full stop, to be embedded in a sentence."""
    return (info.description or info.short_description).strip().rstrip(".")


def counted(summary: DataSummary, required: Requirements) -> list[Finding]:
    """Find the reasons that follow from the counts of images alone, for `imgpipe check`."""
    shares = rejected_share(summary, required)
    if not summary["kept"]:
        return shares
    unclear = [each for each in summary["findings"] if each["reason"] == UNCLEAR]
    few = too_few(summary, required)
    if shares:  # the images of a class may be among the rejected; one without a file is noted
        few = [each for each in few if each["reason"] != MISSING_CLASS]
    return [*shares, *unclear, *few, *changed_classes(summary, required)]


def reasons_against(
    summary: DataSummary,
    anomalies: Mapping[str, anomalies_pb2.Anomalies],
    required: Requirements,
) -> list[Finding]:
    """Find all reasons against the data, of which `anomalies` are by split, as TFDV found them."""
    reasons = counted(summary, required)
    if summary["kept"]:
        reasons += anomalous(anomalies, summary)
    return reasons


def first_sentences(reasons: Sequence[Finding]) -> list[str]:
    """Summarise any number of reasons in a few lines.

    These are the sentences of the first reasons of each kind, and the number of the others.
    """
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(reason["reason"], []).append(said(reason))
    lines = []
    for kind, sentences in kinds.items():
        lines += sentences[:_MAX_SENTENCES]
        more = len(sentences) - _MAX_SENTENCES
        if more > 0:
            lines.append(f"{kind.replace('_', ' ')}: {more:,} more such reasons")
    return lines


def refusal(reasons: Sequence[Finding]) -> str:
    """Return the message of an error that refuses the data, with grouped reasons."""
    number = f"{len(reasons):,} reason{'s' * (len(reasons) > 1)}"
    lines = [f"- {line}" for line in first_sentences(reasons)]
    return "\n".join([f"the data was refused for {number}:", *lines])
