"""Training against validation, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.report import plots
from components.report.sections.base import Absent, Context, Section

_STOPPED = {
    "target": "it reached the target accuracy (train.target_accuracy)",
    "plateau": "validation loss had not improved for train.patience epochs",
    "epochs": "it came to the last epoch allowed (train.epochs)",
}


def build(context: Context) -> Mapping[str, Any] | Absent:
    """Two plots, the best epoch and what stopped training."""
    history = context.part("training")
    epochs = history.get("epochs") or []
    if not epochs:
        return context.absent("No model was trained")
    numbers = [epoch.get("epoch", i) for i, epoch in enumerate(epochs)]
    best = history.get("best_epoch")
    rows: dict[Any, Mapping[str, Any]] = dict(zip(numbers, epochs, strict=True))
    stopped = history.get("stopped")
    return {
        "plots": [
            (title, plots.curves(numbers, _of(epochs, key), _of(epochs, f"val_{key}"), best, key))
            for title, key in (("Accuracy", "accuracy"), ("Loss", "loss"))
        ],
        "epochs": len(epochs),
        "best": best,
        "row": rows.get(best, {}),
        "last": epochs[-1],
        "stopped": _STOPPED.get(str(stopped), str(stopped or "")),
        "seconds": history.get("seconds"),
    }


def _of(epochs: Sequence[Mapping[str, Any]], key: str) -> list[float | None]:
    return [epoch.get(key) for epoch in epochs]


SECTION = Section("training", "Training", build)
