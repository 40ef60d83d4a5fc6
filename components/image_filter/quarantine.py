"""The quarantine: rejected files with their bytes, the table of all images, and its counts.

Layout below the artifact's URI:

    manifest.jsonl   one line for each rejected file (`Row`)
    images/…         the table of all images (`ImageTable`)
    counts.json      counts (`DataSummary`)
    <reason>/…       the original bytes, named by content hash and file name
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.storage.records import read_json, write_bytes, write_text
from imgpipe.components.image_filter.data_summary import DataSummary
from imgpipe.components.image_filter.image_table import ImageTable

MANIFEST: Final = "manifest.jsonl"
SUMMARY: Final = "counts.json"
_OWNER_FOLDER = 0o700
_OWNER_FILE = 0o600
_NAME_LENGTH = 100  # characters of a file name kept in the stored name; file systems allow 255


def stored_name(row: ImageRow) -> str:
    """Return the path of the stored bytes of a file in the quarantine; "" if none are stored."""
    if row.rejection is None or not row.image_hash:
        return ""
    # The hash makes the name unique, and no name of a source decides where a file is written.
    name = re.sub(r"[^\w.-]", "_", row.path.rpartition("/")[2], flags=re.ASCII)
    return f"{row.rejection.reason}/{row.image_hash[:16]}-{name[-_NAME_LENGTH:]}"


def store(uri: str, row: ImageRow) -> None:
    """Store the original bytes of a rejected file."""
    import tensorflow as tf

    path = f"{uri}/{row.stored}"
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    write_bytes(path, row.image_bytes)


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


def write(uri: str, images: ImageTable, summary: DataSummary) -> None:
    """Write the manifest and the summary of all images."""
    lines = (json.dumps(row) + "\n" for row in images.rejected)
    write_text(f"{uri}/{MANIFEST}", "".join(lines))
    write_text(f"{uri}/{SUMMARY}", json.dumps(summary, indent=1))


def read_summary(uri: str) -> DataSummary:
    """Read the summary of a quarantine."""
    summary: DataSummary = read_json(f"{uri}/{SUMMARY}")
    return summary
