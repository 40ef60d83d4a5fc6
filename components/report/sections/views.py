"""Augmented views of a few training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgpipe.components.report.section import Absent, Content, Context, Section
from imgpipe.models.features.folds import ENOUGH

_COLUMNS = 8  # augmented views shown of each image
_COUNT = "count"  # the number of views; all other settings describe how they look


def columns(settings: Mapping[str, Any]) -> int:
    """Return the number of augmented views that the page shows of each image."""
    return min(int(settings["views"].get(_COUNT) or 0), _COLUMNS)


def key(image_hash: str, view: int) -> str:
    """Return the key of a view among the images of the page."""
    return f"{image_hash} view {view}"


def only_unchanged(bank: Mapping[str, Any]) -> bool:
    """Return whether FeatureBank decided to make no augmented views."""
    return len(bank.get("views_accuracy") or []) == 1


def build(context: Context) -> Content:
    """Return a row of views for each image, and the settings of the augmentation."""
    rows = context.facts.get("views") or []
    settings = context.part("settings")
    bank = context.part("bank")
    if only_unchanged(bank):
        return Absent(bank.get("views_note") or _why_none(bank["views_accuracy"][0]))
    if not rows or not settings.get("views"):
        return context.absent("No views were made")
    numbers = range(1 + columns(settings))
    return {
        "count": settings["views"].get(_COUNT) or 0,
        "changes": _changes(settings["views"]),
        "numbers": list(numbers),
        "rows": [
            {
                **row,
                "images": [
                    context.thumbnails.uri(key(row.get("image_hash", ""), number))
                    for number in numbers
                ],
            }
            for row in rows
        ],
    }


def _why_none(accuracy: float) -> str:
    reason = "an added view did not improve the head in cross-validation over the training images"
    if accuracy >= ENOUGH:
        reason = (
            f"the head already reaches {accuracy:.3f} without them in cross-validation over the "
            "training images"
        )
    return f"The model is trained on each image unchanged. No augmented views are used: {reason}."


def _changes(settings: Mapping[str, Any]) -> list[str]:
    """Describe the settings that are on, such as "rotation 40" or "horizontal flip"."""
    return [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}"
        for name, value in settings.items()
        if name != _COUNT and value
    ]


SECTION = Section("views", "Augmented views", build, order=130)
