"""The data: how many files were read, kept and rejected, and the warnings about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.text import capped, moves, overridden
from imgpipe.models import feature_names as names

_CLASSES = 300  # rows of the table
#: Number of images shown for each kind of warning, the worst first.
IMAGES = 6


def build(context: Context) -> Content:
    """Collect counts, images by split and class, warnings, notes and DataGate's decision."""
    data, gate = context.part("data"), context.part("data_gate")
    if not data:
        return context.absent("No file was inspected")
    splits = data.get("by_split") or {}
    shown = [*names.SPLITS, *(split for split in splits if split not in names.SPLITS)]
    seen = {name: None for split in splits.values() for name in split}
    classes = context.vocabulary + [name for name in seen if name not in context.vocabulary]
    rows = [(name, [(splits.get(split) or {}).get(name, 0) for split in shown]) for name in classes]
    totals = [sum(column) for column in zip(*(row[1] for row in rows), strict=True)]
    capped_rows, rows_note = capped(rows, _CLASSES)
    return {
        "data": data,
        "adds_up": data.get("in") == (data.get("kept") or 0) + (data.get("rejected") or 0),
        "splits": shown,
        "rows": capped_rows,
        "rows_note": rows_note,
        "totals": totals or [0] * len(shown),
        "warnings": [_finding(warning, context) for warning in data.get("warnings") or []],
        "notes": [_finding(note, context) for note in data.get("notes") or []],
        "repairs": _counts(data.get("repaired_by")),
        "overrides": _counts((data.get("overrides") or {}).get("applied")),
        "overridden": overridden(data),
        "moved": moves(data.get("moved") or {}),
        "unknown": (data.get("overrides") or {}).get("unknown") or [],
        "gate": gate,
        "reasons": context.data_reasons,
        "refused": context.state.status == "refused",
    }


def _counts(by_kind: Any) -> str:
    """Return text such as "2 transcoded, 1 orientation" for the numbers by kind; "" for none."""
    kinds = by_kind.items() if isinstance(by_kind, Mapping) else ()
    return ", ".join(f"{count} {str(kind).replace('_', ' ')}" for kind, count in kinds)


def shown_hashes(data: Mapping[str, Any]) -> set[str]:
    """Return the content hashes of the images that are shown beside the warnings."""
    warnings = [found for found in data.get("warnings") or () if isinstance(found, Mapping)]
    return {h for found in warnings for h in (found.get("image_hashes") or ())[:IMAGES]}


def _finding(found: Any, context: Context) -> dict[str, Any]:
    """Return the kind, count, details, images and paths of a warning or a note."""
    if not isinstance(found, Mapping):
        return {"what": str(found), "count": 1, "details": [], "paths": [], "images": []}
    paths = [str(path) for path in found.get("paths") or [found.get("path")] if path]
    details = found.get("details") or found.get("detail") or []
    return {
        "what": str(found.get("reason") or found.get("kind") or ""),
        "count": int(found.get("count") or 1),
        "details": [details] if isinstance(details, str) else [str(detail) for detail in details],
        "paths": paths,
        "images": [
            (uri, path)
            for image_hash, path in zip(found.get("image_hashes") or (), paths, strict=False)
            if (uri := context.thumbnails.uri(image_hash))
        ][:IMAGES],
    }


SECTION = Section("data", "Data", build, order=100)
