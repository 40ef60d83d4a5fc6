"""What `imgpipe runs` and `imgpipe compare` say about past runs: the list, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common import images
from imgpipe.components.common.answer_table import PREDICTED_SPLITS, AnsweredImage, AnswerTable
from imgpipe.components.common.storage import manifest
from imgpipe.components.data_gate import changes
from imgpipe.components.data_gate.changes import Changes
from imgpipe.components.run_record.metrics import SplitMetrics
from imgpipe.components.run_record.result import Result
from imgpipe.models.files.json_object import SCHEMA, SchemaNumber
from imgpipe.models.finding import Finding
from imgpipe.models.head.certainty import PairedAnswers, paired_answers
from imgpipe.models.settings.section import OUTPUT
from imgpipe.pipeline.output.run import Run

_METRICS = ("accuracy", "loss", "ece")


class Change(TypedDict):
    """A value that differs between two runs."""

    name: Annotated[str, "A setting as `section.key`, or the name of a count."]
    before: Annotated[Any, "The value in the first run; null where it has none."]
    after: Annotated[Any, "The value in the second run; null where it has none."]


class NewestVersion(TypedDict):
    """A published version."""

    number: Annotated[int, "Its number."]
    path: Annotated[str, "Its folder."]
    rolled_back_to: Annotated[
        int | None, "Version whose model it holds since a rollback; null if a run published it."
    ]


class RunList(TypedDict):
    """The runs of an output folder."""

    schema: SchemaNumber
    out: Annotated[str, "The output folder."]
    runs: Annotated[list[Result], "The results of the runs, the newest last."]
    next: Annotated[list[Finding], "The commands that go on from the newest run."]
    newest_version: Annotated[
        NewestVersion | None,
        "The newest intact version where the last run publishes; servers load it. Null if none.",
    ]
    withdrawn: Annotated[list[int], "Versions whose models a rollback has withdrawn."]


class MetricPair(TypedDict):
    """A metric of both runs."""

    a: Annotated[float | None, "The value of the first run."]
    b: Annotated[float | None, "The value of the second run."]


class RunComparison(TypedDict):
    """The comparison of two runs."""

    schema: SchemaNumber
    a: Annotated[str, "Folder of the first run."]
    b: Annotated[str, "Folder of the second run."]
    configuration: Annotated[list[Change], "Settings that differ."]
    data: Annotated[list[Change], "Numbers of images that differ."]
    images: Annotated[
        Changes | None, "What changed in the images; null if those of a run were removed."
    ]
    choices: Annotated[
        list[Change],
        "What differs of the models, decided by the images or by settings: features, size of the "
        "images, when these were chosen, and what was trained; see `bank` and `training` of the "
        "result.",
    ]
    metrics: Annotated[
        dict[str, dict[str, MetricPair]],
        "Metrics by name, of what decided (`folds` or `validation`) and of `test`.",
    ]
    paired: Annotated[
        dict[str, PairedAnswers], "The accuracies of both models on the same images, by split."
    ]
    paired_missing: Annotated[str, "Why the images cannot be compared; empty if they can."]
    only_a: Annotated[
        list[AnsweredImage],
        "Images that only the first model predicts correctly, with the answers of the second.",
    ]
    only_b: Annotated[
        list[AnsweredImage],
        "Images that only the second model predicts correctly, with the answers of the first.",
    ]


def list_runs(out: Path, runs: Sequence[Run], last: int) -> RunList:
    """Describe the newest runs of an output folder.

    Args:
        out: The output folder.
        runs: All runs of the folder, at least one, the oldest first.
        last: Number of runs that are described.
    """
    return {
        "schema": SCHEMA,
        "out": str(out),
        "runs": [run.result for run in runs[-last:]],
        "next": runs[-1].next,
        "newest_version": _newest_version(runs[-1]),
        "withdrawn": _withdrawn(runs[-1]),
    }


def _withdrawn(last: Run) -> list[int]:
    """Return the numbers of the versions whose models a rollback has withdrawn."""
    identities = set(manifest.withdrawn(last.versions_folder))
    return [
        version.number
        for version in manifest.readable(last.versions_folder)
        if identities and version.identity in identities
    ]


def _newest_version(last: Run) -> NewestVersion | None:
    """Describe the version that a server loads, where the last run publishes."""
    newest = manifest.latest(last.versions_folder)
    if newest is None:
        return None
    return {
        "number": newest.number,
        "path": str(newest.folder),
        "rolled_back_to": newest.manifest.get("rolled_back_to"),
    }


def compare(first: Run, second: Run) -> RunComparison:
    """Compare a run, called `a` in the result, with a second one, called `b`."""
    pairs: dict[str, PairedAnswers] = {}
    only_a: list[AnsweredImage] = []
    only_b: list[AnsweredImage] = []
    tables, missing = _answers(first, second)
    if tables:
        a, b = _same_images(*tables)
        for split in PREDICTED_SPLITS:
            in_both = (a.splits == split) & (b.splits == split)
            if in_both.any():
                in_a = a.select(in_both)
                in_b = b.select(in_both)
                pairs[split] = paired_answers(in_a.right, in_b.right, in_a.families)
                only_a += in_b.described(np.flatnonzero(in_a.right & ~in_b.right))
                only_b += in_a.described(np.flatnonzero(in_b.right & ~in_a.right))
    if not pairs:
        missing = missing or "the runs have no labelled image of validation or test in common"
    return {
        "schema": SCHEMA,
        "a": str(first.folder),
        "b": str(second.folder),
        "configuration": _changed_settings(first, second),
        "data": _differing(_counts(first), _counts(second)),
        "images": _changes(first, second),
        "choices": _differing(_choices(first), _choices(second)),
        "metrics": _metrics(first, second),
        "paired": pairs,
        "paired_missing": missing,
        "only_a": only_a,
        "only_b": only_b,
    }


def _changed_settings(first: Run, second: Run) -> list[Change]:
    """Return the settings that differ, except those that only name folders for outputs."""
    from imgpipe.models.settings.section import flat, marked
    from imgpipe.models.settings.settings import Settings

    # A run does not write settings that are not set.
    unset = {name for name, value in flat(Settings().model_dump()) if value is None}
    unset.add("evaluate.threshold")
    settings = dict(flat(first.config))
    settings_now = dict(flat(second.config))
    # All other settings are in both files, unless one of these cannot be read.
    in_both = settings.keys() & settings_now.keys()
    comparable = (unset | in_both) - set(marked(Settings, OUTPUT))
    differing = _differing(settings, settings_now)
    return [change for change in differing if change["name"] in comparable]


def _changes(first: Run, second: Run) -> Changes | None:
    """Compare the images of both runs; None if the table of one was removed."""
    uris = [run.quarantine for run in (first, second)]
    kept = [images.kept(str(uri)) for uri in uris if uri is not None]
    return changes.compare(*kept) if len(kept) == len(uris) else None


def _counts(run: Run) -> dict[str, int]:
    """Return the kept images of each class, and the rejected and the relabelled images."""
    data = run.result["data"]
    if data is None:
        return {}
    counts = {f"images of {name}": count for name, count in run.by_class.items()}
    relabelled = data["overrides"]["applied"].get("relabel", 0)
    return counts | {"rejected": data["rejected"], "relabelled": relabelled}


def _choices(run: Run) -> dict[str, object]:
    training = run.result["training"]
    bank = run.result["bank"]
    if training is None:
        return {}
    decision = bank["decision"] if bank is not None else None
    return {
        "features of the head": training["features"],
        "side of the images in pixels": run.result["image_size"],
        "when these were chosen": decision["time"] if decision is not None else "",
        "trained": training["trained"],
    }


def _differing(first: Mapping[str, object], second: Mapping[str, object]) -> list[Change]:
    return [
        {"name": name, "before": first.get(name), "after": second.get(name)}
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def _metrics(first: Run, second: Run) -> dict[str, dict[str, MetricPair]]:
    """Return the values of both runs by what was measured, and by the name of the metric."""
    return {
        split: {
            name: {
                "a": _value(first.metrics.get(split), name),
                "b": _value(second.metrics.get(split), name),
            }
            for name in _METRICS
        }
        for split in dict.fromkeys([*first.metrics, *second.metrics])
    }


def _value(metrics: SplitMetrics | None, name: str) -> float | None:
    """Return a metric of a split; None if the split was not evaluated."""
    value: float | None = metrics[name] if metrics is not None else None  # type: ignore[literal-required]
    return value


def _answers(first: Run, second: Run) -> tuple[list[AnswerTable], str]:
    """Return the answers of both runs, or why there are none."""
    tables = []
    for run in (first, second):
        uri = run.artifact("ImageEvaluator", "predictions")
        if not run.result["classes"] or not uri or run.quarantine is None:
            why = "it made or recorded none, or they were removed (run.keep)"
            return [], f"run {run.name} has no predictions: {why}"
        kept = images.kept(str(run.quarantine))
        tables.append(AnswerTable.read(uri, run.result["classes"], kept))
    return tables, ""


def _same_images(a: AnswerTable, b: AnswerTable) -> tuple[AnswerTable, AnswerTable]:
    """Return the rows of the images that two tables share, with the same label, in one order.

    An image whose label was changed in between would count as a mistake of one of the models.
    """
    _, in_a, in_b = np.intersect1d(a.hashes, b.hashes, return_indices=True)
    a = a.select(in_a)
    b = b.select(in_b)
    same = np.array(_labels(a), np.object_) == np.array(_labels(b), np.object_)
    return a.select(same), b.select(same)


def _labels(answers: AnswerTable) -> list[str]:
    return [answers.vocabulary[label] for label in answers.labels]
