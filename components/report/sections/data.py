"""What came in and what became of it: nothing is lost, and the page can be held to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.report.sections.base import Absent, Context, Section
from components.report.text import capped
from models import feature_names as names

_CLASSES = 300


def build(context: Context) -> Mapping[str, Any] | Absent:
    """Counts in, kept and rejected; images by split and class; warnings, notes; DataGate's word."""
    data, gate = context.part("data"), context.part("data_gate")
    if not data:
        return context.absent("No file was judged")
    splits = data.get("by_split") or {}
    shown = [*names.SPLITS, *(split for split in splits if split not in names.SPLITS)]
    seen = {name: None for split in splits.values() for name in split}
    classes = context.vocabulary + [name for name in seen if name not in context.vocabulary]
    rows = [(name, [(splits.get(split) or {}).get(name, 0) for split in shown]) for name in classes]
    totals = [sum(column) for column in zip(*(row[1] for row in rows), strict=True)]
    capped_rows, rows_note = capped(rows, _CLASSES, "classes", "All are in facts.json.")
    return {
        "data": data,
        "adds_up": data.get("in") == (data.get("kept") or 0) + (data.get("rejected") or 0),
        "splits": shown,
        "rows": capped_rows,
        "rows_note": rows_note,
        "totals": totals or [0] * len(shown),
        "warnings": [_finding(warning) for warning in data.get("warnings") or []],
        "notes": [_finding(note) for note in data.get("notes") or []],
        "gate": gate,
        "reasons": context.data_reasons,
        "refused": context.state.status == "refused",
    }


def _finding(found: Any) -> dict[str, Any]:
    """A warning or a note: what it is, how often, its details, and the paths that are listed."""
    if not isinstance(found, Mapping):
        return {"what": str(found), "count": 1, "details": [], "paths": []}
    paths = [str(path) for path in found.get("paths") or [found.get("path")] if path]
    details = found.get("details") or found.get("detail") or []
    return {
        "what": str(found.get("reason") or found.get("kind") or ""),
        "count": int(found.get("count") or 1),
        "details": [details] if isinstance(details, str) else [str(detail) for detail in details],
        "paths": paths,
    }


SECTION = Section("data", "Data", build)
