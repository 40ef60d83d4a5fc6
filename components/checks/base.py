"""What every check takes and gives: one record in, at most one verdict out.

A check is a small module with a function `judge` and a `CHECK` that names it; `components.checks`
holds the table. Checks need neither Beam nor TFX.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["reject", "repair", "warn"]


@dataclass(frozen=True)
class Record:
    """One file as ingest left it."""

    path: str
    label: str  # "" where the place says none
    label_index: int  # -1 for a label that is not in the vocabulary
    split: str
    image_hash: str  # hex SHA-256 of the file as found, "" when it could not be read
    width: int = 0  # pixels, decoded or by the header
    height: int = 0
    format: str = ""  # Pillow's name
    mode: str = ""
    byte_size: int = 0
    frames: int = 1
    read_error: str = ""
    decode_error: str = ""  # "" when the serving op decodes the file
    group: str = ""  # what must not straddle splits, "" when the image is its own group
    problem: str = ""  # "<reason>: <detail>" when the source itself speaks against the file
    data: bytes = field(default=b"", repr=False)  # the encoded file

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width * self.height


@dataclass(frozen=True)
class Settings:
    """What the checks are measured by."""

    min_side: int = 16  # pixels; sets of 28 × 28 pictures are real
    pixel_limit: int = 100_000_000  # pixels; decoded they take 300 MB
    skip: tuple[str, ...] = ()  # names of checks that are not asked


@dataclass(frozen=True)
class Verdict:
    """What a check has to say about one record."""

    reason: str
    detail: str
    severity: Severity = "reject"
    data: bytes | None = field(default=None, repr=False)  # the repaired file


@dataclass(frozen=True)
class Check:
    """One entry of the table."""

    name: str
    judge: Callable[[Record, Settings], Verdict | None]
    override: str  # what to do when the picture is wanted after all
    skippable: bool = False  # may be listed in `Settings.skip`
