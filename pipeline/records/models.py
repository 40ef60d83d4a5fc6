"""What the commands about images and about published models write."""

from __future__ import annotations

from typing import Annotated

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.image_filter.check import Row
from imgpipe.components.image_filter.near_groups import NearGroup
from imgpipe.components.image_filter.quarantine import DataSummary
from imgpipe.pipeline.records.base import ClassMetrics, Document, Interval, Probability, Record

_VERSION = "Number of the version; null if its folder is not named by a number."


class CheckedFiles(TypedDict):
    """Files by what happens to them."""

    rejected: Annotated[list[Row], "Files that a run would put into quarantine."]
    repaired: Annotated[list[Row], "Files that a run would re-encode."]
    warned: Annotated[list[Row], "Kept files with a warning."]
    reviewed: Annotated[list[Row], "Files with an override."]


class CheckSummary(DataSummary):
    """What a run would reject, repair and warn about."""

    schema: Annotated[int, "Version of this format, 1."]
    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names."]
    refused: Annotated[bool, "Whether a run would refuse the data (exit code 4)."]
    verdict: Annotated[str, "The decision as a sentence."]
    reasons: Annotated[list[str], "Why a run would refuse the data."]
    thin: Annotated[list[str], "The reasons that are about classes with too few images."]
    files: Annotated[CheckedFiles, "All files with a finding."]
    set_aside: Annotated[
        dict[str, int],
        "Number of training images that are rejected as near-duplicates of held-out images, by the "
        "split of the held-out images.",
    ]
    near_duplicates: Annotated[
        list[NearGroup] | None, "Groups of near-duplicates; null if they were not searched for."
    ]
    seconds: Annotated[float, "Duration of the checks, without the start of TensorFlow."]


class QuarantineRow(Document):
    """One object for each file, on a line of its own. Empty fields are left out."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."] = ""
    reason: Annotated[str, "Name of the check."]
    detail: Annotated[str, "What was found."] = ""
    label: Annotated[str, "Label of the file."] = ""
    split: Annotated[str, "Split of the file."] = ""
    override: Annotated[str, "What to do to keep the file."] = ""
    stored: Annotated[str, "Name of the file in the quarantine."] = ""


class Accuracy(Record):
    """An accuracy with its interval."""

    count: Annotated[int, "Number of images that were evaluated."]
    correct: Annotated[int, "Images that are predicted correctly."]
    accuracy: Annotated[float, "Share of the evaluated images that are predicted correctly."]
    ci95: Annotated[Interval, "Wilson interval of the accuracy, 95 %."]


class Confusion(Record):
    """A cell of the confusion matrix that is not 0."""

    label: Annotated[str, "The label."]
    predicted: Annotated[str, "The predicted class."]
    count: Annotated[int, "Number of images."]


class SliceRow(Record):
    """Images that are alike in one attribute."""

    value: Annotated[str, "Value or range of the attribute."]
    count: Annotated[int, "Number of images."]
    correct: Annotated[int, "Images that are predicted correctly."]


class Slice(Record):
    """Slices by one attribute."""

    name: Annotated[str, "The attribute, such as `brightness`."]
    accuracy: Annotated[float, "Accuracy of all images whose attribute is known."]
    rows: Annotated[list[SliceRow], "The slices of this attribute."]


class Mistake(Record):
    """A wrong prediction."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    label: Annotated[str, "Label of the image."]
    predicted: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the predicted class."]


class ExcludedFile(Record):
    """A file that could not be evaluated."""

    path: Annotated[str, "Path in the source."]
    why: Annotated[str, "The error."]


class ExcludedFiles(Record):
    """Files that could not be evaluated."""

    count: Annotated[int, "Number of files."]
    first: Annotated[list[ExcludedFile], "The first of these files."]


class SeenImage(Record):
    """An image, or a near-duplicate of one, that was in the data of the run of the model."""

    path: Annotated[str, "Path in the source."]
    split: Annotated[str, "Split of the image in the run."]


class Seen(Record):
    """Images that were in the data of the run that made the model."""

    count: Annotated[int, "Number of images."]
    by_split: Annotated[dict[str, int], "Number of images by split in the run."]
    first: Annotated[list[SeenImage], "The first of these images."]


class EvaluationSummary(Accuracy, Document):
    """What a published model answers for labelled images."""

    model: Annotated[str, "Folder of the version."]
    version: Annotated[int | None, _VERSION]
    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names, in the order of the probabilities."]
    images: Annotated[
        int, "Number of images of the source, including those that could not be evaluated."
    ]
    loss: Annotated[float, "Cross-entropy."]
    ece: Annotated[float, "Expected calibration error."]
    ece_by_chance: Annotated[
        float,
        "What it would be on average on this number of images if all probabilities were correct.",
    ]
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."]
    confusion: Annotated[list[Confusion], "Cells of the confusion matrix that are not 0."]
    slices: Annotated[list[Slice], "Accuracy by kind of image."]
    mistakes: Annotated[list[Mistake], "The most confident mistakes."]
    undecodable: Annotated[
        ExcludedFiles, "Files that could not be read or decoded; they are not evaluated."
    ]
    unknown_labels: Annotated[
        dict[str, int],
        "Number of images whose label is not a class of the model, by label; they are not "
        "evaluated.",
    ]
    seen: Annotated[
        Seen | None,
        "Images that were in the data of the run that made the model; null if the run or its "
        "artifacts no longer exist.",
    ]
    unseen: Annotated[
        Accuracy | None,
        "The accuracy without the images of `seen` that are in train or validation; null if there "
        "are none.",
    ]
    threshold: Annotated[
        float | None, "Accuracy that the model has to reach; null if it has to reach none."
    ]
    passed: Annotated[bool, "Whether the accuracy reaches the threshold."]
    verdict: Annotated[str, "The result as a sentence."]
    warnings: Annotated[list[str], "Sentences about what the metrics do not show."]


class PredictedImage(Document):
    """An image, with either an error or all other fields."""

    image: Annotated[str, "Path of the image."]
    error: Annotated[str | None, "Why the image was refused."] = None
    label: Annotated[str | None, "The predicted class."] = None
    probability: Annotated[float | None, "Probability of the predicted class."] = None
    top: Annotated[list[Probability] | None, "The most probable classes."] = None
    version: Annotated[int | None, "Version of the model that answered."] = None
