"""What was asked beside what was blessed, property by property, under the limits of the gate.

TFDV measures, as it does for DataGate: pictures against the statistics of the training data, under
the drift limits of the accepted schema; predictions against those on validation. Needs TFDV, which
has to be imported after TFX.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2

from imgpipe.components.data_gate import drift
from imgpipe.models import feature_names as names
from imgpipe.models.errors import ResourceError
from imgpipe.pipeline.request_drift.reference import Blessed
from imgpipe.pipeline.request_drift.survey import Asked

#: Answers, or different pictures, below which nothing is judged; the limits allow for chance.
FEWEST = 50
CONFIDENCE = "confidence"
_CONFIDENCE_LIMIT = 0.3  # Jensen-Shannon divergence, bits; as for the figures of pictures
#: Compared for people to see; a phone's photographs are larger than a set's, and no worse.
SHOWN = (names.WIDTH, names.HEIGHT, names.BYTE_SIZE)
_NEVER = 1.0  # no divergence is greater


@dataclass(frozen=True)
class Comparison:
    """One property."""

    subject: str  # "pictures" or "predictions"
    feature: str
    reference: str  # what it is compared with, for people
    was: str
    now: str
    measure: str  # what `distance` is
    distance: float
    limit: float | None  # None: shown, not judged

    @property
    def over(self) -> bool:
        """Whether it moved further than it may."""
        return self.limit is not None and self.distance > self.limit


@dataclass(frozen=True)
class Compared:
    """One version's requests, judged."""

    asked: Asked
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]  # what was not compared, and why
    unknown_was: float | None  # share of "unknown" on validation

    @property
    def judged(self) -> bool:
        """Whether any property was."""
        return any(found.limit is not None for found in self.comparisons)

    @property
    def over(self) -> tuple[Comparison, ...]:
        """Properties that moved further than they may."""
        return tuple(found for found in self.comparisons if found.over)


def compare(asked: Asked, measured: Sequence[Mapping[str, Any]], blessed: Blessed) -> Compared:
    """Judge what one version was asked.

    Args:
      asked: its answers.
      measured: features of its different pictures (`pictures.Measured.rows`); may be empty.
      blessed: what it was blessed with.
    """
    notes = []
    comparisons: list[Comparison] = []
    if asked.answers < FEWEST:
        notes.append(f"{asked.answers:,} answers are too few to judge: {FEWEST} are needed")
    else:
        comparisons += _predictions(asked, blessed, notes)
    if not asked.pictures:
        notes.append("the log holds no pictures of it: what they look like was not compared")
    elif len(measured) < FEWEST:
        notes.append(
            f"{len(measured):,} different pictures are too few to judge: {FEWEST} are needed"
        )
    else:
        comparisons += _pictures(measured, blessed)
    unknown = None
    if blessed.predictions is not None:
        unknown = blessed.predictions.labels.count(names.UNKNOWN) / len(blessed.predictions.labels)
    return Compared(asked, tuple(comparisons), tuple(notes), unknown)


def _pictures(measured: Sequence[Mapping[str, Any]], blessed: Blessed) -> list[Comparison]:
    reference = blessed.statistics.get(names.TRAIN)
    if reference is None or not drift.images(reference):
        raise ResourceError(
            f"the statistics beside version {blessed.version.number} are not those of its training "
            "data. Run `imgpipe run` and serve what it pushes."
        )
    limits = drift.with_comparators(blessed.schema)
    for feature in limits.feature:
        if feature.name in SHOWN and not feature.HasField("drift_comparator"):
            feature.drift_comparator.jensen_shannon_divergence.threshold = _NEVER
    columns = {name: [row[name] for row in measured] for name in measured[0]}
    return [
        _comparison("pictures", "training data", found)
        for found in drift.measured("drift", _statistics(columns), reference, limits)
    ]


def _predictions(asked: Asked, blessed: Blessed, notes: list[str]) -> list[Comparison]:
    columns: dict[str, Any] = {names.LABEL: _spelled(asked.labels)}
    columns[CONFIDENCE] = np.array(asked.confidence, np.float32)
    if blessed.predictions is not None:
        said = blessed.predictions
        where = "validation"
        reference = _statistics({names.LABEL: said.labels, CONFIDENCE: said.confidence})
    else:
        notes.append(f"{blessed.missing}: confidence was not compared")
        del columns[CONFIDENCE]
        split = names.VALIDATION if names.VALIDATION in blessed.statistics else names.TRAIN
        where, reference = f"labels of {split}", blessed.statistics[split]
    return [
        _comparison("predictions", where, found)
        for found in drift.measured(
            "drift", _statistics(columns), reference, _limits(blessed.schema)
        )
    ]


def _comparison(subject: str, where: str, found: drift.Measured) -> Comparison:
    return Comparison(
        subject,
        found.feature,
        where,
        found.expected,
        found.seen,
        found.measure,
        found.distance,
        None if found.feature in SHOWN and found.limit >= _NEVER else found.limit,
    )


def _limits(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """Of predictions: the accepted schema's limit of labels, and ours of confidence."""
    limits = schema_pb2.Schema()
    for feature in drift.with_comparators(schema).feature:
        if feature.name == names.LABEL:
            label = limits.feature.add(name=names.LABEL, type=schema_pb2.BYTES)
            label.drift_comparator.CopyFrom(feature.drift_comparator)
    confidence = limits.feature.add(name=CONFIDENCE, type=schema_pb2.FLOAT)
    confidence.drift_comparator.jensen_shannon_divergence.threshold = _CONFIDENCE_LIMIT
    return limits


def _spelled(counts: collections.Counter[str]) -> Any:
    values = np.array(list(counts), object)
    return np.repeat(values, list(counts.values()))


def _statistics(columns: Mapping[str, Any]) -> drift.Statistics:
    import pandas as pd
    import tensorflow_data_validation as tfdv

    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(dict(columns)))


def verdict(compared: Iterable[Compared], pictures: bool) -> tuple[bool | None, str]:
    """Whether there is drift (None: not judged), and the sentence that a person reads.

    Args:
      compared: of `compare`, by version.
      pictures: whether the log holds any.
    """
    found = list(compared)
    answers = sum(one.asked.answers for one in found)
    said = []
    for one in found:
        over = [_named(comparison) for comparison in one.over]
        if over:
            said.append(
                f"version {one.asked.version} is asked what it was not trained for: "
                f"{', '.join(over)}"
            )
    if said:
        return True, f"drift: {'; '.join(said)}"
    judged = [one for one in found if one.judged]
    if not judged:
        return None, f"not judged: {answers:,} answers in the log, {FEWEST} of a version are needed"
    numbers = ", ".join(str(one.asked.version) for one in judged)
    compares = sum(c.limit is not None for one in judged for c in one.comparisons)
    words = (
        f"{answers:,} answers of version {numbers}, none of {compares} comparisons over its limit"
    )
    return False, f"no drift{'' if pictures else ' in the predictions'}: {words}"


_WORDS = {names.LABEL: "labels", CONFIDENCE: "confidence"}


def _named(comparison: Comparison) -> str:
    name = _WORDS.get(comparison.feature, comparison.feature.replace("_", " "))
    return f"{name} ({comparison.was} → {comparison.now})"
