"""Files without a class: outside of the class folders, or with a label not in the vocabulary."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject images that cannot be trained on because they have no label."""
    if record.label_index >= 0:
        return None
    if record.label:
        return Finding(CHECK.name, f"label {record.label!r} is not in the vocabulary of the run")
    return Finding(CHECK.name, "the file lies in no class folder")


CHECK = Check(
    "no_label", 80, "header", judge, "move the file into the folder of its class, run again"
)
