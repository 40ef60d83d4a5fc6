"""The checks that ServingValidator made on the exported model, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import Absent, Context, Section


def build(context: Context) -> Mapping[str, Any] | Absent:
    """Return one row for each check."""
    checks = context.part("serving")
    if not checks:
        return context.absent("The exported model was not checked in a server")
    return {"checks": checks, "passed": sum(bool(check.get("passed")) for check in checks)}


SECTION = Section("serving", "Serving checks", build, order=150)
