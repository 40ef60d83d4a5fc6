"""What every check is made of: one image record in, at most one finding out.

A check is one file of `checks/` with a `CHECK`; `imgpipe.components.image_filter.checks` finds it
there. Checks need neither Beam nor TFX.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from imgpipe.components.image_file.measurements import Measurement
from imgpipe.components.image_record import ImageRecord

if TYPE_CHECKING:
    from imgpipe.components.image_filter.overrides import Override

#: reject: moved to quarantine · repair: kept with repaired bytes · warn: kept as it is and
#: reported · ignore: not checked.
Severity = Literal["reject", "repair", "warn", "ignore"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
#: What a check looks at: the header and the bytes, the decoded pixels, or the whole set of images.
Needs = Literal["header", "pixels", "set"]


@dataclass(frozen=True)
class Settings:
    """What the checks compare with."""

    min_side: int = 16  # pixels; sets of 28 × 28 images are real
    pixel_limit: int = 100_000_000  # pixels; decoded they take 300 MB
    severity: Mapping[str, str] = field(default_factory=dict)  # check → other than its usual one
    threshold: Mapping[str, float] = field(default_factory=dict)  # check → other than its usual one
    overrides: Mapping[str, Override] = field(default_factory=dict)  # hex SHA-256 → the decision
    #: Check that needs the set → its limits, once all images are known.
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What was found in one image, by a check or by the comparison with other images.

    A check gives a reason, a detail and a score; the engine adds the rest.
    """

    reason: str
    detail: str
    severity: Severity = "reject"
    score: float = 0.0  # how bad, lower is worse; 0 where there are no degrees
    remedy: str = ""  # what to do when the image is wanted after all
    kept_copy: str = ""  # path of the image that stays, for duplicates
    path: str = ""
    label: str = ""
    split: str = ""
    image_hash: str = ""
    stored: str = ""  # place below the quarantine; "" when there were no bytes to store
    repaired: bytes | None = field(default=None, repr=False)  # the repaired file

    @property
    def key(self) -> bytes:
        """The path as bytes: Beam's coders refuse names that are not UTF-8."""
        return os.fsencode(self.path)

    def about(self, record: ImageRecord, **changes: Any) -> Finding:
        """The finding with the image that it is about."""
        return dataclasses.replace(
            self,
            path=record.path,
            label=record.label,
            split=record.split,
            image_hash=record.image_hash,
            score=round(self.score, 6),
            **changes,
        )

    def row(self) -> dict[str, Any]:
        """The finding as a line of the quarantine's files and of ``imgpipe check --json``."""
        row = {"path": self.path, "image_hash": self.image_hash}
        if self.severity != "reject":
            return {
                **row,
                "reason": self.reason,
                "detail": self.detail,
                "score": self.score,
            }
        return {
            "path": self.path,
            "label": self.label,
            "split": self.split,
            "image_hash": self.image_hash,
            "reason": self.reason,
            "detail": self.detail,
            "override": self.remedy,
            "kept_copy": self.kept_copy,
            "stored": self.stored,
        }


#: From a record and its bytes, repaired so far, to repaired bytes; raises what Pillow raises.
Repair = Callable[[ImageRecord, bytes], bytes]


@dataclass(frozen=True)
class Choice:
    """What the configuration may set for one kind of finding."""

    usual: Severity
    may_be: tuple[Severity, ...]
    about: str  # for the configuration file


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: Name in the configuration and usually the reason of its findings.
        order: Place among the checks. The first rejection ends them, so what explains a file best
            comes first.
        needs: What it looks at. A check of pixels is asked only about decoded images, and one that
            needs the set again when all images are known.
        judge: The finding, None when there is nothing to object to.
        remedy: What to do when the image is wanted after all.
        severity: What a finding leads to unless the configuration says otherwise.
        may_be: Severities that the configuration may set.
        finds: What it objects to, for the configuration file.
        repair: What the severity "repair" does.
        measurement: What it computes from the pixels of each image, stored in every Example.
        threshold: Usual threshold of a check that compares a number.
        about: What the threshold is compared with.
        counted: For a check that needs the set: the number to count, of each image.
        limits: For a check that needs the set: limits from the counts and the threshold.
        choices: Further kinds of findings that the configuration may set.
        unusable: Reasons of its findings that no decision of a person changes, because the file
            cannot be used.
    """

    name: str
    order: int
    needs: Needs
    judge: Callable[[ImageRecord, Settings], Finding | None]
    remedy: str
    severity: Severity = "reject"
    may_be: tuple[Severity, ...] = ("reject",)
    finds: str = ""
    repair: Repair | None = None
    measurement: Measurement | None = None
    threshold: float | None = None
    about: str = ""
    counted: Callable[[ImageRecord], int] | None = None
    limits: Callable[[Mapping[int, int], float], Any] | None = None
    choices: Mapping[str, Choice] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()

    @property
    def skippable(self) -> bool:
        """Whether it may be left out altogether."""
        return "ignore" in self.may_be

    def severity_in(self, settings: Settings) -> Severity:
        """What its findings lead to with these settings."""
        return cast(Severity, settings.severity.get(self.name, self.severity))

    def threshold_in(self, settings: Settings) -> float:
        """The threshold with these settings."""
        return settings.threshold.get(self.name, self.threshold or 0.0)
