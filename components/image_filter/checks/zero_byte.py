"""Empty files, as broken downloads leave them."""

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
    "put the real image in its place, run again",
    unusable=("zero_byte",),
)
