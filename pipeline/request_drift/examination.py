"""A request log examined from end to end: read, measured, compared. Needs TFDV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipe.components.model_pusher import manifest
from imgpipe.models import progress
from imgpipe.pipeline.request_drift import comparison, images, log, uncertain
from imgpipe.pipeline.request_drift import reference as blessed
from imgpipe.pipeline.request_drift.survey import Asked, Survey, survey
from imgpipe.pipeline.request_drift.unfamiliar import Unfamiliar

#: Different images of a version that are measured, spread over the log: at so many, chance moves
#: no figure by a hundredth, and each costs some milliseconds.
MOST_MEASURED = 5_000


@dataclass(frozen=True)
class Log:
    """A log that was read once."""

    files: tuple[Path, ...]
    model: log.Model
    statistics: log.ReadStatistics
    survey: Survey

    def save_uncertain(self, target: Path) -> int:
        """Write the least certain images; see `uncertain.save`."""
        return uncertain.save(target, self.files, self.model, self.survey.uncertain)


@dataclass(frozen=True)
class Examined:
    """What a log came to."""

    compared: tuple[comparison.Compared, ...]  # by version, the newest first
    measured: images.MeasuredImages  # its images, of all versions together
    gone: tuple[int, ...]  # versions that answered and are no longer there
    drift: bool | None  # None where nothing could be judged
    verdict: str  # the sentence that a person reads


def read(path: Path, versions: Mapping[int, manifest.Version], least: int) -> Log:
    """Read a log once.

    Args:
      path: file, folder or prefix of the log.
      versions: of the model, by number.
      least: least certain images to find.

    Raises:
      ConfigError: no log, or that of another model.
      ResourceError: an empty one.
    """
    files = log.find(path)
    model = log.Model({number: tuple(v.vocabulary) for number, v in versions.items()})
    statistics = log.ReadStatistics()
    found = survey(_counted(log.read(files, model, statistics)), least)
    if not found.answers:
        raise log.refusal(statistics, path, model)
    return Log(tuple(files), model, statistics, found)


def _counted(answers: Iterable[log.Answer]) -> Iterator[log.Answer]:
    for answer in answers:
        progress.advance(1, "answers")
        yield answer


def examine(found: Log, versions: Mapping[int, manifest.Version], run: Path | None) -> Examined:
    """Measure and compare what a log holds.

    Args:
      found: of `read`.
      versions: of the model, by number.
      run: output folder of the run that made them; None for the folder above the versions.

    Raises:
      ResourceError: nothing says what the model was trained on.
    """
    known, gone = blessed.choose(versions, found.survey.asked)
    measured = images.MeasuredImages()
    compared = []
    for version in known:
        reference = blessed.load(version, run)
        asked = found.survey.asked[version.number]
        before = len(measured.rows)
        with Unfamiliar.of(reference) as unfamiliar:
            images.measure(_images(found, asked), measured, unfamiliar.look_at)
        rows = measured.rows[before:]
        compared.append(comparison.compare(asked, rows, reference, unfamiliar.share))
    drift, verdict = comparison.verdict(compared, found.survey.images > 0)
    return Examined(tuple(compared), measured, tuple(gone), drift, verdict)


def _images(found: Log, asked: Asked) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of a version's different images; of very many, some."""
    wanted = set(images.spread(asked.locations, MOST_MEASURED))
    if not wanted:
        return
    progress.total(len(wanted), "images")
    for answer in images.fetch(found.files, found.model, wanted):
        yield images.named(found.files, answer.location), answer.image or b""
