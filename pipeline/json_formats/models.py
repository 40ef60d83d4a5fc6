"""What the commands about published models write."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from imgpipe.pipeline.json_formats.common import ClassMetrics, Interval, Probability, Version

_VERSION = "Number of the version; null if its folder is not named by a number."


class Accuracy(TypedDict):
    """An accuracy with its interval."""

    count: Annotated[int, "Images that were judged."]
    correct: Annotated[int, "Images that are predicted correctly."]
    accuracy: Annotated[float, "Share of these."]
    ci95: Annotated[Interval, "Its Wilson interval, 95 %."]


class Confusion(TypedDict):
    """A cell of the confusion matrix that is not 0."""

    label: Annotated[str, "The label."]
    predicted: Annotated[str, "The predicted class."]
    count: Annotated[int, "Number of images."]


class Bin(TypedDict):
    """Images with similar probabilities of the predicted class."""

    count: Annotated[int, "Number of images."]
    confidence: Annotated[float, "Mean probability of the predicted class."]
    accuracy: Annotated[float, "Accuracy."]


class SliceRow(TypedDict):
    """A slice."""

    value: Annotated[str, "Value or range."]
    count: Annotated[int, "Number of images."]
    correct: Annotated[int, "Images that are predicted correctly."]


class Slice(TypedDict):
    """Slices by one attribute."""

    name: Annotated[str, "The attribute, such as `brightness`."]
    rows: Annotated[list[SliceRow], "Its slices."]


class Mistake(TypedDict):
    """A wrong prediction."""

    path: Annotated[str, "Path in the source."]
    image_hash: Annotated[str, "SHA-256 of the file."]
    label: Annotated[str, "Its label."]
    predicted: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Probability of the predicted class."]


class NotDecoded(TypedDict):
    """A file that the model does not decode."""

    path: Annotated[str, "Path in the source."]
    why: Annotated[str, "The error."]


class Undecodable(TypedDict):
    """Images that the served signature does not decode."""

    count: Annotated[int, "Number of files."]
    first: Annotated[list[NotDecoded], "The first ones."]


class SeenImage(TypedDict):
    """An image that the run of the model had."""

    path: Annotated[str, "Path in the source."]
    kind: Annotated[Literal["identical", "near_duplicate"], "How similar it is."]
    split: Annotated[str, "Split of the image in the run."]


class Seen(TypedDict):
    """Images that the run of the model had."""

    count: Annotated[int, "Number of images."]
    by_kind: Annotated[dict[str, dict[str, int]], "Number by kind and split of the run."]
    first: Annotated[list[SeenImage], "The first ones."]


class Evaluation(Accuracy):
    """What a published model answers for labelled images."""

    schema: Version
    model: Annotated[str, "Folder of the version."]
    version: Annotated[int | None, _VERSION]
    source: Annotated[str, "The source of the images."]
    classes: Annotated[list[str], "Class names, in the order of the probabilities."]
    images: Annotated[int, "Images of the source, also those that could not be judged."]
    loss: Annotated[float, "Cross-entropy."]
    ece: Annotated[float, "Expected calibration error."]
    per_class: Annotated[dict[str, ClassMetrics], "Metrics by class."]
    confusion: Annotated[list[Confusion], "Cells of the confusion matrix that are not 0."]
    reliability: Annotated[list[Bin], "Accuracy by probability."]
    slices: Annotated[list[Slice], "Accuracy by kinds of images."]
    mistakes: Annotated[list[Mistake], "The most confident mistakes."]
    undecodable: Annotated[Undecodable, "Images that could not be decoded; they are not judged."]
    unknown_labels: Annotated[
        dict[str, int],
        "Number of images by label, of labels that are no class of the model; they are not judged.",
    ]
    seen: Annotated[
        Seen | None, "Images that the run had; null if the run or its artifacts are gone."
    ]
    unseen: Annotated[Accuracy | None, "The accuracy without these; null if there are none."]
    threshold: Annotated[float | None, "Accuracy that was demanded; null if none was."]
    passed: Annotated[bool, "Whether it was reached."]
    verdict: Annotated[str, "The result as a sentence."]
    warnings: Annotated[list[str], "Sentences about what the metrics do not show."]


class Parity(TypedDict):
    """The comparison of a file with the served model."""

    images: Annotated[int, "Images that were compared."]
    origin: Annotated[Literal["validation", "drawn"], "Where they come from."]
    tolerance: Annotated[float, "Largest difference of a probability that is allowed."]
    largest_difference: Annotated[float, "Largest difference of a probability."]
    agreement: Annotated[float, "Share of labels that are those of the encoded images."]


class Export(TypedDict):
    """The file that was written."""

    schema: Version
    kind: Annotated[Literal["onnx", "keras", "tflite"], "Kind of file."]
    file: Annotated[str, "Path of the file."]
    bytes: Annotated[int, "Its size."]
    model: Annotated[str, "Folder of the version."]
    version: Annotated[int | None, _VERSION]
    classes: Annotated[list[str], "Class names, in the order of the probabilities."]
    parity: Annotated[Parity, "The comparison with the served model."]


class Layer(TypedDict):
    """A layer."""

    name: Annotated[str, "Its name."]
    kind: Annotated[str, "Its kind."]
    output: Annotated[list[int], "Shape of its output, without the batch."]
    parameters: Annotated[int, "Number of its weights."]


class _Image(TypedDict):
    image: Annotated[str, "Path of the image."]


class ExplainedImage(_Image, total=False):
    """An image: either an error, or everything else."""

    error: Annotated[str, "Why it is no image that the model can decode."]
    label: Annotated[str, "The predicted class."]
    top: Annotated[list[Probability], "The most probable classes."]
    files: Annotated[list[str], "Paths of the drawings."]


class Explained(TypedDict):
    """The drawings and the layers of a network."""

    schema: Version
    model: Annotated[str, "Folder of the version."]
    images: Annotated[list[ExplainedImage], "The images."]
    layers: Annotated[list[Layer] | None, "All layers; null without `--layers`."]


class Prediction(_Image, total=False):
    """An image: either an error, or everything else."""

    error: Annotated[str, "Why the image was refused."]
    label: Annotated[str, "The predicted class."]
    probability: Annotated[float, "Its probability."]
    top: Annotated[list[Probability], "The most probable classes."]
    version: Annotated[int, "Version of the model that answered."]


class RolledBack(TypedDict):
    """The version that was published."""

    schema: Version
    version: Annotated[int, "Its number."]
    path: Annotated[str, "Its folder."]
    rolled_back_to: Annotated[int, "Version whose model it holds."]
    withdrawn: Annotated[int, "Number of models that are not pushed again."]
