"""What the commands about runs and about this machine write."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from imgpipe.pipeline.records import run_summary as run
from imgpipe.pipeline.records.base import Document, Interval, Record

Status = run.Status | Literal["working", "killed", "damaged"]


_CHANGED = "A setting as `section.key`, or the name of a count."


class Change(Record):
    """A value that differs between two runs."""

    name: Annotated[str, _CHANGED]
    before: Annotated[Any, "The value in the first run; null where it has none."]
    after: Annotated[Any, "The value in the second run; null where it has none."]


class Changed(Record):
    """What changed since the previous run."""

    configuration: Annotated[list[Change], "Settings that changed."]
    data: Annotated[list[Change], "Numbers of images that changed."]


class FoldsOfRun(Record):
    """The folds, where they decided."""

    folds: Annotated[int, "Number of folds."]
    mean: Annotated[float, "Mean accuracy of the folds."]
    std: Annotated[float, "Standard deviation of the accuracies of the folds."]


class ListedRun(Record):
    """A run."""

    run: Annotated[str, "Name of the folder of the run."]
    folder: Annotated[str, "Path of the folder of the run."]
    started: Annotated[str, "Local time of the start."]
    status: Annotated[
        Status,
        "How the run ended, as in the summary, or `working`, `killed`, or `damaged` where the "
        "summary cannot be read.",
    ]
    verdict: Annotated[str | None, "The decision as a sentence."]
    accuracy: Annotated[float | None, "Accuracy of the gate; null if no model was evaluated."]
    ci95: Annotated[Interval | None, "Wilson interval of the accuracy, 95 %."]
    split: Annotated[str | None, "Split of this accuracy."]
    folds: Annotated[FoldsOfRun | None, "The folds; null where validation decided."]
    images: Annotated[int | None, "Number of images."]
    classes: Annotated[int | None, "Number of classes."]
    changed: Annotated[Changed, "What changed since the previous run."]
    version: Annotated[int | None, "Version that the run published; null if it published none."]
    seconds: Annotated[float | None, "Duration of the run."]
    report: Annotated[str | None, "Path of the report."]


class NewestVersion(Record):
    """A published version."""

    number: Annotated[int, "Its number."]
    path: Annotated[str, "Its folder."]
    rolled_back_to: Annotated[
        int | None, "Version whose model it holds since a rollback; null if a run published it."
    ]


class Runs(Document):
    """The runs of an output folder."""

    out: Annotated[str, "The output folder."]
    runs: Annotated[list[ListedRun], "The runs of the folder, the newest last."]
    newest_version: Annotated[
        NewestVersion | None,
        "The newest intact version where the last run publishes; servers load it. Null if none.",
    ]


class ComparedRun(Record):
    """One of two runs."""

    run: Annotated[str, "Name of the folder of the run."]
    folder: Annotated[str, "Path of the folder of the run."]
    status: Annotated[Status, "How the run ended."]
    verdict: Annotated[str | None, "The decision as a sentence."]
    accuracy: Annotated[float | None, "Accuracy of the gate."]
    ci95: Annotated[Interval | None, "Wilson interval of the accuracy, 95 %."]
    version: Annotated[int | None, "Version that the run published."]


class Pair(Record):
    """A metric of both runs."""

    a: Annotated[float | None, "The value of the first run."]
    b: Annotated[float | None, "The value of the second run."]


class Paired(Record):
    """Both models on the images that both predicted."""

    images: Annotated[int, "Number of images that both predicted."]
    a: Annotated[float, "Accuracy of the first model on these images."]
    b: Annotated[float, "Accuracy of the second model on these images."]
    both: Annotated[int, "Images that both predict correctly."]
    only_a: Annotated[int, "Images that only the first model predicts correctly."]
    only_b: Annotated[int, "Images that only the second model predicts correctly."]
    neither: Annotated[int, "Images that both predict wrongly."]
    difference: Annotated[float, "Accuracy of the second model minus that of the first."]
    ci95: Annotated[Interval, "95 % interval of the difference."]
    p_value: Annotated[float, "p-value of McNemar's exact test."]


class Disagreement(Record):
    """An image that only one model predicts correctly."""

    split: Annotated[str, "Split of the image."]
    path: Annotated[str, "Path in the source."]
    label: Annotated[str, "Label of the image."]
    predicted: Annotated[str, "What the other model predicts."]
    image_hash: Annotated[str, "SHA-256 of the file."]


class RunComparison(Document):
    """The comparison of two runs."""

    a: Annotated[ComparedRun, "The first run."]
    b: Annotated[ComparedRun, "The second run."]
    configuration: Annotated[list[Change], "Settings that differ."]
    data: Annotated[list[Change], "Numbers of images that differ."]
    metrics: Annotated[
        dict[str, dict[str, Pair]],
        "Metrics by split and name; if folds decided, `folds` is one of the splits.",
    ]
    paired: Annotated[
        dict[str, Paired], "The accuracies of both models on the same images, by split."
    ]
    paired_missing: Annotated[str, "Why the images cannot be compared; empty if they can."]
    only_a: Annotated[list[Disagreement], "Images that only the first model predicts correctly."]
    only_b: Annotated[list[Disagreement], "Images that only the second model predicts correctly."]
