"""Compares distributions: drift against the last blessed run, and skew between the splits.

TFDV computes the distances: for names the largest difference of shares (L-infinity), for numbers
the Jensen-Shannon divergence. The limits are stored in the schema, where people can read and
change them. A tolerance for random differences between small samples is added to each limit. This
module uses TFDV, which must be imported after TFX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import Histogram

from imgpipe.components.data_gate.rules import ACCEPT, Reason
from imgpipe.models import feature_names as names

Kind = Literal["drift", "skew"]
Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

#: Limits of the L-infinity distance: the largest difference of the share of one value, 0 to 1.
SHARE_LIMITS = {names.LABEL: 0.2, names.FORMAT: 0.5, names.MODE: 0.3}
#: Limits of the Jensen-Shannon divergence in bits, 0 to 1. A normal distribution that is shifted
#: by 1.3 standard deviations has 0.3. Random halves of real data sets have up to 0.12; the same
#: images darkened to 0.7 have 0.34 or more (`tests/trials/test_drift_limits.py`).
DIVERGENCE_LIMITS = {
    names.ASPECT_RATIO: 0.3,
    names.BRIGHTNESS: 0.3,
    names.CONTRAST: 0.3,
    names.ENTROPY: 0.3,
    names.SHARPNESS: 0.3,
    names.COLOUR: 0.3,
}
#: Smallest number of images, on both sides, for which distributions are compared.
MIN_IMAGES = 100
_SIGMAS = 4.0  # standard deviations of the difference of two shares near one half
_JSD_BY_CHANCE = 3.3  # × (1/n + 1/m): twice the expected value for equal distributions, ten bins
_SHOWN = 4  # values that the description of a distribution names
#: Ratio of bucket widths below which the narrower buckets are merged. Both histograms have ten
#: buckets of equal width, so that all narrow ones lie within one or two of the wide ones.
_MIN_WIDTH_RATIO = 0.1


@dataclass(frozen=True)
class FeatureDistance:
    """Distance between two distributions of one feature.

    Attributes:
        feature: Name of the feature.
        expected: Short description of the reference distribution.
        seen: Short description of the distribution that is examined.
        measure: Name of the distance, for messages.
        distance: The distance between the distributions.
        limit: Limit of the schema plus the tolerance for random differences.
    """

    feature: str
    expected: str
    seen: str
    measure: str
    distance: float
    limit: float


def with_comparators(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """Copy a schema and add the default limits to the features that have none."""
    out = schema_pb2.Schema()
    out.CopyFrom(schema)
    for feature in out.feature:
        for kind in ("drift_comparator", "skew_comparator"):
            if feature.HasField(kind):
                continue
            if share := SHARE_LIMITS.get(feature.name):
                getattr(feature, kind).infinity_norm.threshold = share
            elif divergence := DIVERGENCE_LIMITS.get(feature.name):
                getattr(feature, kind).jensen_shannon_divergence.threshold = divergence
    return out


def drift(
    now: Mapping[str, Statistics], before: Mapping[str, Statistics], schema: schema_pb2.Schema
) -> list[Reason]:
    """Find the features that changed since the last blessed run, in each split.

    Args:
        now: Statistics of this run by split.
        before: Statistics of the last blessed run by split; empty when there was none.
        schema: Schema with or without limits; default limits are added.
    """
    return _compare("drift", now, before, schema)


def skew(now: Mapping[str, Statistics], schema: schema_pb2.Schema) -> list[Reason]:
    """Find the features in which validation or test differ from train.

    Args:
        now: Statistics of this run by split.
        schema: Schema with or without limits; default limits are added.
    """
    if names.TRAIN not in now:
        return []
    others = (names.VALIDATION, names.TEST)
    return _compare("skew", now, dict.fromkeys(others, now[names.TRAIN]), schema)


def _compare(
    kind: Kind,
    now: Mapping[str, Statistics],
    references: Mapping[str, Statistics],
    schema: schema_pb2.Schema,
) -> list[Reason]:
    """Compare each split with its reference; splits without one or with few images are left out."""
    where = "the last blessed run" if kind == "drift" else names.TRAIN
    limits = with_comparators(schema)
    return [
        Reason(
            kind,
            found.feature,
            split,
            f"as in {where}: {found.expected}",
            f"{found.seen} ({found.measure} {found.distance:.2f}, at most {found.limit:.2f})",
            ACCEPT,
        )
        for split in names.SPLITS
        if split in now and split in references
        if min(image_count(now[split]), image_count(references[split])) >= MIN_IMAGES
        for found in feature_distances(kind, now[split], references[split], limits)
        if found.distance > found.limit
    ]


def feature_distances(
    kind: Kind, seen: Statistics, reference: Statistics, schema: schema_pb2.Schema
) -> list[FeatureDistance]:
    """Compute the distance for every feature that has a limit and occurs in both statistics.

    Args:
        kind: Whether the drift limits or the skew limits of the schema apply.
        seen: Statistics that are examined.
        reference: Statistics that they are compared with.
        schema: Schema with limits; see `with_comparators`.
    """
    import tensorflow_data_validation as tfdv

    n, m = image_count(seen), image_count(reference)
    seen, reference = _coarsened(seen, reference), _coarsened(reference, seen)
    # For drift TFDV takes the reference as the previous statistics. For skew the reference is the
    # training data, which comes first, and the other statistics stand for what is served.
    if kind == "drift":
        result = tfdv.validate_statistics(seen, schema, previous_statistics=reference)
    else:
        result = tfdv.validate_statistics(reference, schema, serving_statistics=seen)
    return [
        FeatureDistance(
            feature,
            description(reference, feature),
            description(seen, feature),
            _MEASURES[found.type],
            found.value,
            found.threshold + _by_chance(found.type, n, m),
        )
        for info in result.drift_skew_info
        for feature in info.path.step[:1]
        for found in (*info.drift_measurements, *info.skew_measurements)
    ]


def _coarsened(statistics: Statistics, other: Statistics) -> Statistics:
    """Copy statistics, with the other's buckets where their own are much narrower.

    TFDV assumes that the values of a bucket are spread evenly over its width. If all images are
    square, the bucket of their aspect ratio has no width, and contains no part of a bucket from
    0.97 to 1.03 of another data set. The divergence is then 1, although all images of the other
    data set may be square too.
    """
    out = Statistics()
    out.CopyFrom(statistics)
    grids = dict(_histograms(other))
    for name, histogram in _histograms(out):
        if name in grids:
            _coarsen(histogram, grids[name])
    return out


def _histograms(statistics: Statistics) -> Iterator[tuple[str, Histogram]]:
    """Name of each numeric feature, and the histogram that TFDV compares."""
    for dataset in statistics.datasets:
        for feature in dataset.features:
            for histogram in feature.num_stats.histograms:
                if histogram.type == Histogram.STANDARD and histogram.buckets:
                    yield ".".join(feature.path.step), histogram


def _width(histogram: Histogram) -> float:
    low, high = histogram.buckets[0].low_value, histogram.buckets[-1].high_value
    return (high - low) / len(histogram.buckets)


def _coarsen(histogram: Histogram, grid: Histogram) -> None:
    """Move the counts into the buckets of `grid`, which is extended on both sides as needed."""
    width, start, last = _width(grid), grid.buckets[0].low_value, grid.buckets[-1].high_value
    if not (math.isfinite(width) and math.isfinite(_width(histogram))):
        return
    if _width(histogram) >= _MIN_WIDTH_RATIO * width:
        return
    counts: dict[int, float] = {}
    for bucket in histogram.buckets:
        middle = (bucket.low_value + bucket.high_value) / 2
        index = math.floor((middle - start) / width)
        if middle == last:  # the end of the grid belongs to its last bucket
            index = len(grid.buckets) - 1
        counts[index] = counts.get(index, 0.0) + bucket.sample_count
    del histogram.buckets[:]
    for index, count in sorted(counts.items()):
        # Bounds of the grid are copied exactly, because TFDV splits buckets at every bound.
        inside = 0 <= index < len(grid.buckets)
        low = grid.buckets[index].low_value if inside else start + index * width
        high = grid.buckets[index].high_value if inside else start + (index + 1) * width
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


_Measurement = anomalies_pb2.DriftSkewInfo.Measurement
_MEASURES = {
    _Measurement.L_INFTY: "a share moved by",
    _Measurement.JENSEN_SHANNON_DIVERGENCE: "divergence",
}


def _by_chance(measure: int, n: int, m: int) -> float:
    """Tolerance for random differences between samples of n and m images."""
    if measure == _Measurement.L_INFTY:
        return _SIGMAS * math.sqrt(0.25 * (1 / n + 1 / m))
    return _JSD_BY_CHANCE * (1 / n + 1 / m)


def image_count(statistics: Statistics) -> int:
    """Return the number of images that the statistics summarise."""
    return int(sum(dataset.num_examples for dataset in statistics.datasets))


def bounds(statistics: Statistics, name: str) -> tuple[float, float] | None:
    """Smallest and largest value of the measurement `name`; None when it is absent."""
    feature = _feature(statistics, name)
    if feature is None or not feature.HasField("num_stats"):
        return None
    return feature.num_stats.min, feature.num_stats.max


def description(statistics: Statistics, name: str) -> str:
    """Describe the distribution of a feature for messages.

    Args:
        statistics: Statistics that may hold the feature.
        name: Name of the feature.

    Returns:
        The most frequent values with their shares, the mean and standard deviation of a number, or
        "absent".
    """
    feature = _feature(statistics, name)
    if feature is None:
        return "absent"
    if feature.HasField("num_stats"):
        return f"{feature.num_stats.mean:.2f} ± {feature.num_stats.std_dev:.2f}"
    buckets = feature.string_stats.rank_histogram.buckets
    total = sum(bucket.sample_count for bucket in buckets) or 1
    return ", ".join(f"{b.label} {b.sample_count / total:.2f}" for b in buckets[:_SHOWN])


def _feature(statistics: Statistics, name: str) -> statistics_pb2.FeatureNameStatistics | None:
    features = (feature for dataset in statistics.datasets for feature in dataset.features)
    return next((feature for feature in features if feature.path.step[:] == [name]), None)
