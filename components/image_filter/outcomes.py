"""The results for the images of a shard or of a whole set: counts and findings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgpipe.components.image_filter import placement, quarantine
from imgpipe.components.image_filter.check import Finding, Settings
from imgpipe.components.image_filter.decision import Decision
from imgpipe.models import feature_names as names


@dataclass
class Outcomes:
    """Counts and findings of some images, small enough to be collected from all shards."""

    read: int = 0
    #: Number of images by split and label.
    kept: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    rejects: list[Finding] = field(default_factory=list)
    repairs: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    reviews: list[Finding] = field(default_factory=list)  # images with an override
    relabelled: Counter[str] = field(default_factory=Counter)  # kept with a new label, by split
    moved: Counter[str] = field(default_factory=Counter)  # images in another split, by reason
    overrides: set[str] = field(default_factory=set)  # hashes of these overrides, as in the file

    def add(self, decision: Decision) -> None:
        """Count an image and collect its findings."""
        self.read += 1
        self._review(decision)
        if decision.rejection is not None:
            self.rejects.append(decision.rejection)
            return
        record = decision.record
        if decision.move is not None:
            self.moved[decision.move.reason] += 1
        self.repairs += decision.repairs
        self.warnings += decision.warnings
        self.kept[record.split][record.label] += 1

    def _review(self, decision: Decision) -> None:
        """Collect the effect of the override of an image."""
        record, source_label = decision.record, decision.source_label
        reject, override = decision.rejection, decision.override
        if override is None:
            return
        self.overrides.add(override.image_hash)
        verdict: str = override.verdict
        detail = ""
        if verdict == "relabel" and record.split == names.TEST:
            verdict = quarantine.NOT_RELABELLED
            detail = f"keeps {source_label or 'no label'}: overrides never change a label of test"
        elif verdict == "relabel":
            detail = f"{source_label or 'no label'} → {record.label}"
        if override.verdict != "reject" and reject is not None:
            detail = f"stays rejected: {reject.reason}, {reject.detail}"
        elif record.label != source_label:
            self.relabelled[record.split] += 1
        self.reviews.append(Finding(verdict, detail, "warn").about(record))


def totals(
    outcomes: Sequence[Outcomes],
    vocabulary: Sequence[str],
    notes: Sequence[Mapping[str, Any]],
    settings: Settings,
) -> dict[str, Any]:
    """Combine all outcomes to the arguments of `quarantine.summarise`, by name."""
    kept = {split: Counter(dict.fromkeys(vocabulary, 0)) for split in names.SPLITS}
    relabelled = Counter(dict.fromkeys(names.SPLITS, 0))
    moved = Counter(dict.fromkeys(placement.REASONS, 0))
    for one in outcomes:
        moved.update(one.moved)
        relabelled.update(one.relabelled)
        for split, labels in one.kept.items():
            kept[split].update(labels)
    return {
        "images": sum(one.read for one in outcomes),
        "kept": kept,
        "rejects": [reject for one in outcomes for reject in one.rejects],
        "repairs": [repair for one in outcomes for repair in one.repairs],
        "warnings": [warning for one in outcomes for warning in one.warnings],
        "notes": notes,
        "reviews": [review for one in outcomes for review in one.reviews],
        "relabelled": relabelled,
        "moved": moved,
        "unknown": sorted(set(settings.overrides).difference(*(one.overrides for one in outcomes))),
    }
