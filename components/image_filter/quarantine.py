"""The quarantine: rejected files with their bytes, the findings of all files, and their counts.

Layout below the artifact's URI:

    manifest.jsonl   one line for each rejected file (`ImageFinding.row`)
    repaired.jsonl   one line for each repair
    warnings.jsonl   one line for each warning about a file that is kept
    reviewed.jsonl   one line for each file with an override
    near_duplicates.jsonl   one line for each group of near-duplicates (`near_groups.line`)
    counts.json      counts (`DataSummary`)
    <reason>/…       the original bytes, named by content hash and file name
"""

from __future__ import annotations

import json
import operator
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.common.ingest_summary import SourceNote
from imgpipe.components.common.storage.records import read_json, write_bytes, write_text
from imgpipe.components.image_filter import (
    file_clues,
    findings,
    placement,
    quarantine_files,
    summary_findings,
)
from imgpipe.components.image_filter.check import ImageFinding, JudgeSettings
from imgpipe.components.image_filter.checks.decodable import TRANSCODED
from imgpipe.components.image_filter.data_summary import DataCounts, DataSummary, Families
from imgpipe.components.image_filter.decision import ImageDecision
from imgpipe.components.image_filter.file_clues import FileSample
from imgpipe.components.image_filter.near_groups import NearGroup, set_aside
from imgpipe.components.image_filter.overrides import Override, find
from imgpipe.models import feature_names as names
from imgpipe.serving.refused_image import PIXEL_LIMIT
from imgpipe.serving.server.settings import DEFAULT_MAX_MESSAGE_BYTES

_OWNER_FOLDER = 0o700
_OWNER_FILE = 0o600
_NAME_LENGTH = 100  # characters of a file name kept in the stored name; file systems allow 255
_FAMILIES_SHOWN = 10


@dataclass
class Outcomes:
    """Counts and findings of some images, small enough to be collected from all shards."""

    read: int = 0
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)  # images by split and label
    rejects: list[ImageFinding] = field(default_factory=list)
    repairs: list[ImageFinding] = field(default_factory=list)
    warnings: list[ImageFinding] = field(default_factory=list)
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
        for one in parts:
            for name, value in vars(one).items():
                setattr(total, name, operator.iadd(getattr(total, name), value))
        for found in (total.rejects, total.repairs, total.warnings, total.reviews):
            found.sort(key=lambda one: (one.path, one.reason))
        return total

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
            self.rejects.append(decision.rejection.about(record, stored=stored))
            return
        if decision.move is not None:
            self.moved[decision.move.reason] += 1
        if any(one.reason == TRANSCODED for one in decision.repairs):
            self.transcoded[record.content.format] += 1
        self.too_large += (
            record.content.pixels > PIXEL_LIMIT or record.byte_size > DEFAULT_MAX_MESSAGE_BYTES
        )
        self.repairs += [one.about(record) for one in decision.repairs]
        self.warnings += [one.about(record) for one in decision.warnings]
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
        self,
        vocabulary: Sequence[str],
        notes: Sequence[SourceNote],
        settings: JudgeSettings,
        near: Iterable[NearGroup] = (),
    ) -> DataSummary:
        """Count the images, and say what was found out about them.

        Args:
            vocabulary: Class names in sorted order.
            notes: Notes of the source, most of them about files that were not read as images.
            settings: Settings of the checks, whose unknown overrides are named.
            near: Groups of near-duplicates.
        """
        counts = self._counts(vocabulary, settings, near)
        by_class: Counter[str] = Counter()
        for (_, label), count in self.kept.items():
            by_class[label] += count
        found = [
            *findings.of_images("rejected", self.rejects),
            *findings.of_images("repaired", self.repairs),
            *findings.of_images("warned", self.warnings),
            *findings.of_source(notes, by_class),
            *summary_findings.of_counts(counts),
        ]
        return {**counts, "findings": found}

    def _counts(
        self, vocabulary: Sequence[str], settings: JudgeSettings, near: Iterable[NearGroup]
    ) -> DataCounts:
        known = {override.image_hash for override in settings.overrides.values()}
        used = (find(settings.overrides, review.image_hash) for review in self.reviews)
        kept = {split: dict.fromkeys(vocabulary, 0) for split in names.SPLITS}
        for (split, label), count in sorted(self.kept.items()):
            kept[split][label] = count
        return {
            "in": self.read,
            "kept": self.kept.total(),
            "rejected": len(self.rejects),
            # An image may have several repairs.
            "repaired": len({repair.path for repair in self.repairs}),
            "repaired_by": _by_reason(self.repairs),
            "transcoded": dict(sorted(self.transcoded.items())),
            "too_large": self.too_large,
            "by_reason": _by_reason(self.rejects),
            "by_split": kept,
            "moved": {reason: self.moved[reason] for reason in placement.REASONS},
            "set_aside": set_aside(near),
            "families": self._families(),
            "file_clues": file_clues.find(self.files),
            "overrides": {
                # A decision about an image is one, however many identical files there are.
                "applied": _by_reason(
                    {(one.reason, one.image_hash): one for one in self.reviews}.values()
                ),
                "relabelled": {split: self.relabelled[split] for split in names.SPLITS},
                "unknown": sorted(known - {one.image_hash for one in used if one is not None}),
            },
        }

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


