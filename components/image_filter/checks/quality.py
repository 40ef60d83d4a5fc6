"""The form of the checks of what an image looks like: a number, a threshold, a sentence.

The numbers are those of CleanVision, computed from the pixels that the serving op decodes.
"""

from __future__ import annotations

from collections.abc import Callable

from imgpipe.components.image_file.measurements import Measurement
from imgpipe.components.image_file.pixels import Pixels
from imgpipe.components.image_filter.check import Check, Finding, Settings, Severity
from imgpipe.components.image_record import ImageRecord

#: No measurement of these makes a file unusable, so none of them rejects unless it is told to.
MAY_BE: tuple[Severity, ...] = ("warn", "reject", "ignore")
#: How near to a threshold the score of a sample must be to be measured by more pixels.
DOUBT = 0.05
_REMEDY = "set judge.severity.{0}, or judge.threshold.{0}; imgpipe quarantine accept keeps this one"


def remedy(name: str) -> str:
    """What to do about a finding of the check `name`."""
    return _REMEDY.format(name)


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
    """A check that objects to images whose score is below a threshold.

    Args:
        name: Name of the check.
        order: Place among the checks.
        feature: Name of the feature that stores the measurement.
        measure: The measurement.
        threshold: The usual threshold of the score.
        about: What the score is.
        finds: What the check objects to, for the configuration file.
        score: From the measurement to what is compared.
        sampled: Whether the measurement is taken from a sample of the pixels.
    """

    def judge(record: ImageRecord, settings: Settings) -> Finding | None:
        if feature not in record.figures:
            return None
        value, limit = score(record.figures[feature]), check.threshold_in(settings)
        if value >= limit:
            return None
        return Finding(name, f"{about} {value:.3f}, under {limit:g}", score=value)

    def in_doubt(value: float) -> bool:
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
