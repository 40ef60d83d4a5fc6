"""Checks of image quality, which compare a measurement with a threshold.

The measurements are those of CleanVision, computed from the pixels that the serving operation
decodes.
"""

from __future__ import annotations

from collections.abc import Callable

from imgpipe.components import rounded_text
from imgpipe.components.image_file.measurements import Measurement
from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.check import Check, Finding, Settings, Severity
from imgpipe.components.image_record import ImageRecord

#: A file of low quality is still usable, so these checks reject only if the configuration says so.
MAY_BE: tuple[Severity, ...] = ("warn", "reject", "ignore")
#: Distance from the threshold within which a score is computed again from a larger sample.
DOUBT = 0.05


def remedy(name: str) -> str:
    """Return what to do about a finding of the check `name`."""
    settings = f"judge.severity.{name} or judge.threshold.{name}"
    return f"set {settings}, or keep a single image with `imgpipe quarantine accept`"


def below(
    name: str,
    order: int,
    feature: str,
    measure: Callable[[Pixels], float],
    threshold: float,
    about: str,
    finds: str,
    score: Callable[[float], float] = lambda value: value,
    sampled: bool = True,
) -> Check:
    """Create a check that reports images whose score is below a threshold.

    Args:
        name: Name of the check.
        order: Position among the checks.
        feature: Name of the feature that stores the measurement.
        measure: Function that computes the measurement.
        threshold: Default threshold of the score.
        about: What the score is, for messages and the configuration file.
        finds: What the check reports, for the configuration file.
        score: Function from the measurement to the score. The default is the measurement itself.
        sampled: Whether the measurement is computed from a sample of the pixels.
    """

    def judge(record: ImageRecord, settings: Settings) -> Finding | None:
        if feature not in record.figures:
            return None
        value, limit = score(record.figures[feature]), check.threshold_in(settings)
        if value >= limit:
            return None
        measured = rounded_text.below(value, limit)
        return Finding(name, f"{about} {measured}, below {limit:g}", score=value)

    def in_doubt(value: float) -> bool:
        # The default threshold counts, not that of the run: measurements are kept by content, and
        # must not depend on the settings of one run.
        return abs(score(value) - threshold) < DOUBT

    check = Check(
        name,
        order,
        "pixels",
        judge,
        remedy(name),
        severity="warn",
        may_be=MAY_BE,
        finds=finds,
        measurement=Measurement(feature, measure, sampled, in_doubt if sampled else None),
        threshold=threshold,
        about=about,
    )
    return check
