"""Names of the files of the quarantine which commands read without TensorFlow."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = "manifest.jsonl"
SUMMARY: Final = "counts.json"
