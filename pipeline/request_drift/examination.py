"""Examines a request log: reads it, measures its images and compares them. Imports TFDV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.storage import manifest
from imgpipe.models.machine import progress
from imgpipe.pipeline.request_drift import comparison, images, log, reference
from imgpipe.pipeline.request_drift.unfamiliar_images import Unfamiliar

#: Version of the format `DriftSummary`.
SCHEMA: Final = 2
#: Most different images of a version that are measured, spread evenly over the log. With so many,
#: chance changes no figure by a hundredth, and each image takes some milliseconds.
MOST_MEASURED = 5_000


class LogSummary(TypedDict):
    """The request log."""

    files: Annotated[list[str], "Files of the log."]
    records: Annotated[int, "Number of records in the files."]
    answers: Annotated[int, "Number of answers in the records."]
    images: Annotated[int, "Number of images in the records."]
    skipped: Annotated[dict[str, int], "Number of records that were skipped, by reason."]
    broken: Annotated[list[log.BrokenFile], "Files that break off."]


class DriftSummary(TypedDict):
    """The comparison of requests with the training data."""

    schema: Annotated[int, f"Version of this format, {SCHEMA}."]
    drift: Annotated[
        bool | None, "Whether there is drift; null if there were too few requests to compare."
    ]
    verdict: Annotated[str, "The decision as a sentence."]
    log: Annotated[LogSummary, "The request log."]
    versions: Annotated[
        list[comparison.VersionComparison], "The versions that answered, the newest first."
    ]
    versions_gone: Annotated[list[int], "Versions that no longer exist; they are not compared."]
    measured: Annotated[int, "Number of images that were measured."]
    undecodable: Annotated[int, "Number of images that cannot be decoded."]
    undecodable_first: Annotated[
        list[images.UndecodableImage], "The first images that cannot be decoded."
    ]


@dataclass(frozen=True)
class Log:
    """The content of a request log, without the images.

    Attributes:
        files: Files of the log, the oldest first.
        statistics: Counts of what was read, and of what could not be used.
        versions: The requests by version.
    """

    files: tuple[Path, ...]
    statistics: log.ReadStatistics
    versions: Mapping[int, log.VersionRequests]

    def summary(self) -> LogSummary:
        """Return the counts of the log."""
        return {
            "files": [str(path) for path in self.files],
            "records": self.statistics.records,
            "answers": sum(requests.answers for requests in self.versions.values()),
            "images": sum(requests.images for requests in self.versions.values()),
            "skipped": dict(self.statistics.skipped),
            "broken": self.statistics.broken,
        }


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
    files = log.log_files(path)
    statistics = log.ReadStatistics()
    vocabularies = {number: version.vocabulary for number, version in versions.items()}
    requests = log.survey(_counted(log.read(files, vocabularies, statistics)))
    if not requests:
        raise log.refusal(statistics, path, vocabularies)
    return Log(tuple(files), statistics, requests)


def _counted(answers: Iterable[log.LoggedAnswer]) -> Iterator[log.LoggedAnswer]:
    for answer in answers:
        progress.advance(1, "answers")
        yield answer


def examine(content: Log, versions: Mapping[int, manifest.PublishedVersion]) -> DriftSummary:
    """Measure the images of a log and compare them and the answers with the reference.

    Args:
        content: Result of `read`.
        versions: Versions of the model by number.

    Returns:
        The comparisons of each version and the verdict.

    Raises:
        ResourceError: A version has no statistics of its training data.
    """
    measured = images.MeasuredImages()
    compared = []
    for number, requests in sorted(content.versions.items(), reverse=True):
        version_reference = reference.load(versions[number])
        if len(requests.locations) < comparison.FEWEST:  # no image has to be measured to say so
            compared.append(comparison.compare(requests, [], version_reference))
            continue
        before = len(measured.rows)
        chosen = set(images.spread(requests.locations, MOST_MEASURED))
        fetched = images.fetch(content.files, number, versions[number].vocabulary, chosen)
        with Unfamiliar(version_reference, len(chosen)) as unfamiliar:
            images.measure(fetched, measured, unfamiliar.count)
        rows = measured.rows[before:]
        compared.append(
            comparison.compare(requests, rows, version_reference, unfamiliar.share, unfamiliar.far)
        )
    summary = content.summary()
    drift, verdict = comparison.verdict(compared, summary["images"] > 0)
    return {
        "schema": SCHEMA,
        "drift": drift,
        "verdict": verdict,
        "log": summary,
        "versions": compared,
        "versions_gone": sorted(content.statistics.gone, reverse=True),
        "measured": len(measured.rows),
        "undecodable": measured.failed,
        "undecodable_first": measured.undecodable,
    }
