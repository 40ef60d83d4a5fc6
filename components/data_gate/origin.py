"""The data from which the accepted schema was inferred, recorded in a file beside the schema.

A run with the same data infers the schema again instead of using the accepted one, with the same
result, so that a repetition without changes is taken from the cache. This module imports neither
TensorFlow nor TFX, because the inputs of a run are determined while these are still loading.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from imgpipe.models.files.atomic_write import atomic_write


def write(schema: Path, data_key: str) -> None:
    """Record from which data a schema was inferred.

    Args:
        schema: Path of the accepted schema.
        data_key: Fingerprint of the data, its division into splits and its checks.
    """
    atomic_write(_file(schema), json.dumps(_origin(schema, data_key), indent=1, sort_keys=True))


def is_from(schema: Path, data_key: str) -> bool:
    """Whether a schema was inferred from this data, and nobody has changed it since."""
    try:
        found = json.loads(_file(schema).read_text(encoding="utf-8"))
        return bool(found == _origin(schema, data_key))
    except (OSError, ValueError):
        return False


def _file(schema: Path) -> Path:
    return schema.with_suffix(".origin.json")


def _origin(schema: Path, data_key: str) -> dict[str, str]:
    digest = hashlib.sha256(schema.read_bytes()).hexdigest()
    return {"schema_sha256": digest, "data_key": data_key}
