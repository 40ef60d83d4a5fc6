"""Compares distributions: drift against the last blessed run, and skew between the splits.

The distance is for names the largest difference of shares (L-infinity), for numbers the
Jensen-Shannon divergence, as in TFDV. The limits are stored in the schema, where people can read
and change them. A tolerance for random differences between small samples is added to each limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import Histogram

from imgpipe.components.data_gate.rules import FeatureDistance, against
from imgpipe.models import names
from imgpipe.models.arrays import Floats
from imgpipe.models.finding import Finding

DriftKind = Literal["drift", "skew"]
Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList
FeatureStatistics: TypeAlias = statistics_pb2.FeatureNameStatistics

#: Limits of the L-infinity distance: the largest difference of the share of one value, 0 to 1.
SHARE_LIMITS = {names.LABEL: 0.2, names.FORMAT: 0.5, names.MODE: 0.3}
#: Limits of the Jensen-Shannon divergence in bits, 0 to 1: that of a normal distribution which is
#: shifted by 1.3 standard deviations. What equal and darkened images have is in docs/benchmarks.md,
#: "Constants of the code".
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
_BUCKETS = 10  # over the values of both sides, as many as the histograms of TFDV have


def feature_distance(
    feature: str, reference: str, was: str, now: str, measure: str, distance: float, limit: float
) -> FeatureDistance:
    """Return a distance beside its limit; see `FeatureDistance` for its parts."""
    return {
        "feature": feature,
        "reference": reference,
        "was": was,
        "now": now,
        "measure": measure,
        "distance": distance,
        "limit": limit,
        "over": distance > limit,
    }


def _reason(kind: DriftKind, split: str, distance: FeatureDistance) -> Finding:
    """Return the reason against a split whose distance is over the limit."""
    return against(
        kind,
        distance["feature"],
        split,
        f"as in {distance['reference']}: {distance['was']}",
        f"{distance['now']} ({distance['measure']} {distance['distance']:.2f}, at most "
        f"{distance['limit']:.2f})",
    )


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


def changes(
    now: Mapping[str, Statistics], before: Mapping[str, Statistics], schema: schema_pb2.Schema
) -> list[Finding]:
    """Find the features that changed since the last blessed run, and those that differ from train.

    Splits without a reference or with few images are left out. `before` is empty without a blessed
    run; a schema without limits gets default limits.
    """
    held_out = (names.VALIDATION, names.TEST)
    train = dict.fromkeys(held_out, now[names.TRAIN]) if names.TRAIN in now else {}
    compared: list[tuple[DriftKind, str, Mapping[str, Statistics]]] = [
        ("drift", "the last blessed run", before),
        ("skew", names.TRAIN, train),
    ]
    limits = with_comparators(schema)
    reasons: list[Finding] = []
    for kind, where, references in compared:
        for split in names.SPLITS:
            if split not in now or split not in references:
                continue
            if min(image_count(now[split]), image_count(references[split])) < MIN_IMAGES:
                continue
            distances = feature_distances(kind, now[split], references[split], limits, where)
            reasons += [_reason(kind, split, row) for row in distances if row["over"]]
    return reasons


def feature_distances(
    kind: DriftKind,
    seen: Statistics,
    reference: Statistics,
    schema: schema_pb2.Schema,
    where: str,
) -> list[FeatureDistance]:
    """Compute the distance for every feature that has a limit and occurs in both statistics.

    Args:
        kind: Whether the drift limits or the skew limits of the schema apply.
        seen: Statistics that are examined.
        reference: Statistics that they are compared with.
        schema: Schema with limits; see `with_comparators`.
        where: What the reference is called.
    """
    chance = 1 / max(image_count(seen), 1) + 1 / max(image_count(reference), 1)
    distances = []
    for feature in schema.feature:
        limits = getattr(feature, f"{kind}_comparator")
        both = _feature(seen, feature.name), _feature(reference, feature.name)
        if both[0] is None or both[1] is None:
            continue
        if limits.HasField("infinity_norm"):
            measure = "a share moved by"
            distance = _largest_difference(*both)
            limit = limits.infinity_norm.threshold + _SIGMAS * math.sqrt(0.25 * chance)
        elif limits.HasField("jensen_shannon_divergence"):
            measure = "divergence"
            distance = _divergence(*both)
            limit = limits.jensen_shannon_divergence.threshold + _JSD_BY_CHANCE * chance
        else:
            continue
        was, now = _described(both[1]), _described(both[0])
        distances.append(feature_distance(feature.name, where, was, now, measure, distance, limit))
    return distances


def _largest_difference(seen: FeatureStatistics, reference: FeatureStatistics) -> float:
    """Return the largest difference of the shares of one value, 0 to 1."""
    seen_shares = _shares(seen)
    reference_shares = _shares(reference)
    differences = (
        abs(seen_shares.get(value, 0) - reference_shares.get(value, 0))
        for value in seen_shares | reference_shares
    )
    return max(differences, default=0.0)


def _shares(feature: FeatureStatistics) -> dict[str, float]:
    """Return the share of each value of a feature, of those that the statistics list."""
    buckets = feature.string_stats.rank_histogram.buckets
    total = sum(bucket.sample_count for bucket in buckets) or 1
    return {bucket.label: bucket.sample_count / total for bucket in buckets}


def _divergence(seen: FeatureStatistics, reference: FeatureStatistics) -> float:
    """Return the Jensen-Shannon divergence in bits, 0 to 1, over buckets that both share.

    The shared buckets have equal widths. TFDV splits the buckets of both at all bounds instead, and
    then has a divergence of 1 as soon as all values of one side are equal, such as the aspect
    ratios of square images.
    """
    sides = [seen.num_stats, reference.num_stats]
    low = min(side.min for side in sides)
    high = max(side.max for side in sides)
    edges = np.linspace(low, high, _BUCKETS + 1)[1:-1]
    p, q = (np.diff([0.0, *_share_below(side, edges), 1.0]) for side in sides)
    middle = (p + q) / 2
    return (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2


def _relative_entropy(shares: Floats, reference: Floats) -> float:
    """Return the Kullback-Leibler divergence of shares from others, in bits."""
    is_filled = shares > 0
    return float(np.sum(shares[is_filled] * np.log2(shares[is_filled] / reference[is_filled])))


def _share_below(stats: statistics_pb2.NumericStatistics, edges: Floats) -> Floats:
    """Return the share of the values below each edge, spread evenly between quantiles.

    Buckets of equal width would spread a value that most images share, such as the aspect ratio of
    a camera, over a tenth of the range.
    """
    buckets = next(
        histogram.buckets for histogram in stats.histograms if histogram.type == Histogram.QUANTILES
    )
    counts = np.cumsum([0.0, *(bucket.sample_count for bucket in buckets)])
    bounds = [buckets[0].low_value, *(bucket.high_value for bucket in buckets)]
    return np.interp(edges, bounds, counts / counts[-1])


def image_count(statistics: Statistics) -> int:
    """Return the number of images that the statistics summarise."""
    return int(sum(dataset.num_examples for dataset in statistics.datasets))


def _described(feature: FeatureStatistics) -> str:
    """Return the mean and deviation of a number, or how many images have the commonest values."""
    if feature.HasField("num_stats"):
        return f"{feature.num_stats.mean:.2f} ± {feature.num_stats.std_dev:.2f}"
    buckets = feature.string_stats.rank_histogram.buckets
    commonest = ", ".join(
        f"{bucket.label} {bucket.sample_count:,.0f}" for bucket in buckets[:_SHOWN]
    )
    return f"{commonest} of {sum(bucket.sample_count for bucket in buckets):,.0f}"


def _feature(statistics: Statistics, name: str) -> FeatureStatistics | None:
    features = (feature for dataset in statistics.datasets for feature in dataset.features)
    return next((feature for feature in features if feature.path.step[:] == [name]), None)
