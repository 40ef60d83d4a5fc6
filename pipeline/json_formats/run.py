"""The summary of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from imgpipe.pipeline.json_formats.common import ClassMetrics, Document, Interval

Status = Literal["blessed", "not_blessed", "refused", "failed", "interrupted"]


class Gate(TypedDict):
    """The decision of the evaluation."""

    split: Annotated[str, "Split on which the model is evaluated."]
    threshold: Annotated[float, "Accuracy that the model has to reach."]
    value: Annotated[float | None, "Accuracy of the model."]
    ci95: Annotated[Interval | None, "Wilson interval of the accuracy, 95 %."]
    baseline: Annotated[float | None, "Accuracy of the last blessed model on the same images."]
    failed: Annotated[list[str], "Gates that the model did not pass."]


class Folds(TypedDict):
    """The cross-validation over train and validation."""

    folds: Annotated[int, "Number of folds."]
    threshold: Annotated[float, "Mean accuracy that the folds have to reach."]
    mean: Annotated[float, "Mean accuracy of the folds."]
    std: Annotated[float, "Standard deviation of the accuracies of the folds."]
    min: Annotated[float, "Lowest accuracy of a fold."]
    max: Annotated[float, "Highest accuracy of a fold."]
    images: Annotated[int, "Images in all folds."]
    correct: Annotated[int, "Images that are predicted correctly."]
    groups: Annotated[int, "Number of groups of images, each of which stays in one fold."]
    per_fold: Annotated[list[Any], "The result of each fold."]
    seconds: Annotated[float, "Duration of the cross-validation."]
    blessed: Annotated[bool, "Whether the mean reaches the threshold."]
    automatic: Annotated[
        bool,
        "Whether the folds decide because validation is small, and not because of a setting.",
    ]


class LiteExport(TypedDict):
    """A LiteRT file."""

    blessed: Annotated[bool, "Whether the file is accurate enough to be published."]
    why: Annotated[str, "Why it is not published; empty if it is."]
    file: Annotated[str, "Name of the file."]
    bytes: Annotated[int, "Size of the file."]
    images: Annotated[int, "Number of images on which it was compared with the served model."]
    accuracy: Annotated[float | None, "Accuracy of the file on these images."]
    model_accuracy: Annotated[float | None, "Accuracy of the served model on these images."]
    agreement: Annotated[
        float | None, "Share of images to which the file and the served model give the same label."
    ]


class Expected(TypedDict):
    """The expected result, and the result of this run."""

    text: Annotated[str, "What is expected, in words."]
    low: Annotated[float | None, "Lowest accuracy that is expected."]
    high: Annotated[float | None, "Highest accuracy that is expected."]
    split: Annotated[str, "Split on which the accuracies are compared."]
    time: Annotated[str, "Time that the training takes, in words."]
    value: Annotated[float | None, "Accuracy of this run."]
    compared: Annotated[
        Literal["within", "above", "below"] | None,
        "Whether the accuracy of this run is within, above or below the expected range.",
    ]


class Push(TypedDict):
    """Whether the model was published, and where it is."""

    status: Annotated[
        Literal["pushed", "unchanged", "refused"],
        "`unchanged` if the newest version is the same model.",
    ]
    version: Annotated[
        int | str | None,
        "Number of the version that holds the model, as text; null if there is none.",
    ]
    path: Annotated[str | None, "Folder of this version."]


class RunModel(TypedDict):
    """The model."""

    name: Annotated[str, "Name of the pipeline and of the served model."]
    backbone: Annotated[str, "Name of the backbone."]
    classes: Annotated[list[str], "Class names, in the order of the probabilities."]
    image_size: Annotated[int, "Width and height of the images that the exported network sees."]


#: "in" is a keyword of Python, so that it cannot be an attribute of a class.
Counted = TypedDict(
    "Counted",
    {"in": Annotated[int, "Number of files, which is the sum of kept and rejected files."]},
)


class RunData(Counted):
    """The images."""

    kept: Annotated[int, "Images that are used."]
    rejected: Annotated[int, "Files in quarantine."]
    repaired: Annotated[int, "Images that were re-encoded."]
    by_reason: Annotated[dict[str, int], "Number of rejected files by reason."]
    warned: Annotated[dict[str, int], "Number of kept images with a warning, by reason."]
    set_aside: Annotated[
        dict[str, int],
        "Number of training images that were rejected as near-duplicates of held-out images, by "
        "the split of the held-out images.",
    ]
    splits: Annotated[dict[str, dict[str, int]], "Number of images by split and class."]
    overrides: Annotated[dict[str, int], "Number of labels that people overrode, by split."]
    proposals: Annotated[int, "Overrides that nobody has confirmed; they change nothing."]


class CurvePoint(TypedDict):
    """A point of the learning curve."""

    images: Annotated[int, "Training images of a fold."]
    accuracy: Annotated[float, "Accuracy over the folds."]


class _Found(TypedDict):
    l2: Annotated[float, "Penalty of the weights."]
    iterations: Annotated[int, "Iterations of the solver."]


class Solution(_Found, total=False):
    """How a solved head was found. With too few images for folds, it has the first two fields."""

    folds: Annotated[int, "Number of folds."]
    images: Annotated[int, "Images in all folds."]
    accuracy: Annotated[float, "Accuracy over the folds."]
    standard_error: Annotated[float, "Standard error of this accuracy."]
    learning_curve: Annotated[list[CurvePoint], "Accuracy with fewer training images."]
    gain_error: Annotated[float, "Standard error of the difference of its last two points."]


class Stage(TypedDict):
    """The fields of each stage of training."""

    epochs: Annotated[int, "Number of epochs that were trained; 1 for a head that was solved."]
    best_epoch: Annotated[
        int | None,
        "Epoch whose weights are used, counted from 1; 1 for a head that was solved.",
    ]
    stopped: Annotated[
        Literal["target", "plateau", "epochs", "minutes", "diverged", "solved"] | None,
        "Why the training ended.",
    ]
    seconds: Annotated[float | None, "Duration of the training."]


class FineTuned(Stage):
    """Training of layers above a cut, or of all layers."""

    trained: Annotated[str | None, "What was trained."]
    head_accuracy: Annotated[float | None, "Validation accuracy of the head before fine-tuning."]
    accuracy: Annotated[float | None, "Validation accuracy after fine-tuning."]
    helped: Annotated[bool | None, "Whether fine-tuning made the network better."]
    shipped: Annotated[bool | None, "Whether the fine-tuned network was exported."]


class Calibration(TypedDict):
    """The calibration of the probabilities on held-out images."""

    chosen_on: Annotated[
        Literal["validation", "folds"],
        "The held-out images: the validation split, or all folds of train and validation.",
    ]
    temperature: Annotated[float, "Number by which the logits are divided."]
    error_before: Annotated[float, "Expected calibration error without the division."]
    error_after: Annotated[float, "Expected calibration error with the division."]
    unknown_below: Annotated[
        float, "Highest probability under which an image is called unknown; 0 for never."
    ]
    unknown_share: Annotated[float, "Share of the held-out images that are unknown."]
    known_accuracy: Annotated[
        float | None, "Accuracy on the other held-out images; null if there are none."
    ]


class Tried(TypedDict):
    """A network that was tried."""

    what: Annotated[str, "The network, in words."]
    judged_by: Annotated[
        Literal["validation", "folds"],
        "What it was judged on: the validation split, or the folds of train and validation.",
    ]
    accuracy: Annotated[float | None, "Accuracy there; null if the training failed."]
    gain: Annotated[float | None, "Gain over the previous best network; null for the head."]
    standard_error: Annotated[float | None, "Paired standard error of the gain."]
    seconds: Annotated[float, "Duration of the training of this network."]
    kept: Annotated[bool, "Whether it became the best network."]
    failure: Annotated[
        Literal["diverged", "memory", "disk"] | None, "Why the training failed; null otherwise."
    ]


class SearchEnd(TypedDict):
    """Why the search for a better network ended."""

    reason: Annotated[
        Literal["enough", "few_mistakes", "all", "no_gain", "minutes", "space", "interrupted"],
        "The reason, as one word.",
    ]
    text: Annotated[str, "The reason, as a sentence."]


class Training(Stage):
    """The training."""

    trained: Annotated[str, "What was trained: `head`, or the layers."]
    solution: Annotated[Solution | None, "How a solved head was found; null for another model."]
    fine_tune: Annotated[FineTuned | None, "The fine-tuning; null without one."]
    calibration: Annotated[Calibration | None, "The calibration of the probabilities."]

    search: Annotated[list[Tried] | None, "The networks that were tried; null without a search."]
    search_ended: Annotated[SearchEnd | None, "Why the search ended."]


class Metrics(TypedDict):
    """Metrics of a split."""

    accuracy: Annotated[float, "Share of correct predictions."]
    loss: Annotated[float, "Cross-entropy."]
    ece: Annotated[float, "Expected calibration error."]
    ece_by_chance: Annotated[
        float,
        "What it would be on average on this number of images if all probabilities were correct.",
    ]
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."]


class Timings(TypedDict):
    """Times in seconds."""

    total_s: Annotated[float, "The whole run."]
    import_s: Annotated[float, "Loading TensorFlow and TFX."]
    components: Annotated[dict[str, float], "Components by name."]


class Bank(TypedDict):
    """Work of the feature bank."""

    forward_passes: Annotated[int, "Images and views that went through the backbone."]
    reused: Annotated[int, "Images and views whose features were already stored."]


class Summary(Document):
    """The summary of a run, which is also written to `summary.json` in the folder of the run.

    All fields are always present. They are null where the run did not get that far.
    """

    status: Annotated[Status, "How the run ended."]
    blessed: Annotated[bool, "Whether the model passed all gates."]
    verdict: Annotated[str, "The decision as a sentence."]
    gate: Annotated[Gate | None, "The evaluation; null if no model was evaluated."]
    cross_validation: Annotated[Folds | None, "The folds; null without cross-validation."]
    lite: Annotated[dict[str, LiteExport] | None, "LiteRT files by kind; null if none were made."]
    warnings: Annotated[list[str], "Warnings, as sentences."]
    expected: Annotated[Expected | None, "The expected result; null if nothing is expected."]
    push: Annotated[Push, "Whether the model was published, and where it is."]
    model: Annotated[RunModel, "The model."]
    data: Annotated[RunData, "The images."]
    training: Annotated[Training | None, "The training; null if there was none."]
    metrics: Annotated[dict[str, Metrics], "Metrics by split."]
    timings: Annotated[Timings, "Times in seconds."]
    bank: Annotated[Bank, "Work of the feature bank."]
    cached: Annotated[list[str], "Components whose outputs were taken from an earlier run."]
    report: Annotated[str | None, "Path of the report; null if none was written."]
    log: Annotated[str, "Path of the log."]
