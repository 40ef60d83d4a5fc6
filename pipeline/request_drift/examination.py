"""Examines a request log: reads it, measures its images and compares them. Imports TFDV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.common.storage import manifest
from imgpipe.models import progress
from imgpipe.pipeline.request_drift import comparison, images, log
from imgpipe.pipeline.request_drift import reference as blessed
from imgpipe.pipeline.request_drift.unfamiliar_images import Unfamiliar

#: Most different images of a version that are measured, spread evenly over the log. With so many,
#: chance changes no figure by a hundredth, and each image takes some milliseconds.
MOST_MEASURED = 5_000


@dataclass(frozen=True)
class Log:
    """The content of a request log, without the images."""

    files: tuple[Path, ...]
    statistics: log.ReadStatistics
    versions: Mapping[int, log.VersionRequests]

    @property
    def answers(self) -> int:
        """Number of answers of all versions."""
        return sum(requests.answers for requests in self.versions.values())

    @property
    def images(self) -> int:
        """Number of answers of all versions whose image is in the log."""
        return sum(requests.images for requests in self.versions.values())


@dataclass(frozen=True)
class ExaminedLog:
    """The result of examining a log."""

    compared: tuple[comparison.VersionComparison, ...]  # one for each version, the newest first
    measured: images.MeasuredImages  # the images of all versions together
    drift: bool | None  # None if nothing could be judged
    verdict: str  # a sentence for people


def read(path: Path, versions: Mapping[int, manifest.PublishedVersion]) -> Log:
    """Read a log once, from its first record to its last.

    Args:
        path: File, folder or prefix of the log.
        versions: Versions of the model by number.

    Returns:
        Counts of the answers by version, and the locations of the images.

    Raises:
        ConfigError: There is no log, or it is the log of another model.
        ResourceError: The log is empty, or the versions that answered were removed.
    """
    files, statistics = log.find(path), log.ReadStatistics()
    vocabularies = {number: version.vocabulary for number, version in versions.items()}
    found = log.survey(_counted(log.read(files, vocabularies, statistics)))
    if not found:
        raise log.refusal(statistics, path, vocabularies)
    return Log(tuple(files), statistics, found)


def _counted(answers: Iterable[log.LoggedAnswer]) -> Iterator[log.LoggedAnswer]:
    for answer in answers:
        progress.advance(1, "answers")
        yield answer


def examine(found: Log, versions: Mapping[int, manifest.PublishedVersion]) -> ExaminedLog:
    """Measure the images of a log and compare them and the answers with the reference.

    Args:
        found: Result of `read`.
        versions: Versions of the model by number.

    Returns:
        The comparisons of each version and the verdict.

    Raises:
        ResourceError: A version has no statistics of its training data.
    """
    measured = images.MeasuredImages()
    compared = []
    for number, requests in sorted(found.versions.items(), reverse=True):
        reference = blessed.load(versions[number])
        before = len(measured.rows)
        wanted = set(images.spread(requests.locations, MOST_MEASURED))
        fetched = images.fetch(found.files, number, versions[number].vocabulary, wanted)
        with Unfamiliar(reference, len(wanted)) as unfamiliar:
            images.measure(fetched, measured, unfamiliar.count)
        rows = measured.rows[before:]
        shares = unfamiliar.share, unfamiliar.far
        compared.append(comparison.compare(requests, rows, reference, *shares))
    drift, verdict = comparison.verdict(compared, found.images > 0)
    return ExaminedLog(tuple(compared), measured, drift, verdict)
