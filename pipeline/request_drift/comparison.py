"""Compares the requests in a log with the training data of the version that answered.

Measurements of images, labels and confidence are compared by the distances and the limits of the
data gate, and the features of the images with the distribution of those that were trained on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2

from imgpipe.components.common.formatting import plural, text_below
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.common.storage.manifest import ANSWERS_FOLDER
from imgpipe.components.data_gate import data_gate, drift
from imgpipe.components.data_gate.drift import feature_distance
from imgpipe.components.data_gate.rules import FeatureDistance
from imgpipe.components.run_record import result as results
from imgpipe.components.run_record.result import ComparedRequests, Result, Status
from imgpipe.models import names
from imgpipe.models.arrays import Floats
from imgpipe.models.errors import ResourceError
from imgpipe.models.features import feature_distribution
from imgpipe.models.features.feature_distribution import FAR_SHARE, FeatureDistribution
from imgpipe.models.finding import Finding, make_finding
from imgpipe.pipeline.request_drift.logged_answers import LoggedAnswer, LoggedAnswers
from imgpipe.pipeline.request_drift.requests import FEWEST, MeasuredImages, measure, read

CONFIDENCE = "confidence"
_CONFIDENCE_LIMIT = 0.3  # Jensen-Shannon divergence in bits, as for the measurements of images
_TRAINING = "the training data"
VALIDATION = "the validation images"
_HELD_OUT = "the held-out images"
_GROWTH = "share grew by"  # the measure of shares
UNFAMILIAR = "features unlike the training data"
FAR = "features far from the training data"
#: Share of the requests that may be of another kind, on top of what chance may show; see
#: docs/benchmarks.md, "Constants of the code".
MIXTURE_LIMIT = 0.02
#: Standard deviations of the difference of two shares. By chance, a share is greater than another
#: one by more than three of them in 1 of 740 cases.
_SIGMAS = 3.0
_LEAST_CONFIDENT = 0.02  # quantile of the confidence on the validation split


@dataclass(frozen=True)
class Reference:
    """The data with which the requests of a version are compared."""

    limits: schema_pb2.Schema  # accepted for its training data, with all limits
    statistics: drift.Statistics  # of its training data
    labels: Sequence[str]  # its answers to the validation images; empty if they are not stored
    confidence: Floats  # the highest probability of each of these answers
    features: FeatureDistribution | None  # of the training images; None if it is not stored


def load(version: manifest.Version) -> Reference:
    """Read the reference of an intact version; a ResourceError says that it has no statistics."""
    beside = version.folder / manifest.PROVENANCE
    statistics = data_gate.read_statistics(str(beside / "statistics")).get(names.TRAIN)
    if not (beside / "schema").is_dir() or statistics is None or not drift.image_count(statistics):
        raise ResourceError(
            f"version {version.number} in {version.folder.parent} has no statistics of its "
            f"training data beside it (expected {beside / 'statistics'}). Run `imgpipe run` and "
            "serve the version that it publishes."
        )
    limits = drift.with_comparators(data_gate.read_schema(str(beside / "schema")))
    confidence = limits.feature.add(name=CONFIDENCE, type=schema_pb2.FLOAT)
    confidence.drift_comparator.jensen_shannon_divergence.threshold = _CONFIDENCE_LIMIT
    stored = records.iterate(str(beside / ANSWERS_FOLDER), names.VALIDATION)
    answers = [records.floats(answer, names.PROBABILITIES) for answer in stored]
    return Reference(
        limits,
        statistics,
        [version.vocabulary[int(np.argmax(answer))] for answer in answers],
        np.array([max(answer) for answer in answers]),
        feature_distribution.load(str(version.folder)),
    )


@dataclass(frozen=True)
class Share:
    """A share of images or answers."""

    number: int  # of those with the property
    of: int  # of all that were examined

    @classmethod
    def above(cls, scores: Sequence[float], threshold: float) -> Share:
        """Return the share of scores above a threshold."""
        return cls(sum(score > threshold for score in scores), len(scores))

    @property
    def value(self) -> float:
        """The share, 0..1."""
        return self.number / self.of

    def __str__(self) -> str:
        return f"{self.number:,} of {self.of:,}"

    def by_chance(self, reference: Share) -> float:
        """Return how much larger than the reference this share may be by chance, 0..1.

        The standard deviation is that of the reference's share, estimated with one more case on
        either side (Laplace's rule), because no case among few images does not mean that there are
        none.
        """
        usual = (reference.number + 1) / (reference.of + 2)
        return _SIGMAS * math.sqrt(usual * (1 - usual) * (1 / self.of + 1 / reference.of))


def compare(
    answers: Sequence[LoggedAnswer], measured: MeasuredImages, reference: Reference
) -> tuple[list[FeatureDistance], list[Finding]]:
    """Return all comparisons of a version's requests, and findings about what was not compared."""
    distances: list[FeatureDistance] = []
    missing: list[str] = []
    if len(answers) < FEWEST:
        few = plural(len(answers), "answer is", "answers are")
        missing.append(f"{few} too few to compare: {FEWEST} are needed")
    elif not reference.labels:
        missing.append("the answers of this version to the validation images are not stored")
    else:
        distances += _compared_answers(answers, reference)
    if not any(answer.item for answer in answers):
        missing.append("the log holds no images of this version, so images were not compared")
    elif len(measured.rows) < FEWEST:
        kind = "that can be decoded"
        words = (f"different image {kind} is", f"different images {kind} are")
        few = plural(len(measured.rows), *words)
        missing.append(f"{few} too few to compare: {FEWEST} are needed")
    else:
        seen = {name: [row[name] for row in measured.rows] for name in measured.rows[0]}
        distances += _distances(seen, reference.statistics, reference, _TRAINING)
        if reference.features is None:
            missing.append(
                "no feature distribution is stored with the model (too few images): the share of "
                "images of another kind is not known"
            )
        else:
            distances += unlike(measured.scores, reference.features)
    return distances, [make_finding("not_compared", sentence) for sentence in missing]


def _compared_answers(
    answers: Sequence[LoggedAnswer], reference: Reference
) -> list[FeatureDistance]:
    """Compare labels and confidence with the answers to the validation images."""
    labels = [answer.label for answer in answers]
    confidence = np.array([answer.confidence for answer in answers], np.float32)
    usual = {names.LABEL: reference.labels, CONFIDENCE: reference.confidence}
    seen = {names.LABEL: labels, CONFIDENCE: confidence}
    least = float(np.quantile(reference.confidence, _LEAST_CONFIDENT))
    was = Share(int((reference.confidence < least).sum()), len(reference.confidence))
    now = Share(int((confidence < least).sum()), len(confidence))
    property_name = f"{CONFIDENCE} under {text_below(least, 1)}"
    return [
        *_distances(seen, _statistics(usual), reference, VALIDATION),
        _grown(property_name, VALIDATION, was, now),
    ]


def unlike(scores: Sequence[float], features: FeatureDistribution) -> list[FeatureDistance]:
    """Compare two shares of images that are unlike the training data with the expected ones.

    The share of images that are far finds more. The share of images that are unlike finds some that
    it misses, where the held-out images are too few to extrapolate the distance; see
    docs/benchmarks.md, "Constants of the code". The few held-out images of a small data set say
    little about a share of 1 in 1,000, but their highest scores show how fast the scores thin out.
    """
    was = Share(features.held_out_above, features.held_out)
    unfamiliar = _grown(UNFAMILIAR, _HELD_OUT, was, Share.above(scores, features.threshold))
    far = Share.above(scores, features.far)
    usual = max(FAR_SHARE, 0.5 / features.held_out)  # no smaller share can be known
    # The standard deviation of a share is that of a binomial distribution.
    limit = MIXTURE_LIMIT + _SIGMAS * math.sqrt(usual * (1 - usual) / far.of)
    expected = f"1 of {1 / FAR_SHARE:,.0f}"
    growth = max(far.value - FAR_SHARE, 0.0)
    alike = "images of the same kind"
    return [unfamiliar, feature_distance(FAR, alike, expected, str(far), _GROWTH, growth, limit)]


def _grown(name: str, reference: str, was: Share, now: Share) -> FeatureDistance:
    """Compare a share that grows when some of the requests are of another kind."""
    growth = max(now.value - was.value, 0.0)
    limit = MIXTURE_LIMIT + now.by_chance(was)
    return feature_distance(name, reference, str(was), str(now), _GROWTH, growth, limit)


def _distances(
    seen: Mapping[str, object], statistics: drift.Statistics, reference: Reference, where: str
) -> list[FeatureDistance]:
    """Compare the distribution of each property that has a limit."""
    return drift.feature_distances("drift", _statistics(seen), statistics, reference.limits, where)


def _statistics(columns: Mapping[str, object]) -> drift.Statistics:
    import pandas as pd
    import tensorflow_data_validation as tfdv

    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(dict(columns)))


