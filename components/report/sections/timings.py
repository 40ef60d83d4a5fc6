"""The time that each component took."""

from __future__ import annotations

from imgpipe.components.report.section import Content, Context, Section

#: What the component is called that ended a run which did not fail.
_TAGS = {"refused": "refused the data", "interrupted": "interrupted"}


def build(context: Context) -> Content:
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


SECTION = Section("timings", "Timings", build, order=170)
