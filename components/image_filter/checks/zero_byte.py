"""Empty files, such as those that failed downloads leave behind."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject empty files."""
    return None if record.byte_size else Finding(CHECK.name, "the file is empty (0 bytes)")


CHECK = Check(
    "zero_byte",
    20,
    "header",
    judge,
    "replace the file with the complete image and run again",
    unusable=("zero_byte",),
)
