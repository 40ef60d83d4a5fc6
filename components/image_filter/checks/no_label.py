"""Files without a class: they are in no class folder, or their label is not in the vocabulary."""

from __future__ import annotations

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Reject images without a known label, because they cannot be used for training."""
    if record.label_index >= 0:
        return None
    if record.label:
        return Finding(CHECK.name, f"label {record.label!r} is not in the vocabulary of the run")
    return Finding(CHECK.name, "the file is in no class folder, and no list gives it a label")


CHECK = Check(
    "no_label",
    80,
    "header",
    judge,
    "move the file into the folder of its class, or give it a label in the list or with imgpipe "
    "review, and run again",
)
