"""Compares the requests of one version with its training data, property by property.

TensorFlow Data Validation (TFDV) computes the distances, as it does for DataGate. Images are
compared with the statistics of the training data under the drift limits of the accepted schema.
Predictions are compared with the model's predictions on the validation split. This module imports
TFDV, which has to be imported after TFX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import schema_pb2
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.formatting import text_below
from imgpipe.components.data_gate import drift
from imgpipe.components.data_gate.drift import FeatureDistance
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.feature_distribution import FAR_SHARE
from imgpipe.models.names import feature_names as names
from imgpipe.pipeline.request_drift.log import VersionRequests
from imgpipe.pipeline.request_drift.reference import Reference
from imgpipe.pipeline.request_drift.unfamiliar_images import NONE_LOOKED_AT, Share

#: With fewer answers, or fewer different images, nothing is judged: chance would decide.
FEWEST = 50
CONFIDENCE = "confidence"
_CONFIDENCE_LIMIT = 0.3  # Jensen-Shannon divergence in bits, as for the measurements of images
#: Properties that are shown but not judged: a phone's images are larger than those of most data
#: sets, and that alone is not drift.
SHOWN = (names.WIDTH, names.HEIGHT, names.BYTE_SIZE)
_NEVER = 1.0  # no Jensen-Shannon divergence in bits is greater
_HELD_OUT = "held-out images"
_GROWTH = "share grew by"  # the measure of shares
UNFAMILIAR = "features unlike the training data"
FAR = "features far from the training data"
#: Share of the requests that may be of another kind, on top of what chance may show; see
#: docs/benchmarks.md, "Constants of the code".
MIXTURE_LIMIT = 0.02
_SIGMAS = 3.0  # standard deviations of a share around the one that is expected
_LEAST_CONFIDENT = 0.02  # quantile of the confidence on the validation split

Subject: TypeAlias = Literal["images", "predictions"]
Confidences: TypeAlias = npt.NDArray[np.float32]
#: Values of images or answers by the name of the property.
Columns: TypeAlias = Mapping[str, Sequence[object] | Confidences]


class PropertyComparison(TypedDict):
    """The comparison of one property."""

    subject: Annotated[Subject, "What has the property."]
    feature: Annotated[str, "The property."]
    reference: Annotated[str, "The data that the requests are compared with."]
    was: Annotated[str, "Value of the property in that data."]
    now: Annotated[str, "Value of the property in the requests."]
    measure: Annotated[str, "Kind of distance."]
    distance: Annotated[float, "The distance."]
    limit: Annotated[
        float | None, "Largest distance that is not drift; null if the property is only shown."
    ]
    over: Annotated[bool, "Whether the distance is over the limit."]


class VersionComparison(TypedDict):
    """The requests to one version."""

    version: Annotated[int, "Number of the version."]
    answers: Annotated[int, "Number of answers of the version."]
    different_images: Annotated[int, "Number of different images in the requests."]
    first: Annotated[str, "Time of the first request."]
    last: Annotated[str, "Time of the last request."]
    labels: Annotated[dict[str, int], "Number of answers by label."]
    unknown: Annotated[float, "Share of answers that are unknown."]
    unknown_on_validation: Annotated[
        float | None, "Share of answers that are unknown on the validation split."
    ]
    comparisons: Annotated[list[PropertyComparison], "Comparisons of all properties."]
    notes: Annotated[list[str], "What was not compared, and why."]


def compare(
    requests: VersionRequests,
    measured: Sequence[Mapping[str, object]],
    reference: Reference,
    unfamiliar: Share = NONE_LOOKED_AT,
    far: Share = NONE_LOOKED_AT,
) -> VersionComparison:
    """Compare the requests of one version with its reference.

    Args:
        requests: The requests and answers of the version.
        measured: Measurements of the different images in the requests
            (`images.MeasuredImages.rows`). None has to be measured where there are fewer than
            `FEWEST`.
        reference: Statistics and predictions of the version.
        unfamiliar: Share of the images whose features are unlike those of the training data.
        far: Share of the images whose features are far from those of the training data.

    Returns:
        All comparisons, with notes on what could not be compared.

    Raises:
        ResourceError: The statistics beside the version are not those of its training data.
    """
    notes: list[str] = []
    comparisons: list[PropertyComparison] = []
    if requests.answers < FEWEST:
        notes.append(f"{requests.answers:,} answers are too few to compare: {FEWEST} are needed")
    else:
        comparisons += _compared_predictions(requests, reference, notes)
    if not requests.images:
        notes.append("the log holds no images of it, so images were not compared")
    elif len(requests.locations) < FEWEST:
        different = len(requests.locations)
        notes.append(f"{different:,} different images are too few to compare: {FEWEST} are needed")
    elif len(measured) < FEWEST:
        notes.append(
            f"{len(measured):,} different images that can be decoded are too few to compare: "
            f"{FEWEST} are needed"
        )
    else:
        comparisons += _compared_images(measured, reference)
        comparisons += _compared_features(unfamiliar, far, reference, notes)
    unknown = None
    if reference.predictions is not None:
        labels = reference.predictions.labels
        unknown = labels.count(names.UNKNOWN) / len(labels)
    return {
        "version": requests.version,
        "answers": requests.answers,
        "different_images": len(requests.locations),
        "first": _time(requests.first),
        "last": _time(requests.last),
        "labels": dict(requests.labels.most_common()),
        "unknown": requests.unknown,
        "unknown_on_validation": unknown,
        "comparisons": comparisons,
        "notes": notes,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def exceeded(version: VersionComparison) -> list[PropertyComparison]:
    """Return the comparisons whose distance is over the limit."""
    return [comparison for comparison in version["comparisons"] if comparison["over"]]


def is_judged(version: VersionComparison) -> bool:
    """Whether at least one property was judged."""
    return any(comparison["limit"] is not None for comparison in version["comparisons"])


def _comparison(subject: Subject, reference: str, measured: FeatureDistance) -> PropertyComparison:
    shown = measured.feature in SHOWN and measured.limit >= _NEVER
    return {
        "subject": subject,
        "feature": measured.feature,
        "reference": reference,
        "was": measured.expected,
        "now": measured.seen,
        "measure": measured.measure,
        "distance": measured.distance,
        "limit": None if shown else measured.limit,
        "over": not shown and measured.distance > measured.limit,
    }


def _compared_images(
    measured: Sequence[Mapping[str, object]], reference: Reference
) -> list[PropertyComparison]:
    statistics = reference.statistics.get(names.TRAIN)
    if statistics is None or not drift.image_count(statistics):
        raise ResourceError(
            f"the statistics beside version {reference.version.number} are not those of its "
            "training data. Run `imgpipe run` and serve the version that it publishes."
        )
    limits = drift.with_comparators(reference.schema)
    for feature in limits.feature:
        # TFDV computes a distance only where there is a limit; this one is never exceeded. A limit
        # that people have written into their schema stays.
        if feature.name in SHOWN and not feature.HasField("drift_comparator"):
            feature.drift_comparator.jensen_shannon_divergence.threshold = _NEVER
    columns = {name: [row[name] for row in measured] for name in measured[0]}
    return _distributions("images", "training data", columns, statistics, limits)


def _compared_features(
    unfamiliar: Share, far: Share, reference: Reference, notes: list[str]
) -> list[PropertyComparison]:
    """Compare two shares of images, new and held out, that are unlike the training data.

    The share of images that are far finds more. The share of images that are unlike finds some that
    it misses, where the held-out images are too few to extrapolate the distance; see
    docs/benchmarks.md, "Constants of the code".
    """
    distribution = reference.features
    if distribution is None:
        notes.append(
            "no feature distribution is stored with the model (too few images): "
            "the share of images of another kind is not known"
        )
        return []
    comparisons = []
    if unfamiliar.of >= FEWEST:
        was = Share(distribution.held_out_above, distribution.held_out)
        comparisons.append(_grown("images", UNFAMILIAR, _HELD_OUT, was, unfamiliar))
    if far.of >= FEWEST:
        comparisons.append(far_images(far, distribution.held_out))
    return comparisons


def far_images(now: Share, held_out: int) -> PropertyComparison:
    """Compare the share of images far from the training data with the one that is expected.

    The few held-out images of a small data set say little about a share of 1 %, but their highest
    scores show how fast the scores thin out; see docs/benchmarks.md, "Constants of the code".

    Args:
        now: Share of the images in the requests that are far from the training data.
        held_out: Number of held-out images from which the distance was extrapolated.
    """
    usual = max(FAR_SHARE, 0.5 / held_out)  # no smaller share can be known
    # The standard deviation of a share is that of a binomial distribution.
    chance = _SIGMAS * math.sqrt(usual * (1 - usual) / now.of)
    growth = max(now.value - FAR_SHARE, 0.0)
    expected = f"{FAR_SHARE:.3f} expected"
    limit = MIXTURE_LIMIT + chance
    measured = FeatureDistance(FAR, expected, now.words(), _GROWTH, growth, limit)
    return _comparison("images", _HELD_OUT, measured)


def _grown(
    subject: Subject, feature: str, reference: str, was: Share, now: Share
) -> PropertyComparison:
    """Compare a share that grows when some of the requests are of another kind."""
    growth = max(now.value - was.value, 0.0)
    limit = MIXTURE_LIMIT + now.by_chance(was)
    measured = FeatureDistance(feature, was.words(), now.words(), _GROWTH, growth, limit)
    return _comparison(subject, reference, measured)


def _compared_predictions(
    requests: VersionRequests, reference: Reference, notes: list[str]
) -> list[PropertyComparison]:
    # TFDV computes statistics from values, not from their counts.
    labels = list(requests.labels.elements())
    limits = _prediction_limits(reference.schema)
    validation = reference.predictions
    if validation is None:
        notes.append(f"{reference.missing}: confidence was not compared")
        # The statistics of the data have labels, but no answers.
        split = names.VALIDATION if names.VALIDATION in reference.statistics else names.TRAIN
        of_data = reference.statistics[split]
        columns: Columns = {names.LABEL: labels}
        return _distributions("predictions", f"labels of {split}", columns, of_data, limits)
    confidence = np.array(requests.confidence, np.float32)
    columns = {names.LABEL: labels, CONFIDENCE: confidence}
    of_validation = _statistics({names.LABEL: validation.labels, CONFIDENCE: validation.confidence})
    compared = _distributions("predictions", names.VALIDATION, columns, of_validation, limits)
    return [*compared, _low_confidence(confidence, validation.confidence)]


def _low_confidence(requested: Confidences, validation: Confidences) -> PropertyComparison:
    """Compare the shares of answers below nearly all confidences on the validation split."""
    least = float(np.quantile(validation, _LEAST_CONFIDENT))
    was = Share(int((validation < least).sum()), len(validation))
    now = Share(int((requested < least).sum()), len(requested))
    feature = f"{CONFIDENCE} under {text_below(least, 1)}"
    return _grown("predictions", feature, names.VALIDATION, was, now)


def _distributions(
    subject: Subject,
    reference: str,
    columns: Columns,
    statistics: drift.Statistics,
    limits: schema_pb2.Schema,
) -> list[PropertyComparison]:
    """Compare the distribution of each property that has a limit."""
    distances = drift.feature_distances("drift", _statistics(columns), statistics, limits)
    return [_comparison(subject, reference, measured) for measured in distances]


def _prediction_limits(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """Limits of the predictions: labels as in the accepted schema, and the confidence."""
    limits = schema_pb2.Schema()
    for feature in drift.with_comparators(schema).feature:
        if feature.name == names.LABEL:
            label = limits.feature.add(name=names.LABEL, type=schema_pb2.BYTES)
            label.drift_comparator.CopyFrom(feature.drift_comparator)
    confidence = limits.feature.add(name=CONFIDENCE, type=schema_pb2.FLOAT)
    confidence.drift_comparator.jensen_shannon_divergence.threshold = _CONFIDENCE_LIMIT
    return limits


def _statistics(columns: Columns) -> drift.Statistics:
    import pandas as pd
    import tensorflow_data_validation as tfdv

    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(dict(columns)))


def verdict(versions: Sequence[VersionComparison], images: bool) -> tuple[bool | None, str]:
    """Decide whether there is drift, from the comparison of each version.

    Args:
        versions: Results of `compare`.
        images: Whether the log holds images.

    Returns:
        Whether there is drift, None if nothing could be judged, and a sentence that says so.
    """
    drifted = [
        f"version {version['version']} receives requests unlike its training data: "
        f"{', '.join(map(_named, exceeded(version)))}"
        for version in versions
        if exceeded(version)
    ]
    if drifted:
        return True, f"drift: {'; '.join(drifted)}"
    judged_versions = [version for version in versions if is_judged(version)]
    answers = f"{sum(version['answers'] for version in judged_versions or versions):,} answers"
    if not judged_versions:
        return None, f"not compared: {answers} in the log, {FEWEST} of a version are needed"
    numbers = ", ".join(str(version["version"]) for version in judged_versions)
    limits = [row["limit"] for version in judged_versions for row in version["comparisons"]]
    compares = len(limits) - limits.count(None)
    where = "" if images else " in the predictions"
    return False, (
        f"no drift{where}: {answers} of version {numbers}, none of {compares} comparisons over its "
        "limit"
    )


def _named(comparison: PropertyComparison) -> str:
    feature = comparison["feature"]
    name = "labels" if feature == names.LABEL else feature.replace("_", " ")
    return f"{name} ({comparison['was']} → {comparison['now']})"
