"""The checks that ServingValidator made on the exported model, and their results."""

from __future__ import annotations

from imgpipe.components.report.section import Content, Context, Section


def build(context: Context) -> Content:
    """Return one row for each check."""
    checks = context.part("serving")
    if not checks:
        return context.absent("The exported model was not checked in a server")
    return {"checks": checks, "passed": sum(bool(check.get("passed")) for check in checks)}


SECTION = Section("serving", "Serving checks", build, order=150)
