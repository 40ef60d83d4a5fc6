"""Files that cannot be read because of permissions, broken links or disk errors."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject files that could not be read."""
    if not record.read_error:
        return None
    return Finding(CHECK.name, record.read_error)


CHECK = Check(
    "unreadable",
    10,
    "header",
    judge,
    "make the file readable (permissions, target of a link, path in a list) and run again",
    unusable=("unreadable",),
)
