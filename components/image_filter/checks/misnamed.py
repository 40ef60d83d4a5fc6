"""File names whose suffix belongs to another format, which is harmless but worth a warning."""

from __future__ import annotations

import pathlib

from imgpipe.components.image_filter.check import Check, Finding, Settings
from imgpipe.components.image_record import ImageRecord

_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".jif"},
    "PNG": {".png", ".apng"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
}


def judge(record: ImageRecord, settings: Settings) -> Finding | None:
    """Report a suffix that belongs to another format; other suffixes and none are accepted."""
    suffix = pathlib.PurePosixPath(record.path).suffix.lower()
    known = any(suffix in suffixes for suffixes in _SUFFIXES.values())
    if not known or suffix in _SUFFIXES.get(record.format, {suffix}):
        return None
    return Finding(CHECK.name, f"{suffix} holds {record.format}")


CHECK = Check(
    "misnamed",
    90,
    "header",
    judge,
    "rename the file; a warning needs no action",
    severity="warn",
    may_be=("warn", "reject", "ignore"),
    finds="The suffix belongs to another format",
)
