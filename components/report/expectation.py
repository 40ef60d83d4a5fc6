"""The result of a run and the expected result, for the summary, the console and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.models import feature_names as names


def beside(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Compare the accuracy of the run with the [expect] section of the configuration.

    Args:
        facts: Facts from `imgpipe.components.report.facts.collect`.

    Returns:
        text, low, high, split, time, value (None when nothing was measured) and compared ("within",
        "above", "below", or None when there is nothing to compare). None when nothing is expected.
    """
    expect = (facts.get("settings") or {}).get("expect") or {}
    low, high = expect.get("low"), expect.get("high")
    if not expect.get("text") and low is None and high is None:
        return None
    metrics = facts.get("metrics") or {}
    split = expect["split"] if expect.get("split") in metrics else names.VALIDATION
    value = (metrics.get(split) or {}).get("accuracy")
    return {
        "text": expect.get("text", ""),
        "low": low,
        "high": high,
        "split": split,
        "time": expect.get("time", ""),
        "value": value,
        "compared": _compared(value, low, high),
    }


def _compared(value: float | None, low: float | None, high: float | None) -> str | None:
    if value is None or (low is None and high is None):
        return None
    if low is not None and value < low:
        return "below"
    return "above" if high is not None and value > high else "within"


def figures(low: float | None, high: float | None) -> str:
    """Format a range: ``0.95 to 0.97``, ``0.8 or more``, ``0.84``; "" when there is none."""
    if low is None and high is None:
        return ""
    if high is None:
        return f"{low:g} or more"
    if low is None:
        return f"up to {high:g}"
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def lines(expected: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return (heading, text) of the expected result and of the result of this run."""
    if expected is None:
        return []
    wanted = figures(expected["low"], expected["high"])
    said = "; ".join(filter(None, (wanted, expected["text"], expected["time"])))
    found = [("expected", said)]
    if expected["value"] is not None:
        compared = f": {expected['compared']}" if expected["compared"] else ""
        found.append(("this run", f"{expected['value']:.3f} on {expected['split']}{compared}"))
    return found
