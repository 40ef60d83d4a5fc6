"""How the model was made: features, augmented views, training; and how it is served."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from imgpipe.components.report import plots
from imgpipe.components.report.hints import would_more_help
from imgpipe.components.report.section import Absent, Content, Context, Section
from imgpipe.components.report.text import SERVED_NAME, serve_command
from imgpipe.models.features.folds import ENOUGH
from imgpipe.models.search import tried

_PORT = 8500  # TensorFlow Serving's default for gRPC; the REST interface has the next one
_GATES = {
    "model": "ImageEvaluator",
    "serving": "ServingValidator",
}


def build_model(context: Context) -> Content:
    """Return the outcome of the push, and commands if there is a model to serve."""
    push, settings = context.part("push"), context.part("settings")
    if not push:
        return context.absent("Nothing was published")
    path = str(push.get("path") or "").rstrip("/")
    refused = [_GATES.get(gate, str(gate)) for gate in push.get("refused_by") or []]
    return {
        "push": push,
        "refused": " and ".join(refused),
        "before": context.part("baseline").get("version"),
        "settings": settings,
        "vocabulary": context.vocabulary,
        "commands": _commands(path, str(settings.get("name") or SERVED_NAME)) if path else [],
    }


def _commands(path: str, name: str) -> list[tuple[str, str]]:
    """Return (purpose, command) pairs, with all names quoted for a shell."""
    model = shlex.quote(name)
    mount = shlex.quote(f"{path.rpartition('/')[0] or path}:/models/{name}:ro")
    # With a server, --model is a name, even where a folder has the same one.
    asked = "" if name == SERVED_NAME else f" --server localhost:{_PORT} --model {model}"
    return [
        (
            f"Serve it, and open http://localhost:{_PORT + 1}/ in a browser",
            serve_command(path, name),
        ),
        ("Classify an image from another terminal", f"imgpipe predict photo.jpg{asked}"),
        (
            "Or serve it with TensorFlow Serving",
            f"docker run --rm -p {_PORT}:{_PORT} -v {mount} -e MODEL_NAME={model} "
            "tensorflow/serving",
        ),
    ]


MODEL = Section("model", "Model", build_model, order=20)


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


def build_training(context: Context) -> Content:
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


TRAINING = Section("training", "Training", build_training, order=90)


_COLUMNS = 8  # augmented views shown of each image
_COUNT = "count"  # the number of views; all other settings describe how they look


def view_columns(settings: Mapping[str, Any]) -> int:
    """Return the number of augmented views that the page shows of each image."""
    return min(int(settings["views"].get(_COUNT) or 0), _COLUMNS)


def view_key(image_hash: str, view: int) -> str:
    """Return the view_key of a view among the images of the page."""
    return f"{image_hash} view {view}"


def only_unchanged(bank: Mapping[str, Any]) -> bool:
    """Return whether FeatureBank decided to make no augmented views."""
    return len(bank.get("views_accuracy") or []) == 1


def build_views(context: Context) -> Content:
    """Return a row of views for each image, and the settings of the augmentation."""
    rows = context.facts.get("views") or []
    settings = context.part("settings")
    bank = context.part("bank")
    if only_unchanged(bank):
        return Absent(bank.get("views_note") or _why_none(bank["views_accuracy"][0]))
    if not rows or not settings.get("views"):
        return context.absent("No views were made")
    numbers = range(1 + view_columns(settings))
    return {
        "count": settings["views"].get(_COUNT) or 0,
        "changes": _changes(settings["views"]),
        "numbers": list(numbers),
        "rows": [
            {
                **row,
                "images": [
                    context.thumbnails.uri(view_key(row.get("image_hash", ""), number))
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


VIEWS = Section("views", "Augmented views", build_views, order=130)


def build_bank(context: Context) -> Content:
    """Count the forward passes that were computed and reused."""
    bank = context.part("bank")
    if not bank:
        return context.absent("No features were extracted")
    if bank.get("dim") == 0:
        return Absent(f"No features are stored: {bank.get('note') or 'training reads the images'}.")
    forward, reused = bank.get("forward_passes") or 0, bank.get("reused") or 0
    total = forward + reused
    return {
        "bank": bank,
        "total": total,
        "share": reused / total if total else None,
        "cached": "FeatureBank" in (context.timings.get("cached") or ()),
    }


BANK = Section("bank", "Feature bank", build_bank, order=140)


def build_serving(context: Context) -> Content:
    """Return one row for each check."""
    checks = context.part("serving")
    if not checks:
        return context.absent("The exported model was not checked in a server")
    return {"checks": checks, "passed": sum(bool(check.get("passed")) for check in checks)}


SERVING = Section("serving", "Serving checks", build_serving, order=150)