def examine(log: LoggedAnswers, base: Path) -> Result:
    """Compare the requests in a log with the training data of the version that answered.

    Args:
        log: The log.
        base: Folder of the versions of the model, of which the intact ones count.

    Raises:
        ConfigError: There is no log, or it is the log of another model.
        ResourceError: The log is empty, the versions that answered were removed, or the version has
            no statistics of its training data.
    """
    versions = {version.number: version for version in manifest.versions(base)}
    vocabularies = {number: {*version.vocabulary} for number, version in versions.items()}
    number, answers, notes = read(log, vocabularies)
    reference = load(versions[number])
    logged = [answer.item for answer in answers if answer.item is not None]
    items = list({item.sha256: item for item in logged}.values())
    measured = measure(log, items, versions[number].folder, reference.features)
    comparisons, missing = compare(answers, measured, reference)
    status, verdict = _verdict(number, len(answers), comparisons, missing)
    findings = [*notes.findings(), *missing]
    if measured.undecodable:
        looked_at = len(measured.rows) + measured.undecodable
        number_of_all = f"{measured.undecodable:,} of the {plural(looked_at, 'image')} of the log"
        sentence = f"{number_of_all} that were looked at cannot be decoded"
        findings.append(make_finding("undecodable", sentence, count=measured.undecodable))
    compared: ComparedRequests = {
        "version": number,
        "answers": len(answers),
        "images": len(logged),
        "different_images": len(items),
        "measured": len(measured.rows),
        "first": _time(min(answer.time for answer in answers)),
        "last": _time(max(answer.time for answer in answers)),
        "labels": dict(Counter(answer.label for answer in answers).most_common()),
        "comparisons": comparisons,
    }
    return results.new(
        status=status, verdict=verdict, source=str(log.path), findings=findings, requests=compared
    )


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _verdict(
    number: int,
    answers: int,
    comparisons: Sequence[FeatureDistance],
    missing: Sequence[Finding],
) -> tuple[Status, str]:
    """Return whether there is drift, and a sentence about it."""
    over = [
        f"{row['feature'].replace('_', ' ')} ({row['was']} → {row['now']})"
        for row in comparisons
        if row["over"]
    ]
    if over:
        return "drift", (
            f"drift: version {number} receives requests unlike its training data: {', '.join(over)}"
        )
    if not comparisons:
        return "not_compared", f"not compared: {missing[0]['sentence']}"
    on_images = any(row["reference"] != VALIDATION for row in comparisons)
    where = "" if on_images else " in the answers"
    return "no_drift", (
        f"no drift{where}: {answers:,} answers of version {number}, none of "
        f"{len(comparisons)} comparisons over its limit"
    )
