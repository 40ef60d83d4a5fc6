"""Files without a single byte, as broken downloads leave them."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Record, Settings, Verdict


def judge(record: Record, settings: Settings) -> Verdict | None:
    """Reject empty files."""
    return None if record.byte_size else Verdict(CHECK.name, "the file is empty (0 bytes)")


CHECK = Check("zero_byte", judge, "put the real photograph in its place, run again")
