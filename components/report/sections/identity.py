"""The origin of a run: its command, configuration, seeds, packages, data and baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import Absent, Content, Context, Section


def build(context: Context) -> Content:
    """Return the known parts of the run's identity."""
    settings, run = context.part("settings"), context.part("identity")
    push, baseline = context.part("push"), context.part("baseline")
    changed = settings.get("changed") or {}
    values = {
        "date": run.get("date"),
        "data fingerprint": settings.get("fingerprint"),
        "seeds": _pairs(settings.get("seeds") or {}),
        "version": push.get("version"),
        "parent version": baseline.get("version"),
        "packages": _pairs(run.get("packages") or {}),
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


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


SECTION = Section("identity", "Identity", build, order=180)
