"""The quarantine: rejected files with their bytes, the table of all images, and its counts.

Layout below the artifact's URI:

    findings.jsonl   one line for each finding about a file (`FileFinding`)
    images/…         the table of all images (`common/images.py`)
    counts.json      counts (`DataSummary`)
    <reason>/…       the original bytes of rejected files, named by content hash and file name
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from imgpipe.components.common.image_row import FileFinding
from imgpipe.components.common.storage.records import read_bytes, read_json, write_bytes, write_text
from imgpipe.components.image_filter.engine import JudgedImages
from imgpipe.components.image_filter.summary import DataSummary

FINDINGS: Final = "findings.jsonl"
SUMMARY: Final = "counts.json"
_OWNER_FOLDER = 0o700
_OWNER_FILE = 0o600
_NAME_LENGTH = 100  # characters of a file name kept in the stored name; file systems allow 255


def name_stored(judgement: JudgedImages) -> None:
    """Name the stored bytes of each rejected file, in the table and in the findings."""
    images = judgement.images
    of_files = zip(images["path"], images["image_hash"], images["reason"], strict=True)
    images["stored"] = [_stored_name(*of_file) for of_file in of_files]
    for finding in judgement.findings:
        if finding["severity"] == "reject":
            finding["stored"] = _stored_name(
                finding["path"], finding["image_hash"], finding["reason"]
            )


def _stored_name(path: str, image_hash: str, reason: str) -> str:
    """Return the path of stored bytes in the quarantine; "" if none are stored."""
    if not reason or not image_hash:
        return ""
    # The hash makes the name unique, and no name of a source decides where a file is written.
    name = re.sub(r"[^\w.-]", "_", path.rpartition("/")[2], flags=re.ASCII)
    return f"{reason}/{image_hash[:16]}-{name[-_NAME_LENGTH:]}"


def store(uri: str, stored: str, image_bytes: bytes) -> None:
    """Store the original bytes of a rejected file under the name that it has in the table."""
    import tensorflow as tf

    path = f"{uri}/{stored}"
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    write_bytes(path, image_bytes)


def make_private(uri: str) -> None:
    """Create the folder of the quarantine if needed, and let only its owner read it.

    Rejected files may be private, such as a scanned passport among the images. Object stores have
    their own access rules, which are not changed.
    """
    if "://" in uri:
        return
    folder = Path(uri)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(_OWNER_FOLDER)
    for path in folder.rglob("*"):
        path.chmod(_OWNER_FOLDER if path.is_dir() else _OWNER_FILE)


def write(uri: str, findings: Iterable[FileFinding], summary: DataSummary) -> None:
    """Write the findings and the summary of all images."""
    lines = (json.dumps(finding) + "\n" for finding in findings)
    write_text(f"{uri}/{FINDINGS}", "".join(lines))
    write_text(f"{uri}/{SUMMARY}", json.dumps(summary, indent=1))


def read_summary(uri: str) -> DataSummary:
    """Read the summary of a quarantine."""
    summary: DataSummary = read_json(f"{uri}/{SUMMARY}")
    return summary


def read_findings(uri: str) -> list[FileFinding]:
    """Read what was found in the images of a quarantine, by path and reason."""
    return [json.loads(line) for line in read_bytes(f"{uri}/{FINDINGS}").splitlines()]
