"""Names of the files of the quarantine which commands read without TensorFlow."""

from __future__ import annotations

from typing import Final

MANIFEST: Final = "manifest.jsonl"
REPAIRS: Final = "repaired.jsonl"
WARNINGS: Final = "warnings.jsonl"
REVIEWS: Final = "reviewed.jsonl"
NEAR_DUPLICATES: Final = "near_duplicates.jsonl"
SUMMARY: Final = "counts.json"
