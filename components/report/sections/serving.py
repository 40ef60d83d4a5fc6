"""What the ServingValidator tried on the export, and what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import Absent, Context, Section


def build(context: Context) -> Mapping[str, Any] | Absent:
    """One row a check."""
    checks = context.part("serving")
    if not checks:
        return context.absent("The export was not tried in a server")
    return {"checks": checks, "passed": sum(bool(check.get("passed")) for check in checks)}


SECTION = Section("serving", "Serving checks", build, order=150)
