"""The summary of a run: how it is written to `summary.json`, read again, and documented."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from imgpipe.components.image_filter.quarantine import Families
from imgpipe.pipeline.records.base import (
    ClassMetrics,
    Count,
    Document,
    Interval,
    Record,
    Share,
)

Status = Literal["blessed", "not_blessed", "refused", "failed", "interrupted"]
Number = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
Seconds = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]


class Ruling(Record):
    """What one rule of the evaluation says about the model."""

    rule: Annotated[str, "Name of the rule, such as threshold."] = ""
    text: Annotated[str, "What was measured, with its interval, and what is asked for."] = ""
    reason: Annotated[str, "Why the model is refused; empty if it passes the rule."] = ""
    margin: Annotated[float | None, "By how much the model is better than the limit."] = None


class Gate(Record):
    """The decision of the evaluation."""

    split: Annotated[str, "Split on which the model is evaluated."] = ""
    threshold: Annotated[float, "Accuracy that the model has to reach."] = 0.0
    value: Annotated[Share | None, "Accuracy of the model."] = None
    ci95: Annotated[
        Interval | None,
        "Wilson interval of the accuracy, 95 %, for which the images of a family count once.",
    ] = None
    balanced: Annotated[float | None, "Mean recall of the classes, of the answers that decide."] = (
        None
    )
    baseline: Annotated[
        float | None,
        "Accuracy of the last version on the images that neither was trained on.",
    ] = None
    failed: Annotated[list[str], "Rules that the model did not pass, such as threshold."] = []
    reasons: Annotated[list[str], "Why, in a sentence for each of these rules."] = []
    rulings: Annotated[list[Ruling], "What every rule says, the worst first."] = []


class Folds(Record):
    """The cross-validation over train and validation."""

    folds: Annotated[Count, "Number of folds."] = 0
    mean: Annotated[Share, "Mean accuracy of the folds."] = 0.0
    std: Annotated[float, "Standard deviation of the accuracies of the folds."] = 0.0
    min: Annotated[float, "Lowest accuracy of a fold."] = 0.0
    max: Annotated[float, "Highest accuracy of a fold."] = 0.0
    images: Annotated[int, "Images in all folds."] = 0
    correct: Annotated[int, "Images that are predicted correctly."] = 0
    groups: Annotated[int, "Number of groups of images, each of which stays in one fold."] = 0
    per_fold: Annotated[list[Any], "The result of each fold."] = []
    automatic: Annotated[
        bool,
        "Whether the folds decide because validation is small, and not because of a setting.",
    ] = False


class Expected(Record):
    """The expected result, and the result of this run."""

    text: Annotated[str, "What is expected, in words."] = ""
    low: Annotated[float | None, "Lowest accuracy that is expected."] = None
    high: Annotated[float | None, "Highest accuracy that is expected."] = None
    split: Annotated[str, "Split on which the accuracies are compared."] = ""
    value: Annotated[float | None, "Accuracy of this run."] = None
    compared: Annotated[
        Literal["within", "above", "below"] | None,
        "Whether the accuracy of this run is within, above or below the expected range.",
    ] = None


class Push(Record):
    """Whether the model was published, and where it is."""

    status: Annotated[
        Literal["pushed", "unchanged", "refused"],
        "`unchanged` if the newest version is the same model.",
    ] = "refused"
    version: Annotated[
        Count | Number | None,
        "Number of the version that holds the model, as text; null if there is none.",
    ] = None
    path: Annotated[str | None, "Folder of this version."] = None


class RunModel(Record):
    """The model."""

    name: Annotated[str, "Name of the pipeline and of the served model."] = ""
    backbone: Annotated[str, "Name of the backbone."] = ""
    classes: Annotated[list[str], "Class names, in the order of the probabilities."] = []
    image_size: Annotated[int, "Width and height of the images that the exported network sees."] = 0


class RunData(Record):
    """The images."""

    images: Annotated[Count, "Number of files, which is the sum of kept and rejected files."] = (
        Field(0, alias="in")
    )
    kept: Annotated[Count, "Images that are used."] = 0
    rejected: Annotated[Count, "Files in quarantine."] = 0
    repaired: Annotated[int, "Images that were re-encoded."] = 0
    by_reason: Annotated[dict[str, int], "Number of rejected files by reason."] = {}
    warned: Annotated[dict[str, int], "Number of kept images with a warning, by reason."] = {}
    families: Annotated[
        Families | None, "Images that belong together; null if no image was compared."
    ] = None
    set_aside: Annotated[
        dict[str, int],
        "Number of training images that were rejected as near-duplicates of held-out images, by "
        "the split of the held-out images.",
    ] = {}
    splits: Annotated[dict[str, dict[str, Count]], "Number of images by split and class."] = {}
    applied: Annotated[
        dict[str, Count],
        "Number of images to which an override applies, by verdict; `kept_test_label` where it "
        "would change a label of test.",
    ] = {}
    overrides: Annotated[dict[str, Count], "Number of labels that people overrode, by split."] = {}


class CurvePoint(Record):
    """A point of the learning curve."""

    images: Annotated[Count, "Training images of a fold."] = 0
    accuracy: Annotated[Share, "Accuracy over the folds."] = 0.0


class Solution(Record):
    """How a solved head was found. With too few images for folds, only the first two are known."""

    l2: Annotated[float | None, "Penalty of the weights."] = None
    iterations: Annotated[int | None, "Iterations of the solver."] = None
    folds: Annotated[int | None, "Number of folds."] = None
    images: Annotated[int | None, "Images in all folds."] = None
    accuracy: Annotated[float | None, "Accuracy over the folds."] = None
    standard_error: Annotated[float | None, "Standard error of this accuracy."] = None
    learning_curve: Annotated[list[CurvePoint] | None, "Accuracy with fewer training images."] = (
        None
    )
    gain_error: Annotated[
        float | None, "Standard error of the difference of its last two points."
    ] = None


class Stage(Record):
    """The fields of each stage of training."""

    epochs: Annotated[int, "Number of epochs that were trained; 1 for a head that was solved."] = 0
    best_epoch: Annotated[
        int | None,
        "Epoch whose weights are used, counted from 1; 1 for a head that was solved.",
    ] = None
    stopped: Annotated[
        Literal["target", "plateau", "epochs", "minutes", "diverged", "solved"] | None,
        "Why the training ended.",
    ] = None
    seconds: Annotated[float | None, "Duration of the training."] = None


class FineTuned(Stage):
    """Training of layers above a cut, or of all layers."""

    trained: Annotated[str | None, "What was trained."] = None
    head_accuracy: Annotated[float | None, "Held-out accuracy of the head alone."] = None
    accuracy: Annotated[float | None, "Held-out accuracy after fine-tuning."] = None


class Calibration(Record):
    """The calibration of the probabilities on held-out images."""

    chosen_on: Annotated[
        Literal["validation", "folds"],
        "The images that judged: validation, with a fifth of train or without, or all folds.",
    ] = "validation"
    temperature: Annotated[float, "Number by which the logits are divided."] = 1.0
    error_before: Annotated[float, "Expected calibration error without the division."] = 0.0
    error_after: Annotated[float, "Expected calibration error with the division."] = 0.0
    unknown_below: Annotated[
        float, "Highest probability under which an image is called unknown; 0 for never."
    ] = 0.0
    unknown_share: Annotated[float, "Share of the held-out images that are unknown."] = 0.0
    known_accuracy: Annotated[
        float | None, "Accuracy on the other held-out images; null if there are none."
    ] = None


class Tried(Record):
    """A network that was tried."""

    what: Annotated[str, "The network, in words."] = ""
    judged_by: Annotated[
        Literal["validation", "held_out", "folds"],
        "What it was judged on: the validation split, with a fifth of train or without, or the "
        "folds of train and validation.",
    ] = "validation"
    accuracy: Annotated[float | None, "Accuracy there; null if the training failed."] = None
    gain: Annotated[float | None, "Gain over the head; null for the head itself."] = None
    standard_error: Annotated[float | None, "Paired standard error of the gain."] = None
    seconds: Annotated[float, "Duration of the training of this network."] = 0.0
    kept: Annotated[bool, "Whether it is the result."] = False
    failure: Annotated[
        Literal["diverged", "memory", "disk"] | None, "Why the training failed; null otherwise."
    ] = None


class SearchEnd(Record):
    """Why the search for a better network ended."""

    reason: Annotated[
        Literal["enough", "few_mistakes", "all", "minutes", "space"],
        "The reason, as one word.",
    ] = "enough"
    text: Annotated[str, "The reason, as a sentence."] = ""


class Training(Stage):
    """The training."""

    trained: Annotated[str, "What was trained: `head`, or the layers."] = ""
    solution: Annotated[Solution | None, "How a solved head was found; null for another model."] = (
        None
    )
    fine_tune: Annotated[FineTuned | None, "The fine-tuning; null without one."] = None
    calibration: Annotated[Calibration | None, "The calibration of the probabilities."] = None
    search: Annotated[
        list[Tried] | None, "The networks that were tried; null without a search."
    ] = None
    learned: Annotated[
        dict[str, Count], "Number of images from which the model has learned, by split."
    ] = {}
    search_ended: Annotated[SearchEnd | None, "Why the search ended."] = None


class Unseen(Record):
    """The accuracy on the images of families of which train has no image."""

    count: Annotated[Count, "Number of images."] = 0
    correct: Annotated[Count, "Images that are predicted correctly."] = 0
    accuracy: Annotated[Share | None, "Share of correct predictions."] = None
    ci95: Annotated[Interval, "Wilson interval of the accuracy, 95 %."] = [0.0, 1.0]


class SplitMetrics(Record):
    """Metrics of a split."""

    independent: Annotated[
        int, "Number of independent images, where the images of a family count once."
    ] = 0
    unseen: Annotated[
        Unseen | None,
        "The accuracy to believe, where the source's splits divide families of images; otherwise "
        "null.",
    ] = None
    accuracy: Annotated[float, "Share of correct predictions."] = 0.0
    loss: Annotated[float, "Cross-entropy."] = 0.0
    ece: Annotated[float, "Expected calibration error."] = 0.0
    ece_by_chance: Annotated[
        float,
        "What it would be on average on this number of images if all probabilities were correct.",
    ] = 0.0
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."] = {}


class Timings(Record):
    """Times in seconds."""

    total_s: Annotated[Seconds, "The whole run."] = 0.0
    import_s: Annotated[float, "Loading TensorFlow and TFX."] = 0.0
    components: Annotated[dict[str, float], "Components by name."] = {}


class BankWork(Record):
    """Work of the feature bank."""

    forward_passes: Annotated[int, "Images and views that went through the backbone."] = 0
    reused: Annotated[int, "Images and views whose features were already stored."] = 0


class RunSummary(Document):
    """The summary of a run, which is also written to `summary.json` in the folder of the run.

    All fields are always present. They are null where the run did not get that far.
    """

    status: Annotated[Status, "How the run ended."] = "failed"
    blessed: Annotated[bool, "Whether the model passed all gates."] = False
    verdict: Annotated[str, "The decision as a sentence."] = ""
    gate: Annotated[Gate | None, "The evaluation; null if no model was evaluated."] = None
    cross_validation: Annotated[Folds | None, "The folds; null without cross-validation."] = None
    warnings: Annotated[list[str], "Warnings, as sentences."] = []
    expected: Annotated[Expected | None, "The expected result; null if nothing is expected."] = None
    push: Annotated[Push, "Whether the model was published, and where it is."] = Push()
    model: Annotated[RunModel, "The model."] = RunModel()
    data: Annotated[RunData, "The images."] = RunData()
    training: Annotated[Training | None, "The training; null if there was none."] = None
    metrics: Annotated[dict[str, SplitMetrics], "Metrics by split."] = {}
    timings: Annotated[Timings, "Times in seconds."] = Timings()
    bank: Annotated[BankWork, "Work of the feature bank."] = BankWork()
    cached: Annotated[list[str], "Components whose outputs were taken from an earlier run."] = []
    report: Annotated[str | None, "Path of the report; null if none was written."] = None
    log: Annotated[str, "Path of the log."] = ""
