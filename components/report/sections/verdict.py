"""The verdict: the sentence, and the accuracy compared with what the gate requires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report import expectation
from imgpipe.components.report.hints import warnings
from imgpipe.components.report.section import Context, Section
from imgpipe.components.report.sections import bank
from imgpipe.components.report.text import NONE, count, seconds, share

_STEP = 0.05  # of the gauge's left end
#: Openings of a verdict that the heading has said already.
_HEADING = ("blessed: ", "not blessed: ", "data refused: ")


def build(context: Context) -> Mapping[str, Any]:
    """Sentence, gate figures, gauge and key figures; always there."""
    gate = context.part("gate")
    baseline = context.part("baseline")
    folds = context.part("cross_validation")
    return {
        "state": context.state,
        "gate": gate,
        "baseline": baseline,
        "gauge": _gauge(gate),
        "sentence": _sentence(context),
        "reasons": context.data_reasons,
        "keys": _keys(context),
        "close": not folds and _close(gate),
        "folds": folds,
        "warnings": warnings(context.facts),
        "expected": expectation.lines(expectation.beside(context.facts)),
    }


def _sentence(context: Context) -> str:
    """The verdict without the words of the heading above it; a refusal's reasons follow as list."""
    text = context.state.verdict
    if context.state.status == "refused" and context.data_reasons:
        text = text.splitlines()[0] if text else ""
    for words in _HEADING:
        if text.startswith(words):
            text = text.removeprefix(words)
            return text[:1].upper() + text[1:]
    return text


def _gauge(gate: Mapping[str, Any]) -> dict[str, float | None] | None:
    """Places of value, interval, threshold and baseline on a line from `left` to 1, as shares."""
    marks = [gate.get("value"), gate.get("threshold"), gate.get("baseline")]
    if marks[0] is None:
        return None
    low, high = gate.get("ci95") or (marks[0], marks[0])
    lowest = min([low, *(mark for mark in marks if mark is not None)])
    left = max(0.0, (lowest // _STEP) * _STEP - _STEP)

    def place(value: float | None) -> float | None:
        return None if value is None else (value - left) / (1 - left)

    names = ("value", "threshold", "baseline")
    places = {name: place(mark) for name, mark in zip(names, marks, strict=True)}
    return {"left": left, "low": place(low), "high": place(high), **places}


def _close(gate: Mapping[str, Any]) -> bool:
    """Whether the threshold lies inside the interval: other images could turn the verdict."""
    low, high = gate.get("ci95") or (0, 0)
    return gate.get("value") is not None and low < gate.get("threshold", 0) < high


def _keys(context: Context) -> list[tuple[str, str]]:
    """(name, text) of the figures looked for first, as far as they are known."""
    data, metrics = context.part("data"), context.part("metrics")
    validation, test = metrics.get("validation") or {}, metrics.get("test") or {}
    push = context.part("push")
    found = [
        ("images kept", count(data.get("kept"))),
        ("rejected", count(data.get("rejected"))),
        ("classes", count(len(context.vocabulary) or None)),
        ("validation accuracy", share(validation.get("accuracy"))),
        ("test accuracy", share(test.get("accuracy"))),
        ("forward passes", count(_forward_passes(context))),
        ("total time", seconds(context.timings.get("total_s"))),
        ("served version", str(push.get("version") or NONE)),
    ]
    return [entry for entry in found if entry[1] != NONE]


def _forward_passes(context: Context) -> int | None:
    """Of this run: none when the bank came from cache, whatever it cost the run that made it."""
    return 0 if context.cached(bank.COMPONENT) else context.part("bank").get("forward_passes")


SECTION = Section("verdict", "Verdict", build, order=10)
