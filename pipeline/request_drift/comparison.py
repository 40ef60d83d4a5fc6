"""Compares the requests of one version with its training data, property by property.

TensorFlow Data Validation (TFDV) computes the distances, as it does for DataGate. Images are
compared with the statistics of the training data under the drift limits of the accepted schema.
Predictions are compared with the model's predictions on the validation split. This module imports
TFDV, which has to be imported after TFX.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2

from imgpipe.components.common import shares
from imgpipe.components.data_gate import drift
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.feature_distribution import FAR_SHARE
from imgpipe.pipeline.request_drift.log import VersionRequests
from imgpipe.pipeline.request_drift.reference import Blessed
from imgpipe.pipeline.request_drift.unfamiliar_images import NONE_LOOKED_AT, Share

#: With fewer answers, or fewer different images, nothing is judged: chance would decide.
FEWEST = 50
CONFIDENCE = "confidence"
_CONFIDENCE_LIMIT = 0.3  # Jensen-Shannon divergence in bits, as for the measurements of images
#: Properties that are shown but not judged: a phone's images are larger than those of most data
#: sets, and that alone is not drift.
SHOWN = (names.WIDTH, names.HEIGHT, names.BYTE_SIZE)
_NEVER = 1.0  # no Jensen-Shannon divergence in bits is greater
_TRAINING = "training data"
UNFAMILIAR = "features unlike the training data"
FAR = "features far from the training data"
#: Share of the requests that may be of another kind, on top of what chance may show. With it, none
#: of 150 samples of held-out images was over its limit by its features; of 200 mixtures with 9 %
#: of images from another set, 190 were.
MIXTURE_LIMIT = 0.02
_SIGMAS = 3.0  # standard deviations of a share around the one that is expected
_LEAST_CONFIDENT = 0.02  # quantile of the confidence on the validation split


@dataclass(frozen=True)
class PropertyComparison:
    """The comparison of one property."""

    subject: str  # "pictures" or "predictions"
    feature: str
    reference: str  # what the property is compared with, as shown to people
    was: str
    now: str
    measure: str  # the kind of distance
    distance: float
    limit: float | None  # None if the property is shown but not judged

    @property
    def over(self) -> bool:
        """Whether the distance is over the limit."""
        return self.limit is not None and self.distance > self.limit


@dataclass(frozen=True)
class VersionComparison:
    """The judged requests of one version."""

    requests: VersionRequests
    comparisons: tuple[PropertyComparison, ...]
    notes: tuple[str, ...]  # what was not compared, and why
    unknown_was: float | None  # share of "unknown" on the validation split, 0..1

    @property
    def judged(self) -> bool:
        """Whether at least one property was judged."""
        return any(found.limit is not None for found in self.comparisons)

    @property
    def over(self) -> tuple[PropertyComparison, ...]:
        """The comparisons whose distance is over the limit."""
        return tuple(found for found in self.comparisons if found.over)


def compare(
    requests: VersionRequests,
    measured: Sequence[Mapping[str, Any]],
    blessed: Blessed,
    unfamiliar: Share,
    far: Share = NONE_LOOKED_AT,
) -> VersionComparison:
    """Compare the requests of one version with its reference.

    Args:
        requests: The requests and answers of the version.
        measured: Measurements of the different images in the requests
            (`images.MeasuredImages.rows`). May be empty.
        blessed: Statistics and predictions that the version was blessed with.
        unfamiliar: Share of the images whose features are unlike those of the training data.
        far: Share of the images whose features are far from those of the training data.

    Returns:
        All comparisons, with notes on what could not be compared.

    Raises:
        ResourceError: The statistics beside the version are not those of its training data.
    """
    notes = []
    comparisons: list[PropertyComparison] = []
    if requests.answers < FEWEST:
        notes.append(f"{requests.answers:,} answers are too few to compare: {FEWEST} are needed")
    else:
        comparisons += _predictions(requests, blessed, notes)
    if not requests.images:
        notes.append("the log holds no images of it, so images were not compared")
    elif len(measured) < FEWEST:
        notes.append(
            f"{len(measured):,} different images are too few to compare: {FEWEST} are needed"
        )
    else:
        comparisons += _images(measured, blessed)
        comparisons += _unfamiliar(unfamiliar, blessed, notes)
        if blessed.features is not None and far.of >= FEWEST:
            comparisons.append(far_images(far, blessed.features.held_out))
    unknown = None
    if blessed.predictions is not None:
        unknown = blessed.predictions.labels.count(names.UNKNOWN) / len(blessed.predictions.labels)
    return VersionComparison(requests, tuple(comparisons), tuple(notes), unknown)


def _images(measured: Sequence[Mapping[str, Any]], blessed: Blessed) -> list[PropertyComparison]:
    reference = blessed.statistics.get(names.TRAIN)
    if reference is None or not drift.image_count(reference):
        raise ResourceError(
            f"the statistics beside version {blessed.version.number} are not those of its training "
            "data. Run `imgpipe run` and serve the version that it publishes."
        )
    limits = drift.with_comparators(blessed.schema)
    for feature in limits.feature:
        # TFDV computes a distance only where there is a limit; this one is never exceeded. A limit
        # that people have written into their schema stays.
        if feature.name in SHOWN and not feature.HasField("drift_comparator"):
            feature.drift_comparator.jensen_shannon_divergence.threshold = _NEVER
    columns = {name: [row[name] for row in measured] for name in measured[0]}
    return _moved("pictures", _TRAINING, columns, reference, limits)


def _unfamiliar(now: Share, blessed: Blessed, notes: list[str]) -> list[PropertyComparison]:
    """Compare the shares of images, new and held out, that are unlike the training data."""
    known = blessed.features
    if known is None:
        notes.append(
            "no feature distribution is stored with the model (too few images): "
            "the share of images of another kind is not known"
        )
        return []
    if now.of < FEWEST:
        return []
    was = Share(known.held_out_above, known.held_out)
    return [_mixed("pictures", UNFAMILIAR, "held-out images", was, now)]


def far_images(now: Share, held_out: int) -> PropertyComparison:
    """Compare the share of images far from the training data with the one that is expected.

    The few held-out images of a small data set say little about a share of 1 %, but their highest
    scores show how fast the scores thin out. With 140 of them, this found 83 % of 240 mixtures with
    4 % of images from another set, where `_unfamiliar` found 17 %.
    """
    usual = max(FAR_SHARE, 0.5 / held_out)  # no smaller share can be known
    # The standard deviation of a share is that of a binomial distribution.
    chance = _SIGMAS * math.sqrt(usual * (1 - usual) / now.of)
    distance = max(now.value - FAR_SHARE, 0.0)
    words = f"{FAR_SHARE:.3f} expected", now.words()
    limit = MIXTURE_LIMIT + chance
    return PropertyComparison(
        "pictures", FAR, "held-out images", *words, "share grew by", distance, limit
    )


def _mixed(
    subject: str, feature: str, reference: str, was: Share, now: Share
) -> PropertyComparison:
    """Compare a share that grows when some of the requests are of another kind."""
    limit = MIXTURE_LIMIT + now.by_chance(was)
    distance = max(now.value - was.value, 0.0)
    words = was.words(), now.words()
    return PropertyComparison(subject, feature, reference, *words, "share grew by", distance, limit)


def _predictions(
    requests: VersionRequests, blessed: Blessed, notes: list[str]
) -> list[PropertyComparison]:
    # TFDV computes statistics from values, not from their counts.
    columns: dict[str, Any] = {names.LABEL: list(requests.labels.elements())}
    limits, validation = _limits(blessed.schema), blessed.predictions
    if validation is None:
        notes.append(f"{blessed.missing}: confidence was not compared")
        # The statistics of the data have labels, but no answers.
        split = names.VALIDATION if names.VALIDATION in blessed.statistics else names.TRAIN
        reference = blessed.statistics[split]
        return _moved("predictions", f"labels of {split}", columns, reference, limits)
    columns[CONFIDENCE] = np.array(requests.confidence, np.float32)
    reference = _statistics({names.LABEL: validation.labels, CONFIDENCE: validation.confidence})
    moved = _moved("predictions", names.VALIDATION, columns, reference, limits)
    return [*moved, _low_confidence(requests, validation.confidence)]


def _low_confidence(requests: VersionRequests, validation: np.ndarray) -> PropertyComparison:
    """Compare the shares of answers below nearly all confidences on the validation split."""
    least = float(np.quantile(validation, _LEAST_CONFIDENT))
    was = Share(int((validation < least).sum()), len(validation))
    now = Share(int((np.asarray(requests.confidence) < least).sum()), requests.answers)
    feature = f"{CONFIDENCE} under {shares.below(least, 1)}"
    return _mixed("predictions", feature, names.VALIDATION, was, now)


def _moved(
    subject: str,
    where: str,
    columns: Mapping[str, Any],
    reference: drift.Statistics,
    limits: schema_pb2.Schema,
) -> list[PropertyComparison]:
    """Compare the distribution of each property that has a limit."""
    return [
        PropertyComparison(
            subject,
            found.feature,
            where,
            found.expected,
            found.seen,
            found.measure,
            found.distance,
            None if found.feature in SHOWN and found.limit >= _NEVER else found.limit,
        )
        for found in drift.feature_distances("drift", _statistics(columns), reference, limits)
    ]


def _limits(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """Limits of the predictions: labels as in the accepted schema, and the confidence."""
    limits = schema_pb2.Schema()
    for feature in drift.with_comparators(schema).feature:
        if feature.name == names.LABEL:
            label = limits.feature.add(name=names.LABEL, type=schema_pb2.BYTES)
            label.drift_comparator.CopyFrom(feature.drift_comparator)
    confidence = limits.feature.add(name=CONFIDENCE, type=schema_pb2.FLOAT)
    confidence.drift_comparator.jensen_shannon_divergence.threshold = _CONFIDENCE_LIMIT
    return limits


def _statistics(columns: Mapping[str, Any]) -> drift.Statistics:
    import pandas as pd
    import tensorflow_data_validation as tfdv

    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(dict(columns)))


def verdict(compared: Iterable[VersionComparison], images: bool) -> tuple[bool | None, str]:
    """Decide whether there is drift, from the comparison of each version.

    Args:
        compared: Results of `compare`.
        images: Whether the log holds images.

    Returns:
        Whether there is drift, None if nothing could be judged, and a sentence that says so.
    """
    found = list(compared)
    drifted = [
        f"version {one.requests.version} receives requests unlike its training data: "
        f"{', '.join(map(_named, one.over))}"
        for one in found
        if one.over
    ]
    if drifted:
        return True, f"drift: {'; '.join(drifted)}"
    judged = [one for one in found if one.judged]
    answers = f"{sum(one.requests.answers for one in judged or found):,} answers"
    if not judged:
        return None, f"not compared: {answers} in the log, {FEWEST} of a version are needed"
    numbers = ", ".join(str(one.requests.version) for one in judged)
    compares = sum(c.limit is not None for one in judged for c in one.comparisons)
    where = "" if images else " in the predictions"
    return False, (
        f"no drift{where}: {answers} of version {numbers}, none of {compares} comparisons over its "
        "limit"
    )


def _named(comparison: PropertyComparison) -> str:
    name = "labels" if comparison.feature == names.LABEL else comparison.feature.replace("_", " ")
    return f"{name} ({comparison.was} → {comparison.now})"
