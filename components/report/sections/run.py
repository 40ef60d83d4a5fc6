"""The run as a whole: its verdict, what to do next, its timings and its origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imgpipe.components.report import expectation
from imgpipe.components.report.advice import advice
from imgpipe.components.report.hints import warnings
from imgpipe.components.report.section import Absent, Content, Context, Section
from imgpipe.components.report.text import NONE, count, seconds, share

_STEP = 0.05  # the left end of the gauge is a multiple of this
#: Beginnings of a verdict that are left out, because the heading says the same.
_HEADING = ("blessed: ", "not blessed: ", "data refused: ")


def build_verdict(context: Context) -> Mapping[str, Any]:
    """Collect the sentence, the figures of the gate, the gauge and the key figures."""
    gate = context.part("gate")
    baseline = context.part("baseline")
    folds = context.part("cross_validation")
    return {
        "state": context.state,
        "gate": gate,
        "baseline": baseline,
        "gauge": _gauge(gate, folds),
        "sentence": _sentence(context),
        "reasons": context.data_reasons,
        "keys": _keys(context),
        "close": not folds and _close(gate),
        "folds": folds,
        "warnings": warnings(context.facts),
        "expected": expectation.lines(expectation.beside(context.facts)),
    }


def _sentence(context: Context) -> str:
    """Return the verdict without the words of the heading and without reasons that are listed."""
    text = context.state.verdict
    if context.state.status == "refused" and context.data_reasons:
        text = text.splitlines()[0] if text else ""
    elif context.state.status != "interrupted":
        heading = next((words for words in _HEADING if text.startswith(words)), "")
        if not heading:
            return text
        text = text.removeprefix(heading)
    return text[:1].upper() + text[1:]


def _gauge(gate: Mapping[str, Any], folds: Mapping[str, Any]) -> dict[str, float | None] | None:
    """Return the positions, 0..1, of the figures on a line that goes from accuracy `left` to 1.

    The figure is the one that decides: the mean of the folds with their standard deviation, or the
    validation accuracy with its interval.
    """
    value = folds.get("mean") if folds else gate.get("value")
    marks = [value, gate.get("threshold"), gate.get("baseline")]
    if value is None:
        return None
    low, high = gate.get("ci95") or (value, value)
    if folds:
        spread = folds.get("std") or 0.0
        low, high = max(0.0, value - spread), min(1.0, value + spread)
    lowest = min([low, *(mark for mark in marks if mark is not None)])
    left = max(0.0, (lowest // _STEP) * _STEP - _STEP)

    def position(value: float | None) -> float | None:
        return None if value is None else (value - left) / (1 - left)

    names = ("value", "threshold", "baseline")
    positions = {name: position(mark) for name, mark in zip(names, marks, strict=True)}
    return {"left": left, "low": position(low), "high": position(high), **positions}


def _close(gate: Mapping[str, Any]) -> bool:
    """Whether the threshold is within the interval, so other images could change the verdict."""
    low, high = gate.get("ci95") or (0, 0)
    return gate.get("value") is not None and low < gate.get("threshold", 0) < high


def _keys(context: Context) -> list[tuple[str, str]]:
    """Return (name, text) of the key figures that are known."""
    data, metrics = context.part("data"), context.part("metrics")
    validation, test = metrics.get("validation") or {}, metrics.get("test") or {}
    push = context.part("push")
    found = [
        ("images kept", count(data.get("kept"))),
        ("rejected", count(data.get("rejected"))),
        ("classes", count(len(context.vocabulary) or None)),
        ("validation accuracy", share(validation.get("accuracy"))),
        ("test accuracy", share(test.get("accuracy"))),
        ("total time", seconds(context.timings.get("total_s"))),
        ("served version", str(push.get("version") or NONE)),
    ]
    return [entry for entry in found if entry[1] != NONE]


VERDICT = Section("verdict", "Verdict", build_verdict, order=10)


def build_next_steps(context: Context) -> Content:
    """Return the advice."""
    found = advice(context.facts)
    if not found and context.state.error:
        return context.absent("There is nothing to advise from")
    if not found:
        return Absent("No fact of this run calls for a change of data or settings.")
    return {"advice": found}


NEXT_STEPS = Section("next_steps", "What to do next", build_next_steps, order=15)


#: What the component is called that ended a run which did not fail.
_TAGS = {"refused": "refused the data", "interrupted": "interrupted"}


def build_timings(context: Context) -> Content:
    """Return the times of the components, the imports and everything else, the longest first."""
    timings = context.timings
    components = timings.get("components") or {}
    if not components:
        return context.absent("No timings were recorded for this run")
    cached = set(timings.get("cached") or [])
    rows = [
        {"name": name, "seconds": float(seconds or 0), "cached": name in cached}
        for name, seconds in components.items()
    ]
    imports = float(timings.get("import_s") or 0)
    rows.append({"name": "imports", "seconds": imports, "cached": False})
    known = sum(row["seconds"] for row in rows)
    total = float(timings.get("total_s") or known)
    if total - known >= 0.05:  # less is shown as 0.0 s
        rows.append({"name": "everything else", "seconds": total - known, "cached": False})
    rows.sort(key=lambda row: -row["seconds"])
    longest = max(row["seconds"] for row in rows) or 1.0
    return {
        "rows": [{**row, "bar": row["seconds"] / longest} for row in rows],
        "total": total,
        "sum": max(total, known) or 1.0,
        "cached": len(cached),
        "components": len(components),
        "failed": context.state.failed,
        "tag": _TAGS.get(context.state.status, "failed"),
    }


TIMINGS = Section("timings", "Timings", build_timings, order=170)


def build_identity(context: Context) -> Content:
    """Return the known parts of the run's identity."""
    settings, run = context.part("settings"), context.part("identity")
    push, baseline = context.part("push"), context.part("baseline")
    changed = settings.get("changed") or {}
    values = {
        "date": run.get("date"),
        "data fingerprint": settings.get("fingerprint"),
        "seeds": _named(settings.get("seeds") or {}),
        "version": push.get("version"),
        "parent version": baseline.get("version"),
        "packages": _named(run.get("packages") or {}),
    }
    if not any(values.values()):
        return Absent("The run did not record how it was started.")
    return {
        "rows": [(name.capitalize(), str(value)) for name, value in values.items() if value],
        "command": run.get("command") or "",
        "changed": [
            f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in changed.items()
        ],
    }


def _named(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


IDENTITY = Section("identity", "Identity", build_identity, order=180)
