"""LiteRT files: the accuracy of each kind, and which ones are published."""

from __future__ import annotations

from imgpipe.components.report.section import Absent, Content, Context, Section

_MB = 1e6


def build(context: Context) -> Content:
    """Return one row for each kind."""
    found = context.part("lite")
    if not found:
        if not context.part("settings").get("lite"):
            return Absent("No LiteRT file was requested, because export.lite is empty.")
        return context.absent("No LiteRT file was made")
    rows = [
        {**export, "megabytes": (export.get("bytes") or 0) / _MB}
        for export in found.get("exports") or []
    ]
    return {
        "rows": rows,
        "shipped": sum(bool(row.get("blessed")) for row in rows),
        "threshold": found.get("threshold"),
        "points": 100 * (found.get("max_loss") or 0.0),
        "calibrated": found.get("calibration_images"),
        "pushed": context.part("push").get("status") in ("pushed", "unchanged"),
    }


SECTION = Section("lite", "LiteRT files", build, order=160)
