"""Checks of the file and of what its source says about it: is there an image with one label?"""

from __future__ import annotations

import pathlib

from imgpipe.components.image_filter.check import Finding, Result, Settings, check
from imgpipe.components.image_record import (
    GROUP_ACROSS_SPLITS,
    OUTSIDE_CLASSES,
    TWO_GROUPS,
    TWO_LABELS,
    TWO_SPLITS,
    ImageRecord,
)


@check(
    10,
    "header",
    "make the file readable (permissions, target of a link, path in a list) and run again",
    unusable=("unreadable",),
)
def unreadable(record: ImageRecord, settings: Settings) -> Result:
    """Reject files that could not be read."""
    return record.read_error or None


@check(
    20,
    "header",
    "replace the file with the complete image and run again",
    unusable=("zero_byte",),
)
def zero_byte(record: ImageRecord, settings: Settings) -> Result:
    """Reject empty files."""
    return None if record.byte_size else "the file is empty (0 bytes)"


_ABOUT_LABEL = (TWO_LABELS, OUTSIDE_CLASSES)
#: Problems that another label for the file does not solve.
NOT_ABOUT_LABEL = (TWO_SPLITS, TWO_GROUPS, GROUP_ACROSS_SPLITS)


@check(
    70,
    "header",
    "correct the source (manifest, folders) or [data] in the configuration",
)
def source_problem(record: ImageRecord, settings: Settings) -> Result:
    """Reject files for which the source reports a problem, with the reason that it gives."""
    if not record.problem:
        return None
    reason, _, detail = record.problem.partition(": ")
    return Finding(reason, detail)


def is_about_label(problem: str) -> bool:
    """Return whether another label for the file solves the problem."""
    return problem.partition(": ")[0] in _ABOUT_LABEL


@check(
    80,
    "header",
    "move the file into the folder of its class, or give it a label in the list or with imgpipe "
    "review, and run again",
)
def no_label(record: ImageRecord, settings: Settings) -> Result:
    """Reject images without a known label, because they cannot be used for training."""
    if record.label_index >= 0:
        return None
    if record.label:
        return f"label {record.label!r} is not in the vocabulary of the run"
    return "the file is in no class folder, and no list gives it a label"


_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".jif"},
    "PNG": {".png", ".apng"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
}


@check(
    90,
    "header",
    "rename the file; a warning needs no action",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="The suffix belongs to another format",
)
def misnamed(record: ImageRecord, settings: Settings) -> Result:
    """Report a suffix that belongs to another format; other suffixes and none are accepted."""
    suffix = pathlib.PurePosixPath(record.path).suffix.lower()
    known = any(suffix in suffixes for suffixes in _SUFFIXES.values())
    if not known or suffix in _SUFFIXES.get(record.format, {suffix}):
        return None
    return f"{suffix} holds {record.format}"
