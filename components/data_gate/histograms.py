"""Histograms made comparable where one is far finer than the other.

TFDV takes each bucket's values as spread evenly over it. Of pictures that are all square, the one
bucket has no width, and no share of a bucket from 0.97 to 1.03 lies in it: the two seem to have
nothing in common, divergence 1, though every picture of the other may be square too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import statistics_pb2

#: Width of a bucket, of the other's, below which it is too fine to compare. Both have ten of equal
#: width: all that it tells lies within one or two of the other's.
_FINEST = 0.1
_STANDARD = statistics_pb2.Histogram.STANDARD


def coarsened(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    other: statistics_pb2.DatasetFeatureStatisticsList,
) -> statistics_pb2.DatasetFeatureStatisticsList:
    """A copy whose histograms of numbers have the other's buckets where they are far finer."""
    out = statistics_pb2.DatasetFeatureStatisticsList()
    out.CopyFrom(statistics)
    grids = dict(_histograms(other))
    for name, histogram in _histograms(out):
        if name in grids:
            _coarsen(histogram, grids[name])
    return out


def _histograms(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
) -> Iterator[tuple[str, statistics_pb2.Histogram]]:
    """Name of a feature and the histogram that distributions are compared by."""
    for dataset in statistics.datasets:
        for feature in dataset.features:
            for histogram in feature.num_stats.histograms:
                if histogram.type == _STANDARD and histogram.buckets:
                    yield ".".join(feature.path.step), histogram


def _width(histogram: statistics_pb2.Histogram) -> float:
    low, high = histogram.buckets[0].low_value, histogram.buckets[-1].high_value
    return (high - low) / len(histogram.buckets)


def _coarsen(histogram: statistics_pb2.Histogram, grid: statistics_pb2.Histogram) -> None:
    """Move the counts into buckets of the grid, continued to both sides."""
    width, start, last = _width(grid), grid.buckets[0].low_value, grid.buckets[-1].high_value
    if not (math.isfinite(width) and math.isfinite(_width(histogram))):
        return
    if _width(histogram) >= _FINEST * width:
        return
    counts: dict[int, float] = {}
    for bucket in histogram.buckets:
        middle = (bucket.low_value + bucket.high_value) / 2
        place = math.floor((middle - start) / width)
        if middle == last:
            place = len(grid.buckets) - 1
        counts[place] = counts.get(place, 0.0) + bucket.sample_count
    del histogram.buckets[:]
    for place, count in sorted(counts.items()):
        # The bounds of the grid to the bit, where it has them: TFDV cuts at every bound there is.
        inside = 0 <= place < len(grid.buckets)
        low = grid.buckets[place].low_value if inside else start + place * width
        high = grid.buckets[place].high_value if inside else start + (place + 1) * width
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count)