def store(uri: str, record: ImageRecord, reason: str) -> str:
    """Store the original bytes of a rejected file.

    Args:
        uri: URI of the quarantine.
        record: The record with its bytes.
        reason: Reason of the rejection, which names the folder.

    Returns:
        Path relative to `uri`; "" when the file could not be read.
    """
    import tensorflow as tf

    if record.read_error:
        return ""
    # The hash makes the name unique, and no name of a source decides where a file is written.
    name = re.sub(r"[^\w.-]", "_", record.path.rpartition("/")[2], flags=re.ASCII)
    stored = f"{reason}/{record.image_hash[:16]}-{name[-_NAME_LENGTH:]}"
    tf.io.gfile.makedirs(f"{uri}/{reason}")
    write_bytes(f"{uri}/{stored}", record.image_bytes)
    return stored


def make_private(uri: str) -> None:
    """Create the folder of the quarantine if needed, and let only its owner read it.

    Rejected files may be private, such as a scanned passport among the images. Object stores have
    their own access rules, which are not changed.

    Args:
        uri: URI of the quarantine.
    """
    if "://" in uri:
        return
    folder = Path(uri)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_OWNER_FOLDER)
    for path in folder.rglob("*"):
        path.chmod(_OWNER_FOLDER if path.is_dir() else _OWNER_FILE)


def write(uri: str, found: Outcomes, summary: DataSummary, near: Iterable[NearGroup]) -> None:
    """Write manifest, findings, groups of near-duplicates and summary.

    Args:
        uri: URI of the quarantine.
        found: The results for all images.
        summary: Their summary.
        near: Groups as `near_groups.line` returns them.
    """
    rows = {
        quarantine_files.MANIFEST: [one.row() for one in found.rejects],
        quarantine_files.REPAIRS: [one.row() for one in found.repairs],
        quarantine_files.WARNINGS: [one.row() for one in found.warnings],
        quarantine_files.REVIEWS: [one.row() for one in found.reviews],
        quarantine_files.NEAR_DUPLICATES: near,
    }
    for name, lines in rows.items():
        write_text(f"{uri}/{name}", "".join(json.dumps(line) + "\n" for line in lines))
    write_text(f"{uri}/{quarantine_files.SUMMARY}", json.dumps(summary, indent=1))


def read_summary(uri: str) -> DataSummary:
    """Read the summary of a quarantine."""
    summary: DataSummary = read_json(f"{uri}/{quarantine_files.SUMMARY}")
    return summary
