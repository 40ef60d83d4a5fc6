"""The run as a whole: its verdict, what to do next and its origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imgpipe.components.report import verdict
from imgpipe.components.report.advice import advice
from imgpipe.components.report.section import Absent, Content, Context, Section
from imgpipe.components.report.text import NONE, count, plural, seconds, share

#: Beginnings of a verdict that are left out, because the heading says the same.
_HEADING = ("blessed: ", "not blessed: ", "data refused: ")


def build_verdict(context: Context) -> Mapping[str, Any]:
    """Collect the sentence, the figures of the gate and the key figures."""
    gate = context.part("gate")
    return {
        "state": context.state,
        "gate": gate,
        "sentence": _sentence(context),
        "reasons": context.data_reasons,
        "keys": _keys(context),
        "warnings": verdict.warnings(context.facts),
        "expected": verdict.expected_lines(verdict.expected(context.facts)),
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
        ("lowest validation recall", _worst(validation.get("per_class") or {})),
        ("total time", seconds(context.timings.get("total_s"))),
        ("served version", str(push.get("version") or NONE)),
    ]
    return [entry for entry in found if entry[1] != NONE]


def _worst(classes: Mapping[str, Any]) -> str:
    """Name the class of which the smallest share is recognised; NONE if all images are."""
    found = [(one["recall"], name, one["count"]) for name, one in classes.items() if one["count"]]
    recall, name, images = min(found, default=(1, "", 0))
    return NONE if recall == 1 else f"{name}: {recall:.3f} ({plural(images, 'image')})"


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
