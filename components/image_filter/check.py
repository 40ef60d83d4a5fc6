"""What every check takes and gives: one record in, at most one verdict out.

A check is a small module with a function `judge` and a `CHECK` that names it; the table stands in
the package itself. Checks need neither Beam nor TFX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from imgpipe.components.image_file.measurements import Measurements
    from imgpipe.components.image_filter.overrides import Override

#: reject: to quarantine · repair: kept, its bytes mended · warn: kept as it is, and named ·
#: ignore: not asked.
Severity = Literal["reject", "repair", "warn", "ignore"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


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
    orientation: int = 1  # Exif: 1 upright, 2–8 mirrored or turned
    read_error: str = ""
    decode_error: str = ""  # "" when the serving op decodes the file
    group: str = ""  # what must not straddle splits, "" when the image is its own group
    problem: str = ""  # "<reason>: <detail>" when the source itself speaks against the file
    data: bytes = field(default=b"", repr=False)  # the encoded file
    measured: Measurements | None = None  # None when its pixels were not measured
    likeness: bytes | None = field(default=None, repr=False)  # perceptual hashes, None: not decoded

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width * self.height


@dataclass(frozen=True)
class Settings:
    """What the checks are measured by."""

    min_side: int = 16  # pixels; sets of 28 × 28 pictures are real
    pixel_limit: int = 100_000_000  # pixels; decoded they take 300 MB
    severity: Mapping[str, str] = field(default_factory=dict)  # check → other than its usual one
    threshold: Mapping[str, float] = field(default_factory=dict)  # check → other than its usual one
    overrides: Mapping[str, Override] = field(default_factory=dict)  # hex SHA-256 → what people say
    sizes: tuple[float, float] | None = None  # usual least and greatest size of the whole set


#: From a record and its bytes, mended so far, to bytes that are right; raises what Pillow raises.
Mend = Callable[[Record, bytes], bytes]


@dataclass(frozen=True)
class Verdict:
    """What a check has to say about one record."""

    reason: str
    detail: str
    severity: Severity = "reject"
    data: bytes | None = field(default=None, repr=False)  # the repaired file
    mend: Mend | None = field(default=None, repr=False)  # makes the repaired file when it is wanted
    score: float = 0.0  # how bad, lower is worse; 0 where there are no degrees


@dataclass(frozen=True)
class Check:
    """One entry of the table."""

    name: str
    judge: Callable[[Record, Settings], Verdict | None]
    override: str  # what to do when the picture is wanted after all
    severity: Severity = "reject"  # the usual one
    may_be: tuple[Severity, ...] = ("reject",)  # severities that the config may set
    finds: str = ""  # what it objects to, for the config file
    mend: Mend | None = None  # what "repair" does
    threshold: float | None = None  # the usual one, of a check that compares a measurement
    about: str = ""  # what the threshold is compared with

    @property
    def skippable(self) -> bool:
        """Whether it may be left out altogether."""
        return "ignore" in self.may_be

    def severity_in(self, settings: Settings) -> str:
        """What its verdict leads to in a run with these settings."""
        return settings.severity.get(self.name, self.severity)

    def threshold_in(self, settings: Settings) -> float:
        """What its measurement is compared with in a run with these settings."""
        return settings.threshold.get(self.name, self.threshold or 0.0)
