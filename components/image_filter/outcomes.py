"""The results for the images of a shard or of a whole set: counts and findings."""

from __future__ import annotations

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
    kept: dict[str, dict[str, int]] = field(default_factory=dict)  # split → label → images
    rejects: list[Finding] = field(default_factory=list)
    repairs: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    reviews: list[Finding] = field(default_factory=list)  # images with an override
    relabelled: dict[str, int] = field(default_factory=dict)  # split → kept images with a new label
    moved: dict[str, int] = field(default_factory=dict)  # reason → images in another split
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
            reason = decision.move.reason
            self.moved[reason] = self.moved.get(reason, 0) + 1
        self.repairs += decision.repairs
        self.warnings += decision.warnings
        labels = self.kept.setdefault(record.split, {})
        labels[record.label] = labels.get(record.label, 0) + 1

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
            self.relabelled[record.split] = self.relabelled.get(record.split, 0) + 1
        self.reviews.append(Finding(verdict, detail, "warn").about(record))


def totals(
    outcomes: Sequence[Outcomes],
    vocabulary: Sequence[str],
    notes: Sequence[Mapping[str, str]],
    settings: Settings,
) -> dict[str, Any]:
    """Combine all outcomes to the arguments of `quarantine.summarise`, by name."""
    kept = {split: dict.fromkeys(vocabulary, 0) for split in names.SPLITS}
    relabelled = dict.fromkeys(names.SPLITS, 0)
    moved = dict.fromkeys(placement.REASONS, 0)
    for one in outcomes:
        for reason, count in one.moved.items():
            moved[reason] += count
        for split, count in one.relabelled.items():
            relabelled[split] += count
        for split, labels in one.kept.items():
            for label, count in labels.items():
                kept[split][label] = kept[split].get(label, 0) + count
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
