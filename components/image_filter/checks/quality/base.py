"""The one shape of the checks of this folder: a measurement, a threshold, a sentence."""

from __future__ import annotations

from collections.abc import Callable

from imgpipe.components.image_file.measurements import Measurements
from imgpipe.components.image_filter.check import Check, Record, Settings, Severity, Verdict

#: No measurement of these makes a file unusable, so none of them rejects unless it is told to.
MAY_BE: tuple[Severity, ...] = ("warn", "reject", "ignore")
_ADVICE = "set judge.severity.{0}, or judge.threshold.{0}; imgpipe quarantine accept keeps this one"


def under(
    name: str, score: Callable[[Measurements], float], threshold: float, about: str, finds: str
) -> Check:
    """A check that objects to a `score` under the threshold; `about` says what the score is."""

    def judge(record: Record, settings: Settings) -> Verdict | None:
        if record.measured is None:
            return None
        value, limit = score(record.measured), check.threshold_in(settings)
        if value >= limit:
            return None
        return Verdict(name, f"{about} {value:.3f}, under {limit:g}", score=value)

    check = make(name, judge, threshold, about, finds)
    return check


def make(
    name: str,
    judge: Callable[[Record, Settings], Verdict | None],
    threshold: float,
    about: str,
    finds: str,
) -> Check:
    """A check of this folder: a warning, unless the config says otherwise."""
    advice = _ADVICE.format(name)
    return Check(name, judge, advice, "warn", MAY_BE, finds=finds, threshold=threshold, about=about)
