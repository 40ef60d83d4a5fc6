"""Names of the files of the quarantine that commands read without TensorFlow."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = "manifest.jsonl"
WARNINGS: Final = "warnings.jsonl"
