"""How the model was made and how it is served."""

from __future__ import annotations

import shlex
from typing import Any

from imgpipe.components.report.advice import would_more_help
from imgpipe.components.report.commands import serve_command
from imgpipe.components.report.pictures import plots
from imgpipe.components.report.section import Context, Section, SectionContent
from imgpipe.models.features.bank import BankFacts
from imgpipe.models.features.folds import FEWEST_MISTAKES
from imgpipe.models.head.solved_head import Solution
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.model_names import SERVED_NAME
from imgpipe.models.settings.feature_kinds import AVERAGE, CLASS_TOKEN, COVARIANCE, TOKENS
from imgpipe.models.training.history import FAILURES, JUDGES, FineTuned, History, Stage, Tried

_PORT = 8500  # TensorFlow Serving's default for gRPC; the REST interface has the next one
_GATES = {
    "model": "ImageEvaluator",
    "serving": "ServingValidator",
    "rollback": "ModelPusher, because a rollback has withdrawn the model",
    "other_version": "ModelPusher, because the served version changed meanwhile",
}


def build_model(context: Context) -> SectionContent:
    """Return the outcome of the push, and commands if there is a model to serve."""
    push, settings = context.facts["push"], context.facts["settings"]
    baseline = context.facts["baseline"]
    if push is None:
        return context.absent("Nothing was published")
    path = (push["path"] or "").rstrip("/")
    return {
        "push": push,
        "refused": " and ".join(_GATES[gate] for gate in push["refused_by"]),
        "before": baseline["version"] if baseline is not None else 0,
        "settings": settings,
        "vocabulary": context.vocabulary,
        "commands": _commands(path, settings["name"]) if path else [],
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


MODEL = Section("model", "Model", build_model, order=150, numbers=True)


#: What a head reads, by the name of the kind of features.
_KINDS = {
    AVERAGE: "the mean of the last feature map over its positions",
    COVARIANCE: "this mean, and how the channels of this map and of two lower ones, whose patterns "
    "are smaller, go together",
    CLASS_TOKEN: "the class token",
    TOKENS: "the class token and the mean of the last feature map, which are the patches",
}
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
    "The weights of the last epoch were kept, as in the networks that were judged for this one, "
    "which has learned from their held-out images, too."
)


def build_training(context: Context) -> SectionContent:
    """Collect the stages with their plots, and the results of fine-tuning and calibration."""
    training, bank = context.facts["training"], context.facts["bank"]
    if training is None:
        return context.absent("No model was trained")
    tuned, solution = training["fine_tune"], training["solution"]
    search, search_ended = training["search"] or [], training["search_ended"]
    judged_by = search[0]["judged_by"] if search else "validation"
    by_folds = judged_by == "folds"
    learned_validation = training["learned"].get(names.VALIDATION, 0)
    stands_in = by_folds or learned_validation > 0  # another network was judged for this one
    stages = [] if solution else [_stage("", training, "train")]
    if tuned is not None and tuned["epochs"]:
        kept = _LAST_KEPT if stands_in else _BY_CALIBRATED_LOSS
        stages.append(_stage("Fine-tuning", tuned, "fine_tune", kept))
    return {
        "solution": _solution(training, solution) if solution else None,
        "stages": stages,
        "choice": _choice_of_features(bank) if bank is not None and bank["tried"] else None,
        "trained": training["trained"],
        "outcome": _outcome(tuned) if tuned is not None and not search else "",
        "calibration": training["calibration"],
        "search": [_tried(tried) for tried in search],
        "by_folds": by_folds,
        "judges": JUDGES[judged_by],
        "learned_validation": learned_validation,
        "stands_in": stands_in,
        "search_ended": search_ended["sentence"] if search_ended is not None else "",
    }


def _choice_of_features(bank: BankFacts) -> dict[str, Any]:
    """Return the features on which heads were compared, and those that were chosen.

    Larger images let the backbone compute `backbone_work` times as much.
    """
    tried = bank["tried"]
    kinds = dict.fromkeys(features["features"] for features in tried)
    return {
        "tried": tried,
        "kinds": [(kind, _KINDS[kind]) for kind in kinds],
        "features": bank["features"],
        "image_size": bank["image_size"],
        "fewest_mistakes": FEWEST_MISTAKES,
        "backbone_work": (bank["image_size"] / tried[0]["image_size"]) ** 2,
    }


def _tried(tried: Tried) -> dict[str, Any]:
    """Return a network that was tried, with its failure in words."""
    failure = FAILURES[tried["failure"]] if tried["failure"] else None
    return {**tried, "failure": failure}


def _solution(training: History, solution: Solution) -> dict[str, Any]:
    """Collect the facts about a solved head."""
    return {
        **solution,
        "epoch": training["epochs"][0],
        "seconds": training["seconds"],
        "more": would_more_help(solution),
    }


def _stage(title: str, stage: Stage, section: str, kept: str = _KEPT) -> dict[str, Any]:
    """Collect the facts about a training by epochs, with the section of its settings."""
    epochs, best = stage["epochs"], stage["best_epoch"]
    numbers = [epoch["epoch"] for epoch in epochs]
    accuracies = plots.curves(
        numbers,
        [epoch["accuracy"] for epoch in epochs],
        [epoch["val_accuracy"] for epoch in epochs],
        best,
        f"{section}-accuracy",
    )
    losses = plots.curves(
        numbers,
        [epoch["loss"] for epoch in epochs],
        [epoch["val_loss"] for epoch in epochs],
        best,
        f"{section}-loss",
    )
    return {
        "title": title,
        "kept": kept,
        "plots": [("Accuracy", accuracies), ("Loss", losses)],
        "epochs": len(epochs),
        "best": best,
        "row": next((epoch for epoch in epochs if epoch["epoch"] == best), None),
        "last": epochs[-1],
        "stopped": _STOPPED[stage["stopped"]].format(section=section),
        "seconds": stage["seconds"],
    }


def _outcome(tuned: FineTuned) -> str:
    """Describe how fine-tuning without a search changed the accuracy."""
    before, after = tuned["head_accuracy"], tuned["accuracy"]
    return f"Fine-tuning changed the validation accuracy from {before:.3f} to {after:.3f}."


TRAINING = Section("training", "Training", build_training, order=140, numbers=True)


def build_serving(context: Context) -> SectionContent:
    """Return one row for each check."""
    checks = context.facts["serving"]
    if checks is None:
        return context.absent("The exported model was not checked in a server")
    return {"checks": checks, "passed": sum(check["passed"] for check in checks)}


SERVING = Section("serving", "Serving checks", build_serving, order=152, numbers=True)
