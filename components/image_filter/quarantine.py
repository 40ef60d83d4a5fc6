"""The quarantine: rejected files with their bytes, and the findings of all files.

Layout below the artifact's URI:

    manifest.jsonl   one line for each rejected file (`Finding.row`)
    repaired.jsonl   one line for each repair
    warnings.jsonl   one line for each warning about a file that is kept
    reviewed.jsonl   one line for each file with an override
    near_duplicates.jsonl   one line for each group of near-duplicates (`near_groups.line`)
    summary.json     counts (`summary.Summary`)
    <reason>/…       the original bytes, named by content hash and file name
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from imgpipe.components.image_filter.summary import Outcomes, Summary
from imgpipe.components.image_record import INGEST_SUMMARY, ImageRecord
from imgpipe.components.storage.records import read_json, write_bytes, write_text

MANIFEST = "manifest.jsonl"
REPAIRED = "repaired.jsonl"
WARNINGS = "warnings.jsonl"
REVIEWED = "reviewed.jsonl"
NEAR = "near_duplicates.jsonl"
SUMMARY = "summary.json"
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


def write(uri: str, found: Outcomes, summary: Summary, near: Iterable[Mapping[str, Any]]) -> None:
    """Write manifest, findings, groups of near-duplicates and summary.

    Args:
        uri: URI of the quarantine.
        found: The results for all images.
        summary: Their summary.
        near: Groups as `near_groups.line` returns them.
    """
    rows = {
        MANIFEST: [one.row() for one in found.rejects],
        REPAIRED: [one.row() for one in found.repairs],
        WARNINGS: [one.row() for one in found.warnings],
        REVIEWED: [one.row() for one in found.reviews],
        NEAR: near,
    }
    for name, lines in rows.items():
        write_text(f"{uri}/{name}", "".join(json.dumps(line) + "\n" for line in lines))
    write_text(f"{uri}/{SUMMARY}", json.dumps(summary, indent=1))


def ingest_summary(examples_uri: str) -> dict[str, Any]:
    """Read the summary that ImageExampleGen wrote beside its Examples; empty if there is none."""
    import tensorflow as tf

    path = f"{examples_uri}/{INGEST_SUMMARY}"
    return read_json(path) if tf.io.gfile.exists(path) else {}


def read_summary(uri: str) -> dict[str, Any]:
    """Read the summary of a quarantine."""
    return read_json(f"{uri}/{SUMMARY}")
