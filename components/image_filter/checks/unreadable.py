"""Files that the operating system does not hand out: permissions, dead links, disk errors."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Record, Settings, Verdict


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Reject what could not be read."""
    if not record.read_error:
        return None
    return Verdict(CHECK.name, record.read_error)


CHECK = Check("unreadable", judge, "make the file readable (permissions, link target), run again")
