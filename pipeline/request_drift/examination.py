"""Examines a request log: reads it, measures its images and compares them. Imports TFDV."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.storage import manifest
from imgpipe.models import progress
from imgpipe.pipeline.request_drift import comparison, images, log
from imgpipe.pipeline.request_drift import reference as blessed
from imgpipe.pipeline.request_drift.survey import Survey, survey
from imgpipe.pipeline.request_drift.unfamiliar_images import Unfamiliar

#: Most different images of a version that are measured, spread evenly over the log. With so many,
#: chance changes no figure by a hundredth, and each image takes some milliseconds.
MOST_MEASURED = 5_000


@dataclass(frozen=True)
class Log:
    """The content of a request log, without the images."""

    files: tuple[Path, ...]
    model: log.Model
    statistics: log.ReadStatistics
    survey: Survey


@dataclass(frozen=True)
class Examined:
    """The result of examining a log."""

    compared: tuple[comparison.VersionComparison, ...]  # one for each version, the newest first
    measured: images.MeasuredImages  # the images of all versions together
    gone: tuple[int, ...]  # versions that answered and are no longer there
    drift: bool | None  # None if nothing could be judged
    verdict: str  # a sentence for people


def read(path: Path, versions: Mapping[int, manifest.Version]) -> Log:
    """Read a log once, from its first record to its last.

    Args:
        path: File, folder or prefix of the log.
        versions: Versions of the model by number.

    Returns:
        Counts of the answers by version, and the locations of the images.

    Raises:
        ConfigError: There is no log, or it is the log of another model.
        ResourceError: The log is empty.
    """
    files = log.find(path)
    model = log.Model({number: tuple(v.vocabulary) for number, v in versions.items()})
    statistics = log.ReadStatistics()
    found = survey(_counted(log.read(files, model, statistics)))
    if not found.answers:
        raise log.refusal(statistics, path, model)
    return Log(tuple(files), model, statistics, found)


def _counted(answers: Iterable[log.Answer]) -> Iterator[log.Answer]:
    for answer in answers:
        progress.advance(1, "answers")
        yield answer


def examine(found: Log, versions: Mapping[int, manifest.Version], run: Path | None) -> Examined:
    """Measure the images of a log and compare them and the answers with the reference.

    Args:
        found: Result of `read`.
        versions: Versions of the model by number.
        run: Output folder of the run that made the versions. None for the folder above the
            versions.

    Returns:
        The comparisons of each version and the verdict.

    Raises:
        ResourceError: A version has no statistics of its training data.
    """
    known, gone = blessed.choose(versions, {*found.survey.versions, *found.statistics.removed})
    measured = images.MeasuredImages()
    compared = []
    for version in known:
        reference = blessed.load(version, run)
        requests = found.survey.versions[version.number]
        before = len(measured.rows)
        wanted = set(images.spread(requests.locations, MOST_MEASURED))
        with Unfamiliar(reference, len(wanted)) as unfamiliar:
            images.measure(_images(found, wanted), measured, unfamiliar.count)
        rows = measured.rows[before:]
        shares = unfamiliar.share, unfamiliar.far
        compared.append(comparison.compare(requests, rows, reference, *shares))
    drift, verdict = comparison.verdict(compared, found.survey.images > 0)
    return Examined(tuple(compared), measured, tuple(gone), drift, verdict)


def _images(found: Log, wanted: Collection[log.Location]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the images at some locations."""
    if not wanted:
        return
    progress.total(len(wanted), "images")
    for answer in images.fetch(found.files, found.model, wanted):
        yield images.named(found.files, answer.location), answer.image or b""
