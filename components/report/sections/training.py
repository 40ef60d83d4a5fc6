"""How the model was made and how it is served."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from imgpipe.components.common.formatting import join_names, plural, seconds, share
from imgpipe.components.report import blocks as show
from imgpipe.components.report.blocks import section
from imgpipe.components.report.commands import serve_command
from imgpipe.components.report.pictures import plots
from imgpipe.components.run_record.result import Result, whole
from imgpipe.models import names
from imgpipe.models.features.bank import BankFacts, FeatureDecision
from imgpipe.models.features.folds import ENOUGH, FEWEST_MISTAKES
from imgpipe.models.head.calibration import Calibration
from imgpipe.models.head.solved_head import Solution
from imgpipe.models.settings.model import AVERAGE, CLASS_TOKEN, COVARIANCE, TOKENS
from imgpipe.models.training.history import (
    FAILURES,
    JUDGES,
    History,
    Stage,
    Tried,
    describe_tried,
)

_MOST_NAMES = 100  # classes that are named
_PORT = 8500  # TensorFlow Serving's default for gRPC; the REST interface has the next one
#: What a head reads, by the name of the kind of features.
_KINDS = {
    AVERAGE: "the mean of the last feature map over its positions",
    COVARIANCE: "this mean, and how the channels of this map and of two lower ones, whose patterns "
    "are smaller, go together",
    CLASS_TOKEN: "the class token",
    TOKENS: "the class token and the mean of the last feature map, which are the patches",
}
_STOPPED = {
    "target": "it reached the target accuracy (course.target_accuracy)",
    "plateau": "the validation loss had not improved for {section}.patience epochs",
    "diverged": "the loss was no longer finite; lower the learning rate",
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


@section("model", "Model", order=150, numbers=True)
def model(result: Result) -> Iterator[show.ResultBlock]:
    """Yield where the model is and what it is made of, with the commands that serve it."""
    push = result["push"]
    if result["training"] is None:
        return
    rows: list[show.NamedText] = []
    location = whole(result, push["path"] or "")
    if push["path"]:
        rows.append(("Location", show.Span(location, "path")))
    if result["backbone"]:
        size = result["image_size"]
        pixels = f", {size} × {size} pixels" if size else ""
        rows.append(("Backbone", f"{result['backbone']}{pixels}"))
    rows.append(("Classes", show.Span(join_names(result["classes"], _MOST_NAMES), "name")))
    yield show.Figures(rows)
    if push["path"]:
        for purpose, command in _commands(location.rstrip("/"), result["name"]):
            yield show.Heading(purpose)
            yield show.Command(command)


def _commands(path: str, name: str) -> list[tuple[str, str]]:
    """Return (purpose, command) pairs, with all names quoted for a shell."""
    model = shlex.quote(name)
    mount = shlex.quote(f"{path.rpartition('/')[0] or path}:/models/{name}:ro")
    # With a server, --model is a name, even where a folder has the same one.
    asked = "" if name == names.SERVED_NAME else f" --server localhost:{_PORT} --model {model}"
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


@section("training", "Training", order=140, numbers=True)
def training(result: Result) -> Iterator[show.ResultBlock]:
    """Yield the stages with their plots, and the results of fine-tuning and calibration."""
    training = result["training"]
    if training is None:
        return
    tuned = training["fine_tune"]
    search = training["search"] or []
    by_folds = bool(search) and search[0]["judged_by"] == "folds"
    # Another network was judged for this one.
    stands_in = by_folds or training["learned"].get(names.VALIDATION, 0) > 0
    if training["solution"]:
        yield from _solved(training, training["solution"], result["bank"])
    yield from tried(training)
    if not training["solution"]:
        yield from _stage("", training, "course", stands_in)
    if tuned is not None and tuned["epochs"]:
        yield from _stage("Fine-tuning", tuned, "course.fine_tune", stands_in)
    if training["calibration"]:
        yield show.Sentence(_calibrated(training["calibration"]))


def _solved(
    training: History, solution: Solution, bank: BankFacts | None
) -> Iterator[show.Sentence]:
    """Yield how the head was solved, on which features, and what it reaches."""
    learned = training["learned"].get(names.VALIDATION, 0)
    seconds_of = f" in {seconds(training['seconds'])}" if training["seconds"] is not None else ""
    method = (
        "The head, the last layer, is a linear classifier on the stored features. It was not "
        f"trained by epochs but solved by {solution['method'].replace('_', ' ')}{seconds_of}, "
        "because its loss has a single lowest point. "
    )
    penalty = f"The penalty of its weights is {solution['l2']:.3g}."
    if solution["folds"]:
        over = "train and validation" if learned else "train"
        images = plural(solution["images"] or 0, "image")
        penalty = (
            f"The penalty of its weights, {solution['l2']:.3g}, was chosen with the method by "
            f"{solution['folds']}-fold cross-validation over {images} of "
            f"{over}: each image was answered by a head that had not seen it, and "
            f"{share(solution['accuracy'])} of the answers were right (standard error "
            f"{share(solution['standard_error'])})."
        )
    yield show.Sentence(method + penalty)
    if bank is not None and bank["decision"] is not None and bank["decision"]["tried"]:
        yield show.Sentence(_choice_of_features(bank, bank["decision"]))
    epoch = training["epochs"][0]
    reached = f"accuracy {share(epoch['accuracy'])}, loss {share(epoch['loss'])}"
    held_out = f"accuracy {share(epoch['val_accuracy'])}, loss {share(epoch['val_loss'])}"
    others = f"Validation images: {held_out}."
    if learned:
        held_out = plural(learned, "validation image")
        others = f"The head has learned from {held_out}, too, because the folds judge it."
    yield show.Sentence(f"Training images: {reached}. {others}")


def _choice_of_features(bank: BankFacts, decision: FeatureDecision) -> str:
    """Say on which features heads were compared, and which were chosen.

    Larger images let the backbone compute more, by the square of their side.
    """
    tried = decision["tried"]
    size = bank["image_size"]
    first = tried[0]["image_size"]
    compared = ", ".join(
        f"“{features['features']}” at {features['image_size']} pixels {share(features['accuracy'])}"
        for features in tried
    )
    kinds = dict.fromkeys(features["features"] for features in tried)
    meanings = " ".join(f"“{kind}” is {_KINDS[kind]}." for kind in kinds)
    text = (
        "Heads on different features were compared in cross-validation over training images: "
        f"{compared}. {meanings} The features “{bank['features']}” at {size} pixels were chosen "
        f"for the head, on {decision['time']} with {plural(decision['images'], 'training image')}. "
        "They are chosen again when there are twice as many, or with other classes, splits or "
        f"settings. Features that cost more are tried only where the head makes {FEWEST_MISTAKES} "
        f"mistakes or more, and larger images only where it also reaches less than {ENOUGH}. They "
        "have to be better by more than chance."
    )
    if size > first:
        text += (
            f" For images of {size} instead of {first} pixels, the backbone computes "
            f"{(size / first) ** 2:.1f} times as much for each request."
        )
    return text


def tried(training: History) -> Iterator[show.ResultBlock]:
    """Yield the networks that were tried, why the search ended, and what was trained."""
    tuned = training["fine_tune"]
    search = training["search"] or []
    if len(search) == 1:  # the head alone
        yield show.Sentence(f"{show.capitalised(describe_tried(search[0]))}.")
    elif search:
        yield from _search(search)
    ended = training["search_ended"]
    if ended is not None and ended["sentence"]:
        yield show.Sentence(f"{ended['sentence']}.")
    outcome = ""
    if tuned is not None and not search:
        before = share(tuned["head_accuracy"])
        after = share(tuned["accuracy"])
        outcome = f" Fine-tuning changed the validation accuracy from {before} to {after}."
    yield show.Sentence(f"Trained layers: {training['trained']}.{outcome}")


def _search(search: Sequence[Tried]) -> Iterator[show.ResultBlock]:
    """Yield the networks that were tried, and how they were judged."""
    judged_by = search[0]["judged_by"]
    where = "on held-out images"
    if judged_by == "folds":
        where = "in cross-validation over train and validation, which has few images,"
    yield show.Heading("Networks that were tried")
    text = (
        "The network starts from a head on the last feature map. It is kept if it is better "
        f"{where} by more than chance. Its gain is over the head, with the paired standard error."
    )
    if judged_by == "folds":
        text += (
            " A network is trained for each fold, so the folds are fewer and larger than those of "
            "a head: these accuracies are compared with each other, and not with the verdict's."
        )
    yield show.Sentence(text, "muted")
    by_one = len({network["judged_by"] for network in search}) == 1
    judges = show.capitalised(JUDGES[judged_by]) if by_one else "Accuracy"
    columns = ("Network", judges, "Gain", "Standard error", "Time", "Kept")
    rows = [_tried(network) for network in search]
    yield show.Table("Networks that were tried", columns, rows)


def _tried(network: Tried) -> list[show.TableCell]:
    """Return the row of a network that was tried, with its failure in words."""
    gain = network["gain"]
    return [
        network["what"],
        FAILURES[network["failure"]] if network["failure"] else network["accuracy"],
        "" if gain is None else f"{gain:+.3f}",
        "" if network["standard_error"] is None else network["standard_error"],
        seconds(network["seconds"]),
        "yes" if network["kept"] else "no",
    ]


def _calibrated(calibration: Calibration) -> str:
    """Say on which answers the probabilities were calibrated."""
    answers = "the answers of a network that has not learned from the images"
    if calibration["chosen_on"] == "folds":
        answers = "the folds of train and validation"
    if calibration["temperature"] == 1:
        return (
            f"On {answers}, no temperature lowers the log loss by more than chance, so that none "
            "is used; the expected calibration error is "
            f"{share(calibration['error_after'])}."
        )
    return (
        f"The model was calibrated on {answers}: dividing the logits by a temperature of "
        f"{calibration['temperature']:.2f} lowers the log loss by more than chance; the "
        f"expected calibration error was {share(calibration['error_before'])} and is "
        f"{share(calibration['error_after'])}."
    )


def _stage(title: str, stage: Stage, section: str, stands_in: bool) -> Iterator[show.ResultBlock]:
    """Yield plots and figures of a training by epochs, with the section of its settings.

    A network that stands in for those that were judged has no validation curve of its own.
    """
    epochs = stage["epochs"]
    best = stage["best_epoch"]
    numbers = [epoch["epoch"] for epoch in epochs]
    if title:
        yield show.Heading(title)
    accuracies = [(epoch["accuracy"], epoch["val_accuracy"]) for epoch in epochs]
    losses = [(epoch["loss"], epoch["val_loss"]) for epoch in epochs]
    drawings = []
    for what, values in (("accuracy", accuracies), ("loss", losses)):
        train, validation = zip(*values, strict=True)
        plot = plots.curves(numbers, train, validation, best, f"{section.replace('.', '-')}-{what}")
        drawings.append((plot, f"{what.capitalize()} by epoch"))
    yield show.Curves(drawings)
    mark = f"; the dot marks the best epoch, {best}" if best is not None else ""
    lines = [("train", "training"), ("validation", f"validation{mark}")]
    yield show.Legend(lines[:1] if stands_in else lines)
    took = f" in {seconds(stage['seconds'])}" if stage["seconds"] is not None else ""
    ended = _STOPPED[stage["stopped"]].format(section=section)
    kept = _KEPT
    if section == "course.fine_tune":
        kept = _LAST_KEPT if stands_in else _BY_CALIBRATED_LOSS
    count = plural(len(epochs), "epoch")
    yield show.Sentence(f"{count}{took}; training ended because {ended}. {kept}")
    accuracy, on_validation = accuracies[-1]
    held_out = "" if on_validation is None else f", and {share(on_validation)} on validation"
    yield show.Sentence(
        f"The last epoch reached the accuracy {share(accuracy)} in training, on augmented views "
        f"with dropout{held_out}.",
        "muted",
    )


@section("serving", "Serving checks", order=152, numbers=True)
def serving(result: Result) -> Iterator[show.ResultBlock]:
    """Yield one row for each check."""
    checks = result["serving"]
    if checks is None:
        return
    results = {True: show.Span("✓ passed", "good"), False: show.Span("✕ failed", "bad")}
    passed = sum(check["passed"] for check in checks)
    yield show.Table(
        "Serving checks",
        ("Result", "Check", "Observed"),
        [
            (results[check["passed"]], check["name"], show.Span(check["detail"], "muted"))
            for check in checks
        ],
        caption=f"{passed} of {len(checks)} passed. The exported model was loaded in the same way "
        "as TensorFlow Serving loads it and was sent requests over gRPC.",
        look="wide",
    )
