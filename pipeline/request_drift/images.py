"""Measures logged images as ingestion does, and computes their features with the served model."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgpipe.components.common.image_record import METADATA
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.sources.base import Item, Source
from imgpipe.models.export.signatures import FEATURE_VECTORS
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names
from imgpipe.serving.look import PIXEL_LIMIT
from imgpipe.serving.served import Served

#: Most images that are measured, spread evenly over the log. A share of so many is known to half a
#: percentage point, and each forward pass takes some 15 ms on a CPU core.
MOST = 2_000
#: Features in the statistics of the training data that a request has too: all but the label.
FEATURES = tuple(name for name in METADATA if name not in (names.LABEL, names.LABEL_INDEX))
_BATCH = 32  # images in one forward pass


@dataclass
class MeasuredImages:
    """Measurements of images."""

    rows: list[Mapping[str, object]] = field(default_factory=list)  # of each that can be decoded
    scores: list[float] = field(default_factory=list)  # distances from the training data, if known
    undecodable: int = 0  # number of images that cannot be decoded


def measure(
    source: Source, items: Sequence[Item], model: Path, distribution: FeatureDistribution | None
) -> MeasuredImages:
    """Measure images as ImageExampleGen does, with the colours that the served model sees.

    Of more than `MOST`, so many are measured. Those whose file the server has removed are left out.
    `model` is the folder of the version that answered, and `distribution` that of the features of
    its training data.
    """
    chosen = spread(items, MOST)
    progress.total(len(chosen), "images")
    measured = MeasuredImages()
    with contextlib.ExitStack() as opened:
        records = opened.enter_context(contextlib.closing(inspect(source, chosen, PIXEL_LIMIT)))
        is_scored = distribution is not None and chosen
        served = Served(str(model), FEATURE_VECTORS) if is_scored else None
        opened.callback(lambda: served.close() if served else None)
        while part := list(itertools.islice(records, _BATCH)):
            progress.advance(len(part), "images")
            read = [record for record in part if not record.read_error]
            good = [record for record in read if record.content.is_measured]
            measured.undecodable += len(read) - len(good)
            for record in good:
                features = record.features()
                measured.rows.append({name: features[name] for name in FEATURES})
            if distribution is not None and served is not None and good:
                images = [record.image_bytes for record in good]
                vectors = served.run(image_bytes=images)[FEATURE_VECTORS]
                measured.scores += distribution.scores(vectors).tolist()
    return measured


def spread(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Choose at most so many items, evenly spread from the first to the last."""
    if len(items) <= most:
        return items
    return [items[number * len(items) // most] for number in range(most)]
