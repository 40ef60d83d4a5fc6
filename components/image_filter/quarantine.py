"""The quarantine: rejected files with their bytes, and the findings of all files.

Layout below the artifact's URI:

    manifest.jsonl   one line for each rejected file (`Finding.row`)
    repaired.jsonl   one line for each repair
    warnings.jsonl   one line for each warning about a file that is kept
    reviewed.jsonl   one line for each file with an override
    summary.json     counts (`summarise`)
    <reason>/…       the original bytes, named by content hash and file name
"""

from __future__ import annotations

import collections
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgpipe.components.image_filter.check import Finding
from imgpipe.components.image_record import INGEST_SUMMARY, ImageRecord
from imgpipe.components.storage.records import read_json, write_bytes, write_text

MANIFEST = "manifest.jsonl"
REPAIRED = "repaired.jsonl"
WARNINGS = "warnings.jsonl"
REVIEWED = "reviewed.jsonl"
SUMMARY = "summary.json"
#: The findings in each file, by their name among the arguments of `summarise`.
_FILES = {MANIFEST: "rejects", REPAIRED: "repairs", WARNINGS: "warnings", REVIEWED: "reviews"}
#: Reason of an override that was not applied because it would change a label of the test split.
NOT_RELABELLED = "kept_test_label"
_EXAMPLES_SHOWN = 20  # paths and details per kind of warning; `WARNINGS` has all of them
_OWNER_FOLDER, _OWNER_FILE = 0o700, 0o600
_NAME_LENGTH = 100  # characters of a file name kept in the stored name; file systems allow 255


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


def move(uri: str, rejection: Finding) -> str:
    """Move stored bytes to the folder of another reason.

    Args:
        uri: URI of the quarantine.
        rejection: The new rejection, with the path of the stored bytes.

    Returns:
        The new path relative to `uri`.
    """
    import tensorflow as tf

    path = f"{rejection.reason}/{rejection.stored.rpartition('/')[2]}"
    tf.io.gfile.makedirs(f"{uri}/{rejection.reason}")
    if tf.io.gfile.exists(f"{uri}/{rejection.stored}"):
        tf.io.gfile.rename(f"{uri}/{rejection.stored}", f"{uri}/{path}", overwrite=True)
    return path


def write(uri: str, found: Mapping[str, Any]) -> None:
    """Write manifest, findings and summary.

    Args:
        uri: URI of the quarantine.
        found: Arguments of `summarise` by name.
    """
    for name, findings in _FILES.items():
        rows = (finding.row() for finding in ordered(found[findings]))
        write_text(f"{uri}/{name}", "".join(json.dumps(row) + "\n" for row in rows))
    write_text(f"{uri}/{SUMMARY}", json.dumps(summarise(**found), indent=1))


def summarise(
    *,
    images: int,
    kept: Mapping[str, Mapping[str, int]],
    rejects: Sequence[Finding],
    repairs: Sequence[Finding],
    warnings: Sequence[Finding],
    notes: Sequence[Mapping[str, Any]],
    reviews: Sequence[Finding] = (),
    relabelled: Mapping[str, int] | None = None,
    unknown: Sequence[str] = (),
    moved: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Count the images, and list warnings and notes with their first paths.

    Args:
        images: Number of images that were read.
        kept: Number of kept images by split and label.
        rejects: Findings of the rejected images.
        repairs: Findings that were repaired.
        warnings: Findings of kept images that are only reported.
        notes: Notes of the source, most of them about files that were not read as images.
        reviews: Effects of the overrides.
        relabelled: Number of kept images with an overridden label, by split.
        unknown: Hashes of overrides that match no file.
        moved: Number of kept images in another split than the one drawn, by reason.

    Returns:
        The summary that `write` stores in ``summary.json``.
    """
    return {
        "in": images,
        "kept": sum(sum(labels.values()) for labels in kept.values()),
        "rejected": len(rejects),
        # An image may have several repairs.
        "repaired": len({repair.path for repair in repairs}),
        "repaired_by": _by_reason(repairs),
        "by_reason": _by_reason(rejects),
        "by_split": {split: dict(sorted(labels.items())) for split, labels in kept.items()},
        "moved": dict(moved or {}),
        "warnings": _grouped(warnings),
        "notes": _counted(notes),
        "overrides": {
            "applied": _by_reason(reviews),
            "relabelled": dict(relabelled or {}),
            "unknown": list(unknown),
        },
    }


def _by_reason(findings: Iterable[Finding]) -> dict[str, int]:
    return dict(sorted(collections.Counter(finding.reason for finding in findings).items()))


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings by path and reason, so that every driver lists the same."""
    return tuple(sorted(findings, key=lambda one: (one.path, one.reason)))


def _grouped(warnings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Group warnings by reason, with counts by detail and the paths of the worst."""
    worst_first = sorted(warnings, key=lambda one: (one.reason, one.score, one.path))
    groups = itertools.groupby(worst_first, key=lambda one: one.reason)
    return [_group(reason, list(found)) for reason, found in groups]


def _group(reason: str, found: Sequence[Finding]) -> dict[str, Any]:
    # Details with measurements differ from file to file, so only the first ones are counted.
    details = collections.Counter(warning.detail for warning in found).items()
    return {
        "reason": reason,
        "count": len(found),
        "details": dict(itertools.islice(details, _EXAMPLES_SHOWN)),
        "paths": [warning.path for warning in found[:_EXAMPLES_SHOWN]],
        "image_hashes": [warning.image_hash for warning in found[:_EXAMPLES_SHOWN]],
    }


def _counted(notes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group notes of the source by kind, with their first paths; ingest.json has a hundred."""
    by_kind: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for note in notes:
        by_kind[note["kind"]].append(note)
    return [
        {
            "kind": kind,
            "count": sum(note["count"] for note in found),
            "detail": found[0]["detail"],
            "paths": [note["path"] for note in found[:_EXAMPLES_SHOWN]],
        }
        for kind, found in sorted(by_kind.items())
    ]


def ingest_summary(examples_uri: str) -> dict[str, Any]:
    """Read the summary that ImageExampleGen wrote beside its Examples; empty if there is none."""
    import tensorflow as tf

    path = f"{examples_uri}/{INGEST_SUMMARY}"
    return read_json(path) if tf.io.gfile.exists(path) else {}


def read_summary(uri: str) -> dict[str, Any]:
    """Read the summary of a quarantine."""
    return read_json(f"{uri}/{SUMMARY}")


def check_conservation(summary: Mapping[str, Any], ingested: int | None) -> None:
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
