"""Drift against the last blessed run, skew between this run's splits: distributions compared.

TFDV measures: the largest difference of shares (L-infinity) for names, the Jensen-Shannon
divergence for numbers. How much is too much stands in the schema, so that it can be read and
changed there; what chance alone does to few images is allowed on top. Needs TFDV, which has to be
imported after TFX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from imgpipe.components.data_gate import histograms
from imgpipe.components.data_gate.rules import Reason
from imgpipe.models import feature_names as names

Kind = Literal["drift", "skew"]
Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList

#: Largest difference of the share of one value, 0..1.
NAMED = {names.LABEL: 0.2, names.FORMAT: 0.5, names.MODE: 0.3}
#: Jensen-Shannon divergence, bits, 0..1; 0.3 is a bell curve moved by 1.3 of its widths. Halves of
#: real sets show up to 0.12, the same photographs darkened to 0.7 show 0.34 and more
#: (`tests/trials/test_drift_limits.py`).
MEASURED = {
    names.ASPECT_RATIO: 0.3,
    names.BRIGHTNESS: 0.3,
    names.CONTRAST: 0.3,
    names.ENTROPY: 0.3,
    names.SHARPNESS: 0.3,
    names.COLOUR: 0.3,
}
#: Images of either side below which a distribution says too little.
FEWEST = 100
_SIGMAS = 4.0  # of the difference of two shares near one half
_JSD_BY_CHANCE = 3.3  # × (1/n + 1/m): twice what ten bins show of two equal distributions
_ACCEPT = "if this is right: imgpipe schema accept, with the same arguments as the run"


@dataclass(frozen=True)
class Difference:
    """One feature whose distribution is not what it is compared with."""

    kind: Kind
    feature: str
    split: str
    expected: str
    seen: str

    def reason(self) -> Reason:
        """For the gate."""
        return Reason(self.kind, self.feature, self.split, self.expected, self.seen, _ACCEPT)


@dataclass(frozen=True)
class Measured:
    """How far the distribution of one feature moved."""

    feature: str
    expected: str  # the distribution it is compared with, in a few words
    seen: str
    measure: str  # what `distance` is, in words
    distance: float
    limit: float  # with what chance alone may show

    @property
    def over(self) -> bool:
        """Whether it moved further than it may."""
        return self.distance > self.limit


def with_comparators(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """The schema with the usual limits for those features that have none."""
    out = schema_pb2.Schema()
    out.CopyFrom(schema)
    for feature in out.feature:
        for kind in ("drift_comparator", "skew_comparator"):
            if feature.HasField(kind):
                continue
            if feature.name in NAMED:
                getattr(feature, kind).infinity_norm.threshold = NAMED[feature.name]
            elif feature.name in MEASURED:
                limit = MEASURED[feature.name]
                getattr(feature, kind).jensen_shannon_divergence.threshold = limit
    return out


def drift(
    now: Mapping[str, Statistics], before: Mapping[str, Statistics], schema: schema_pb2.Schema
) -> list[Difference]:
    """Features that changed since the last blessed run, split by split.

    Args:
      now: split → statistics of this run.
      before: the same of the last blessed run; empty when there was none.
      schema: with or without limits of its own.
    """
    limits = with_comparators(schema)
    found = []
    for split in names.SPLITS:
        if split in now and split in before:
            found += _compare("drift", split, now[split], before[split], limits)
    return found


def skew(now: Mapping[str, Statistics], schema: schema_pb2.Schema) -> list[Difference]:
    """Features in which validation or test differ from train."""
    limits = with_comparators(schema)
    found = []
    for split in (names.VALIDATION, names.TEST):
        if split in now and names.TRAIN in now:
            found += _compare("skew", split, now[split], now[names.TRAIN], limits)
    return found


def _compare(
    kind: Kind, split: str, seen: Statistics, reference: Statistics, schema: schema_pb2.Schema
) -> list[Difference]:
    if min(images(seen), images(reference)) < FEWEST:
        return []
    where = "the last blessed run" if kind == "drift" else names.TRAIN
    return [
        Difference(
            kind,
            found.feature,
            split,
            f"as in {where}: {found.expected}",
            f"{found.seen} ({found.measure} {found.distance:.2f}, at most {found.limit:.2f})",
        )
        for found in measured(kind, seen, reference, schema)
        if found.over
    ]


def measured(
    kind: Kind, seen: Statistics, reference: Statistics, schema: schema_pb2.Schema
) -> list[Measured]:
    """Every feature that the schema has a limit for and both statistics know, as far as it moved.

    Args:
      kind: whose limits of the schema count.
      seen: what is judged.
      reference: what it is compared with.
      schema: with limits; see `with_comparators`.
    """
    import tensorflow_data_validation as tfdv

    n, m = images(seen), images(reference)
    seen, reference = histograms.coarsened(seen, reference), histograms.coarsened(reference, seen)
    if kind == "drift":
        result = tfdv.validate_statistics(seen, schema, previous_statistics=reference)
    else:
        result = tfdv.validate_statistics(reference, schema, serving_statistics=seen)
    return [
        Measured(
            feature,
            described(reference, feature),
            described(seen, feature),
            _MEASURES[found.type],
            found.value,
            found.threshold + _by_chance(found.type, n, m),
        )
        for info in result.drift_skew_info
        for feature in info.path.step[:1]
        for found in (*info.drift_measurements, *info.skew_measurements)
    ]


_Measurement = anomalies_pb2.DriftSkewInfo.Measurement
_MEASURES = {
    _Measurement.L_INFTY: "a share moved by",
    _Measurement.JENSEN_SHANNON_DIVERGENCE: "divergence",
}


def _by_chance(measure: int, n: int, m: int) -> float:
    """What two samples of n and m images of one distribution may show."""
    if measure == _Measurement.L_INFTY:
        return _SIGMAS * math.sqrt(0.25 * (1 / n + 1 / m))
    return _JSD_BY_CHANCE * (1 / n + 1 / m)


def images(statistics: Statistics) -> int:
    """Images that statistics were made of."""
    return int(sum(dataset.num_examples for dataset in statistics.datasets))


def bounds(statistics: Statistics, name: str) -> tuple[float, float] | None:
    """Smallest and largest value of a measurement; None where there is none."""
    for dataset in statistics.datasets:
        for feature in dataset.features:
            if feature.path.step[:] == [name] and feature.HasField("num_stats"):
                return feature.num_stats.min, feature.num_stats.max
    return None


def described(statistics: Statistics, name: str) -> str:
    """A distribution in a few words: the commonest values with their shares, or mean and spread."""
    for dataset in statistics.datasets:
        for feature in dataset.features:
            if feature.path.step[:] != [name]:
                continue
            if feature.HasField("num_stats"):
                return f"{feature.num_stats.mean:.2f} ± {feature.num_stats.std_dev:.2f}"
            buckets = feature.string_stats.rank_histogram.buckets
            total = sum(bucket.sample_count for bucket in buckets) or 1
            return ", ".join(f"{b.label} {b.sample_count / total:.2f}" for b in buckets[:_SHOWN])
    return "absent"


_SHOWN = 4  # values named of a distribution
