"""Makes two histograms comparable when the buckets of one are much narrower than the other's.

TFDV assumes that the values of a bucket are spread evenly over its width. If all images are
square, the bucket of their aspect ratio has no width, and contains no part of a bucket from 0.97 to
1.03 of another data set. The divergence is then 1, although all images of the other data set may
be square too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList, Histogram

#: Ratio of bucket widths below which the narrower buckets are merged. Both histograms have ten
#: buckets of equal width, so that all narrow ones lie within one or two of the wide ones.
_MIN_WIDTH_RATIO = 0.1


def coarsened(
    statistics: DatasetFeatureStatisticsList, other: DatasetFeatureStatisticsList
) -> DatasetFeatureStatisticsList:
    """Copy statistics, with the other's buckets where their own are much narrower.

    Args:
        statistics: Statistics to copy.
        other: Statistics that they will be compared with.
    """
    out = DatasetFeatureStatisticsList()
    out.CopyFrom(statistics)
    grids = dict(_histograms(other))
    for name, histogram in _histograms(out):
        if name in grids:
            _coarsen(histogram, grids[name])
    return out


def _histograms(statistics: DatasetFeatureStatisticsList) -> Iterator[tuple[str, Histogram]]:
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
