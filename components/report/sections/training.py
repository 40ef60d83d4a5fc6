"""Accuracy and loss on the training and validation splits after each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from imgpipe.components.report import plots
from imgpipe.components.report.learning_curve import would_more_help
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.models.search import tried

_STOPPED = {
    "target": "it reached the target accuracy (train.target_accuracy)",
    "plateau": "the validation loss had not improved for {section}.patience epochs",
    "diverged": "the loss was no longer finite; lower the learning rate",
    "minutes": "the time for training ran out (train.minutes)",
    "epochs": "it reached the largest number of epochs ({section}.epochs)",
}
_KEPT = "The weights of the best epoch were kept."
_BY_CALIBRATED_LOSS = (
    f"{_KEPT} The best epoch has the lowest validation loss after calibration. The loss in the "
    "plot, which is that before calibration, also rises when the network becomes too sure of "
    "itself."
)

_LAST_KEPT = (
    "The weights of the last epoch were kept, as in the networks of the folds, because a few "
    "validation images cannot choose an epoch."
)


def build(context: Context) -> Content:
    """Collect the stages with their plots, and the results of fine-tuning and calibration."""
    history = context.part("training")
    if not history.get("epochs"):
        return context.absent("No model was trained")
    tuned = history.get("fine_tune") or {}
    solution = history.get("solution") or {}
    by_folds = any(map(tried.by_folds, history.get("search") or []))
    stages = [] if solution else [_stage("", history, "train")]
    if tuned.get("epochs"):
        kept = _LAST_KEPT if by_folds else _BY_CALIBRATED_LOSS
        stages.append(_stage("Fine-tuning", tuned, "fine_tune", kept))
    return {
        "solution": _solution(history, solution) if solution else None,
        "stages": stages,
        "trained": history.get("trained", "head"),
        "outcome": _outcome(tuned) if tuned else "",
        "calibration": history.get("calibration") or {},
        "search": [
            {**one, "failure": tried.FAILURES.get(one["failure"])}
            for one in history.get("search") or []
        ],
        "by_folds": by_folds,
        "search_ended": (history.get("search_ended") or {}).get("text", ""),
    }


def _solution(history: Mapping[str, Any], solution: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the facts about a solved head, with its learning curve."""
    curve = solution.get("learning_curve") or []
    images = [point["images"] for point in curve]
    accuracy = [point["accuracy"] for point in curve]
    return {
        **solution,
        "epoch": history["epochs"][0],
        "seconds": history.get("seconds"),
        "curve": plots.learning_curve(images, accuracy) if len(curve) > 1 else None,
        "more": would_more_help(solution),
    }


def _stage(
    title: str, history: Mapping[str, Any], section: str, kept: str = _KEPT
) -> dict[str, Any]:
    """Collect the facts about a training by epochs, with the section of its settings."""
    epochs = history["epochs"]
    numbers = [epoch.get("epoch", i) for i, epoch in enumerate(epochs)]
    best = history.get("best_epoch")
    rows: dict[Any, Mapping[str, Any]] = dict(zip(numbers, epochs, strict=True))
    stopped = history.get("stopped")

    def curves(key: str) -> Markup:
        train, validation = _of(epochs, key), _of(epochs, f"val_{key}")
        return plots.curves(numbers, train, validation, best, f"{section}-{key}")

    return {
        "title": title,
        "kept": kept,
        "plots": [("Accuracy", curves("accuracy")), ("Loss", curves("loss"))],
        "epochs": len(epochs),
        "best": best,
        "row": rows.get(best, {}),
        "last": epochs[-1],
        "stopped": _STOPPED.get(str(stopped), str(stopped or "")).format(section=section),
        "seconds": history.get("seconds"),
    }


def _outcome(tuned: Mapping[str, Any]) -> str:
    """Describe how fine-tuning changed the validation accuracy, and which network is exported."""
    before, after = tuned.get("head_accuracy"), tuned.get("accuracy")
    if not tuned.get("epochs"):
        return (
            "Fine-tuning diverged; lower fine_tune.learning_rate. The model before fine-tuning was "
            "exported."
        )
    if before is None or after is None:
        return ""
    exported = "fine-tuned model" if tuned.get("shipped") else "model before fine-tuning"
    return (
        f"Fine-tuning changed the validation accuracy from {before:.3f} to {after:.3f}. The "
        f"{exported} was exported."
    )


def _of(epochs: Sequence[Mapping[str, Any]], key: str) -> list[float | None]:
    return [epoch.get(key) for epoch in epochs]


SECTION = Section("training", "Training", build, order=90)
