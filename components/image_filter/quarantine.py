"""The quarantine: rejected files with their bytes, the findings of all files, and their counts.

Layout below the artifact's URI:

    manifest.jsonl   one line for each rejected file (`ImageFinding.row`)
    repaired.jsonl   one line for each repair
    warnings.jsonl   one line for each warning about a file that is kept
    reviewed.jsonl   one line for each file with an override
    near_duplicates.jsonl   one line for each group of near-duplicates (`listed_group`)
    counts.json      counts (`DataSummary`)
    <reason>/…       the original bytes, named by content hash and file name
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from imgpipe.components.common.image_record import ImageRecord
from imgpipe.components.common.storage.records import read_json, write_bytes, write_text
from imgpipe.components.image_filter import quarantine_files
from imgpipe.components.image_filter.copies.near_duplicates import NearGroup
from imgpipe.components.image_filter.data_summary import DataSummary
from imgpipe.components.image_filter.outcomes import Outcomes

_OWNER_FOLDER = 0o700
_OWNER_FILE = 0o600
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


def write(uri: str, outcomes: Outcomes, summary: DataSummary, near: Iterable[NearGroup]) -> None:
    """Write manifest, findings, groups of near-duplicates and summary.

    Args:
        uri: URI of the quarantine.
        outcomes: The results for all images.
        summary: Their summary.
        near: Groups as `near_duplicates.listed_group` returns them.
    """
    rows = {
        quarantine_files.MANIFEST: [finding.row() for finding in outcomes.rejected],
        quarantine_files.REPAIRS: [finding.row() for finding in outcomes.repaired],
        quarantine_files.WARNINGS: [finding.row() for finding in outcomes.warned],
        quarantine_files.REVIEWS: [finding.row() for finding in outcomes.reviews],
        quarantine_files.NEAR_DUPLICATES: near,
    }
    for name, lines in rows.items():
        write_text(f"{uri}/{name}", "".join(json.dumps(line) + "\n" for line in lines))
    write_text(f"{uri}/{quarantine_files.SUMMARY}", json.dumps(summary, indent=1))


def read_summary(uri: str) -> DataSummary:
    """Read the summary of a quarantine."""
    summary: DataSummary = read_json(f"{uri}/{quarantine_files.SUMMARY}")
    return summary
