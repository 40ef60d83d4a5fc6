"""Compares what two runs were given, and what their models predict for the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.components.common import prediction, shares
from imgpipe.components.common.storage import integrity, records
from imgpipe.models import feature_names as names
from imgpipe.models.limits import OUTPUT
from imgpipe.pipeline.configuration.config import flat
from imgpipe.pipeline.output.past_runs import PastRun
from imgpipe.pipeline.output.run_folders import ARTIFACTS
from imgpipe.pipeline.records import runs as formats

_SPLITS = (names.VALIDATION, names.TEST)
_METRICS = ("accuracy", "loss", "ece")
_FOLDS = "folds"  # name of the folds beside those of the splits


def compare(first: PastRun, second: PastRun) -> formats.RunComparison:
    """Compare a run, called ``a`` in the result, with a second one, called ``b``."""
    pairs: dict[str, formats.Paired] = {}
    only_a: list[formats.Disagreement] = []
    only_b: list[formats.Disagreement] = []
    folders, missing = _folders(first, second)
    for split in _SPLITS if folders else ():
        a, b = (
            dict(_predictions(folder, split, run))
            for folder, run in zip(folders, (first, second), strict=True)
        )
        # An image whose label was changed in between would count as a mistake of one of the models.
        common = [key for key in a if key in b and a[key].image.label == b[key].image.label]
        if not common:
            continue
        only_a += _only_first(a, b, common)
        only_b += _only_first(b, a, common)
        correct = [(a[key].correct, b[key].correct) for key in common]
        pairs[split] = paired(
            both=correct.count((True, True)),
            only_a=correct.count((True, False)),
            only_b=correct.count((False, True)),
            neither=correct.count((False, False)),
        )
    if not pairs:
        missing = missing or "the runs have no labelled image of validation or test in common"
    return formats.RunComparison(
        a=_identity(first),
        b=_identity(second),
        configuration=configuration_changes(first, second),
        data=data_changes(first, second),
        metrics=_metrics(first, second),
        paired=pairs,
        paired_missing=missing,
        only_a=only_a,
        only_b=only_b,
    )


def configuration_changes(first: PastRun, second: PastRun) -> list[formats.Change]:
    """Return the settings that differ, except those that only name folders for outputs."""
    from imgpipe.pipeline.configuration.config import Config, marked

    # A run does not write settings that are not set.
    unset = {name for name, value in flat(Config().model_dump()) if value is None}
    return [
        change
        for change in _differing(first.config, second.config)
        if change.name not in marked(OUTPUT)
        # All other settings are in both files, unless one of these cannot be read.
        and (change.name in unset or (change.name in first.config and change.name in second.config))
    ]


def data_changes(first: PastRun, second: PastRun) -> list[formats.Change]:
    """Return the counts that differ: kept images of each class, rejected and relabelled images."""
    return _differing(_counts(first), _counts(second))


def _counts(run: PastRun) -> dict[str, int]:
    if run.summary is None or not run.summary.data.images:
        return {}
    found = run.summary.data
    others = {"rejected": found.rejected, "relabelled": sum(found.overrides.values())}
    return {f"images of {name}": count for name, count in run.by_class.items()} | others


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[formats.Change]:
    return [
        formats.Change(name=name, before=first.get(name), after=second.get(name))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def paired(both: int, only_a: int, only_b: int, neither: int) -> formats.Paired:
    """Compare two models by how many images both, only one, or neither classifies correctly."""
    images = both + only_a + only_b + neither
    return formats.Paired(
        images=images,
        a=(both + only_a) / images,
        b=(both + only_b) / images,
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=neither,
        difference=(only_b - only_a) / images,
        ci95=list(shares.difference(only_a, only_b, images)),
        p_value=shares.mcnemar(only_a, only_b),
    )


def _identity(run: PastRun) -> formats.ComparedRun:
    return formats.ComparedRun(
        run=run.name,
        folder=str(run.folder),
        status=run.status,
        verdict=run.summary and run.summary.verdict,
        accuracy=run.accuracy,
        ci95=run.gate.ci95,
        version=run.version,
    )


def _metrics(first: PastRun, second: PastRun) -> dict[str, dict[str, formats.Pair]]:
    """Return the values of both runs by split and metric, for the splits that one run has.

    Where the folds decided about a run, "folds" stands among the splits, with their mean accuracy.
    """
    a, b = (run.summary.metrics if run.summary else {} for run in (first, second))
    means = [run.folds and run.folds.mean for run in (first, second)]
    by_folds = {_FOLDS: {"accuracy": formats.Pair(a=means[0], b=means[1])}} if any(means) else {}
    return by_folds | {
        split: {
            metric: formats.Pair(
                a=getattr(a.get(split), metric, None), b=getattr(b.get(split), metric, None)
            )
            for metric in _METRICS
        }
        for split in _SPLITS
        if split in a or split in b
    }


@dataclass(frozen=True)
class _Predicted:
    """A labelled image, with the most probable class, also where the model answers "unknown"."""

    image: formats.Disagreement
    correct: bool


def _folders(first: PastRun, second: PastRun) -> tuple[list[str], str]:
    """Return the folders of the predictions of both runs, or why there are none."""
    found = []
    for run in (first, second):
        uri = run.artifact("Predictor", "predictions")
        if run.artifacts is None:
            why = f"recorded no artifacts: it made none, or its {ARTIFACTS} is damaged"
            return [], f"run {run.name} {why}"
        if not uri or not Path(uri).is_dir():
            return (
                [],
                f"run {run.name} has no predictions: it made none, or they were removed (run.keep)",
            )
        if what := integrity.damage(Path(uri), complete=True):
            return [], f"the predictions of run {run.name} are damaged: {what}"
        found.append(uri)
    return found, ""


def _only_first(
    first: Mapping[str, _Predicted], second: Mapping[str, _Predicted], keys: list[str]
) -> Iterator[formats.Disagreement]:
    """Yield the images that the first model alone classifies correctly."""
    for key in keys:
        if first[key].correct and not second[key].correct:
            yield first[key].image.model_copy(update={"predicted": second[key].image.predicted})


def _predictions(uri: str, split: str, run: PastRun) -> Iterator[tuple[str, _Predicted]]:
    """Yield the prediction for each labelled image of a split, by the hash of its content."""
    classes = run.summary.model.classes if run.summary else []
    for example in records.iterate(uri, split):
        label = records.text(example, names.LABEL)
        if label:
            best = prediction.read(example).predicted
            # A run that was killed left no summary, so that its class names are not known.
            served = records.text(example, names.PREDICTED)
            image = formats.Disagreement(
                split=split,
                path=records.text(example, names.PATH),
                label=label,
                predicted=classes[best] if best < len(classes) else served,
                image_hash=records.text(example, names.IMAGE_HASH),
            )
            correct = best == records.integer(example, names.LABEL_INDEX, -1)
            yield image.image_hash, _Predicted(image, correct)
