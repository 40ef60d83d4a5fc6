"""The outcomes of the filter: counts and findings of all images, collected from their shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from imgpipe.components.common.ingest_summary import SourceNote
from imgpipe.components.image_filter import file_clues, findings, summary_findings
from imgpipe.components.image_filter.copies.near_duplicates import NearGroup, set_aside
from imgpipe.components.image_filter.data_summary import DataCounts, DataSummary, Families
from imgpipe.components.image_filter.file_clues import FileSample
from imgpipe.components.image_filter.judge.check import ImageFinding
from imgpipe.components.image_filter.judge.checks.decodable import TRANSCODED
from imgpipe.components.image_filter.judge.decision import ImageDecision
from imgpipe.components.image_filter.judge.overrides import Override, override_of
from imgpipe.components.image_filter.placement import placement
from imgpipe.components.image_filter.settings import FilterPlan
from imgpipe.models.names import feature_names as names
from imgpipe.serving.look import PIXEL_LIMIT
from imgpipe.serving.server.settings import DEFAULT_MAX_MESSAGE_BYTES

_FAMILIES_SHOWN = 10


@dataclass
class Outcomes:
    """Counts and findings of some images, small enough to be collected from all shards."""

    read: int = 0
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)  # images by split and label
    rejected: list[ImageFinding] = field(default_factory=list)
    repaired: list[ImageFinding] = field(default_factory=list)
    warned: list[ImageFinding] = field(default_factory=list)
    reviews: list[ImageFinding] = field(default_factory=list)  # images with an override
    relabelled: Counter[str] = field(default_factory=Counter)  # kept with a new label, by split
    moved: Counter[str] = field(default_factory=Counter)  # images in another split, by reason
    #: Images by family and split; those without a family have the family "".
    families: Counter[tuple[str, str]] = field(default_factory=Counter)
    found_families: int = 0  # images whose family was found, and not given by the source
    transcoded: Counter[str] = field(default_factory=Counter)  # kept images, by format
    files: FileSample = field(default_factory=FileSample)
    too_large: int = 0  # kept images that a server refuses

    @classmethod
    def joined(cls, parts: Iterable[Outcomes]) -> Outcomes:
        """Return the outcomes of all shards, sorted so that every driver lists the same."""
        total = cls()
        for part in parts:
            total._include(part)
        for rows in (total.rejected, total.repaired, total.warned, total.reviews):
            rows.sort(key=lambda finding: (finding.path, finding.reason))
        return total

    def _include(self, part: Outcomes) -> None:
        """Add the outcomes of other images."""
        self.read += part.read
        self.kept += part.kept
        self.rejected += part.rejected
        self.repaired += part.repaired
        self.warned += part.warned
        self.reviews += part.reviews
        self.relabelled += part.relabelled
        self.moved += part.moved
        self.families += part.families
        self.found_families += part.found_families
        self.transcoded += part.transcoded
        self.files += part.files
        self.too_large += part.too_large

    def add(self, decision: ImageDecision, stored: str = "") -> None:
        """Count an image and collect its findings.

        Args:
            decision: The final decision.
            stored: Path of the stored bytes of a rejected image, relative to the quarantine.
        """
        self.read += 1
        record = decision.record
        if decision.override is not None:
            self._review(decision, decision.override)
        if decision.rejection is not None:
            self.rejected.append(decision.rejection.about(record, stored=stored))
            return
        if decision.move is not None:
            self.moved[decision.move.reason] += 1
        if any(repair.reason == TRANSCODED for repair in decision.repairs):
            self.transcoded[record.content.format] += 1
        self.too_large += (
            record.content.pixels > PIXEL_LIMIT or record.byte_size > DEFAULT_MAX_MESSAGE_BYTES
        )
        self.repaired += [repair.about(record) for repair in decision.repairs]
        self.warned += [warning.about(record) for warning in decision.warnings]
        self.kept[record.split, record.label] += 1
        self.families[record.group, record.split] += 1
        self.found_families += decision.has_found_family
        self.files.add(record)

    def _review(self, decision: ImageDecision, override: Override) -> None:
        """Collect the effect of the override of an image."""
        record = decision.record
        reject = decision.rejection
        before = decision.source_label
        verdict: str = override.verdict
        detail = ""
        if verdict == "relabel" and record.split == names.TEST:
            verdict = summary_findings.NOT_RELABELLED
            detail = f"keeps {before or 'no label'}: overrides never change a label of test"
        elif verdict == "relabel":
            detail = f"{before or 'no label'} → {record.label}"
        if override.verdict != "reject" and reject is not None:
            detail = f"stays rejected: {reject.reason}, {reject.detail}"
        elif record.label != before:
            self.relabelled[record.split] += 1
        self.reviews.append(ImageFinding(verdict, detail, "warn").about(record))

    def summary(
        self, plan: FilterPlan, notes: Sequence[SourceNote], near: Iterable[NearGroup] = ()
    ) -> DataSummary:
        """Count the images, and say what was found out about them.

        Args:
            plan: What ImageFilter gets.
            notes: Notes of the source, most of them about files that were not read as images.
            near: Groups of near-duplicates.
        """
        counts = self._counts(plan, near)
        by_class: Counter[str] = Counter()
        for (_, label), count in self.kept.items():
            by_class[label] += count
        listed = [
            *findings.of_images("rejected", self.rejected),
            *findings.of_images("repaired", self.repaired),
            *findings.of_images("warned", self.warned),
            *findings.of_source(notes, by_class),
            *summary_findings.of_counts(counts),
        ]
        return {**counts, "findings": listed}

    def _counts(self, plan: FilterPlan, near: Iterable[NearGroup]) -> DataCounts:
        kept = {split: dict.fromkeys(plan.vocabulary, 0) for split in names.SPLITS}
        for (split, label), count in sorted(self.kept.items()):
            kept[split][label] = count
        return {
            "in": self.read,
            "kept": self.kept.total(),
            "rejected": len(self.rejected),
            # An image may have several repairs.
            "repaired": len({repair.path for repair in self.repaired}),
            "repaired_by": _by_reason(self.repaired),
            "transcoded": dict(sorted(self.transcoded.items())),
            "too_large": self.too_large,
            "by_reason": _by_reason(self.rejected),
            "by_split": kept,
            "moved": {reason: self.moved[reason] for reason in placement.REASONS},
            "set_aside": set_aside(near),
            "families": self._families(),
            "file_clues": file_clues.clues_of(self.files),
            "overrides": {
                # A decision about an image is one, however many identical files there are.
                "applied": _by_reason(
                    {(review.reason, review.image_hash): review for review in self.reviews}.values()
                ),
                "relabelled": {split: self.relabelled[split] for split in names.SPLITS},
                "unknown": self._unknown(plan),
            },
        }

    def _unknown(self, plan: FilterPlan) -> list[str]:
        """Return the hashes of overrides that match no file."""
        given = {override.image_hash for override in plan.overrides_by_hash.values()}
        for review in self.reviews:
            override = override_of(review.image_hash, plan.overrides_by_hash)
            if override is not None:
                given.discard(override.image_hash)
        return sorted(given)

    def _families(self) -> Families:
        """Count the images of families."""
        sizes: Counter[str] = Counter()
        independent = dict.fromkeys(names.SPLITS, 0)
        divided = dict.fromkeys((names.VALIDATION, names.TEST), 0)
        for (family, split), count in self.families.items():
            sizes[family] += count
            independent[split] += 1 if family else count
            if family and split in divided and self.families[family, names.TRAIN]:
                divided[split] += count
        del sizes[""]
        # A family of which one image is kept, as beside its rejected copies, joins nothing.
        several = Counter({name: count for name, count in sizes.items() if count > 1})
        largest = sorted(several.items(), key=lambda item: (-item[1], item[0]))
        return {
            "found": self.found_families > 0,
            "families": len(several),
            "images": several.total(),
            "examples": [
                {"name": name, "images": count} for name, count in largest[:_FAMILIES_SHOWN]
            ],
            "independent": independent,
            "divided": divided,
        }


def check_conservation(summary: DataSummary, ingested: int | None) -> None:
    """Check that every image was either kept or rejected.

    Raises:
        RuntimeError: Images were lost or counted twice, which is a defect.
    """
    out = summary["kept"] + summary["rejected"]
    if summary["in"] != out or ingested not in (None, summary["in"]):
        raise RuntimeError(
            f"images were lost in the filter: {ingested} ingested, {summary['in']} read, "
            f"{summary['kept']} kept + {summary['rejected']} rejected; this is a defect"
        )


def _by_reason(findings: Iterable[ImageFinding]) -> dict[str, int]:
    return dict(sorted(Counter(finding.reason for finding in findings).items()))
