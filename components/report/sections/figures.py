"""Accuracy, loss and calibration by split."""

from __future__ import annotations

from imgpipe.components.report import plots
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.shares import wilson
from imgpipe.models import feature_names as names


def build(context: Context) -> Content:
    """Return one row for each split, with its Wilson interval."""
    metrics = context.part("metrics")
    roles = {
        names.VALIDATION: _role_of_validation(context),
        names.TEST: "used only for this evaluation",
    }
    rows = []
    for split in filter(metrics.get, roles):
        summary = metrics[split]
        count, correct = summary.get("count") or 0, summary.get("correct") or 0
        interval = wilson(correct, count)
        rows.append({"split": split, "role": roles[split], "interval": interval, **summary})
    if not rows:
        return context.absent("No image was classified by a trained model")
    diagrams = [
        (split, plots.reliability(bins, f"reliability-{split}"))
        for split, bins in context.measured("reliability").items()
    ]
    return {"rows": rows, "diagrams": diagrams}


def _role_of_validation(context: Context) -> str:
    """Say what the validation split was used for."""
    training = context.part("training")
    search = training.get("search") or []
    task = "selects the epoch and calibrates the probabilities"
    if (training.get("calibration") or {}).get("chosen_on") == "folds":
        task = "selects nothing, because the folds select the network and calibrate it"
    elif len(search) > 1:
        task = "selects the network and the epoch, and calibrates the probabilities"
    elif training.get("solution") and not training.get("fine_tune"):
        task = "calibrates the probabilities"
    who = "the folds decide" if context.part("cross_validation") else "it decides"
    return f"{task}; {who} whether the model is blessed"


SECTION = Section("figures", "Accuracy and calibration", build, order=30)
