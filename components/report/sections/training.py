"""How the model was made and how it is served."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from imgpipe.components.report import plots
from imgpipe.components.report.advice import would_more_help
from imgpipe.components.report.section import Content, Context, Section
from imgpipe.components.report.text import SERVED_NAME, serve_command
from imgpipe.models import feature_names as names
from imgpipe.models.training.history import FAILURES, JUDGES

_PORT = 8500  # TensorFlow Serving's default for gRPC; the REST interface has the next one
_GATES = {
    "model": "ImageEvaluator",
    "serving": "ServingValidator",
    "rollback": "ModelPusher, because a rollback has withdrawn the model",
    "other_version": "ModelPusher, because the served version changed meanwhile",
}


def build_model(context: Context) -> Content:
    """Return the outcome of the push, and commands if there is a model to serve."""
    push, settings = context.part("push"), context.part("settings")
    if not push:
        return context.absent("Nothing was published")
    path = (push["path"] or "").rstrip("/")
    return {
        "push": push,
        "refused": " and ".join(_GATES.get(gate, gate) for gate in push["refused_by"]),
        "before": context.part("baseline").get("version"),
        "settings": settings,
        "vocabulary": context.vocabulary,
        "commands": _commands(path, settings.get("name") or SERVED_NAME) if path else [],
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
    "epochs": "it reached the planned number of epochs (at most {section}.epochs)",
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
    if not history:
        return context.absent("No model was trained")
    tuned, solution = history.get("fine_tune") or {}, history.get("solution")
    search = history.get("search") or []
    judged_by = search[0]["judged_by"] if search else "validation"
    by_folds, judges = judged_by == "folds", JUDGES[judged_by]
    stages = [] if solution else [_stage("", history, "train")]
    if tuned.get("epochs"):
        kept = _LAST_KEPT if by_folds else _BY_CALIBRATED_LOSS
        stages.append(_stage("Fine-tuning", tuned, "fine_tune", kept))
    return {
        "solution": _solution(history, solution) if solution else None,
        "stages": stages,
        "features": context.part("bank").get("tried", []),
        "trained": history.get("trained", "head"),
        "outcome": "" if search else _outcome(tuned),
        "calibration": history.get("calibration") or {},
        "search": [{**one, "failure": FAILURES.get(one["failure"])} for one in search],
        "by_folds": by_folds,
        "judges": judges,
        "learned_validation": (history.get("learned") or {}).get(names.VALIDATION),
        "search_ended": (history.get("search_ended") or {}).get("text", ""),
    }


def _solution(history: Mapping[str, Any], solution: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the facts about a solved head."""
    return {
        **solution,
        "epoch": history["epochs"][0],
        "seconds": history.get("seconds"),
        "more": would_more_help(solution),
    }


def _stage(
    title: str, history: Mapping[str, Any], section: str, kept: str = _KEPT
) -> dict[str, Any]:
    """Collect the facts about a training by epochs, with the section of its settings."""
    epochs, best = history["epochs"], history["best_epoch"]
    numbers = [epoch["epoch"] for epoch in epochs]
    stopped = str(history.get("stopped") or "")

    def curves(key: str) -> Markup:
        train, validation = ([epoch.get(one) for epoch in epochs] for one in (key, f"val_{key}"))
        return plots.curves(numbers, train, validation, best, f"{section}-{key}")

    return {
        "title": title,
        "kept": kept,
        "plots": [("Accuracy", curves("accuracy")), ("Loss", curves("loss"))],
        "epochs": len(epochs),
        "best": best,
        "row": dict(zip(numbers, epochs, strict=True)).get(best, {}),
        "last": epochs[-1],
        "stopped": _STOPPED.get(stopped, stopped).format(section=section),
        "seconds": history.get("seconds"),
    }


def _outcome(tuned: Mapping[str, Any]) -> str:
    """Describe how fine-tuning without a search changed the accuracy."""
    before, after = tuned.get("head_accuracy"), tuned.get("accuracy")
    if before is None or after is None:
        return ""
    return f"Fine-tuning changed the validation accuracy from {before:.3f} to {after:.3f}."


TRAINING = Section("training", "Training", build_training, order=90)


def build_serving(context: Context) -> Content:
    """Return one row for each check."""
    checks = context.part("serving")
    if not checks:
        return context.absent("The exported model was not checked in a server")
    return {"checks": checks, "passed": sum(check["passed"] for check in checks)}


SERVING = Section("serving", "Serving checks", build_serving, order=150)
