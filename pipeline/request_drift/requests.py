"""The answers in a log of requests, and what is measured in their images.

A few hundred bytes for each answer stay in memory, but no image.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from imgpipe.components.common.formatting import join_names
from imgpipe.components.common.image_row import METADATA, ImageRow
from imgpipe.components.example_gen.inspection import inspect
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.example_gen.sources import Item
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.export.saved_model import FEATURE_VECTORS
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.models.files.image_limits import PIXEL_LIMIT
from imgpipe.models.machine import progress
from imgpipe.pipeline.request_drift.logged_answers import SKIPPED, LoggedAnswer, LoggedAnswers
from imgpipe.serving.server.runtime import Runtime

#: Most images that are measured, spread evenly over the log. A share of so many is known to half a
#: percentage point, and each forward pass takes some 15 ms on a CPU core.
MOST = 2_000
#: Features in the statistics of the training data that a request has too: all but the label.
FEATURES = tuple(name for name in METADATA if name not in (names.LABEL, names.LABEL_INDEX))
_BATCH = 32  # images in one forward pass
#: With fewer answers, or fewer different images, nothing is judged: chance would decide.
FEWEST = 50
#: Largest share of the records of a log that may hold no answer: those of more may be another kind
#: of requests, such as all of one client.
_MOST_SKIPPED = 0.1
_FOREIGN = "answers_of_another_model"  # reason of a finding


@dataclass
class MeasuredImages:
    """Measurements of images."""

    rows: list[Mapping[str, object]] = field(default_factory=list)  # of each that can be decoded
    scores: list[float] = field(default_factory=list)  # distances from the training data, if known
    undecodable: int = 0  # number of images that cannot be decoded


def measure(
    log: LoggedAnswers, items: Sequence[Item], model: Path, distribution: FeatureDistribution | None
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
        inspected = inspect(log.reader, chosen, PIXEL_LIMIT)
        opened.enter_context(contextlib.closing(inspected))
        is_scored = distribution is not None and chosen
        runtime = opened.enter_context(contextlib.closing(Runtime(model))) if is_scored else None
        while part := list(itertools.islice(inspected, _BATCH)):
            progress.advance(len(part), "images")
            read = [image for image in part if not image.read_error]
            good = [image for image in read if image.is_measured]
            measured.undecodable += len(read) - len(good)
            measured.rows += [_features(image) for image in good]
            if distribution is not None and runtime is not None and good:
                encoded = [image.image_bytes for image in good]
                vectors = runtime.answer(FEATURE_VECTORS, image_bytes=encoded)[FEATURE_VECTORS]
                measured.scores += distribution.scores(vectors).tolist()
    return measured


def _features(image: ImageRow) -> dict[str, object]:
    """Return what is compared of an image, by name."""
    ratio = float(np.float32(image.width / image.height))
    measured = {names.ASPECT_RATIO: ratio, **image.figures}
    return {name: measured.get(name, getattr(image, name, None)) for name in FEATURES}


def spread(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Choose at most so many items, evenly spread from the first to the last."""
    if len(items) <= most:
        return items
    return [items[number * len(items) // most] for number in range(most)]


def read(
    log: LoggedAnswers, vocabularies: Mapping[int, Set[str]]
) -> tuple[int, list[LoggedAnswer], Notes]:
    """Return the newest version with enough answers, its answers, and notes about all others.

    `vocabularies` holds the class names of each version of the model by its number. A log without
    an answer of one of them is a ConfigError if it is that of another model, and else a
    ResourceError. If more than a tenth of its records hold no answer, it is a ConfigError.
    """
    answers: dict[int, list[LoggedAnswer]] = collections.defaultdict(list)
    removed: collections.Counter[int] = collections.Counter()
    foreign: collections.Counter[str] = collections.Counter()
    notes = Notes()
    for answer in log.answers(notes):
        progress.advance(1, "answers")
        if answer.version not in vocabularies:
            removed[answer.version] += 1
        elif _answers_with(answer, vocabularies[answer.version]):
            answers[answer.version].append(answer)
        else:
            foreign[answer.label] += 1
    if foreign:
        labels = f"answers such as {join_names(sorted(foreign))}"
        notes.add(_FOREIGN, labels, "other classes than the version's", foreign.total())
    for number, count in sorted(removed.items()):
        why = "there is no such version of the model"
        notes.add("other_answers", f"version {number}", why, count)
    if not answers:
        raise _refusal(log, notes, vocabularies)
    if notes.count(SKIPPED) > _MOST_SKIPPED * log.records_read:
        raise _gaps(log, notes)
    compared = max([number for number in answers if len(answers[number]) >= FEWEST] or answers)
    for number in sorted(answers.keys() - {compared}):
        why = f"version {compared} is compared"
        notes.add("other_answers", f"version {number}", why, len(answers[number]))
    return compared, answers[compared], notes


def _gaps(log: LoggedAnswers, notes: Notes) -> ConfigError:
    """Return the error for a log of which too many records hold no answer."""
    skipped = [finding for finding in notes.findings() if finding["reason"] == SKIPPED]
    whys = sorted({example["detail"] for finding in skipped for example in finding["examples"]})
    return ConfigError(
        f"{notes.count(SKIPPED):,} of the {log.records_read:,} records in {log.path} were skipped "
        f"({'; '.join(whys)}), so that the others do not stand for all requests. Expected: label "
        f"and probabilities in {1 - _MOST_SKIPPED:.0%} of the records or more. A server of this "
        "version of imgpipe logs both, whatever its clients ask for: start it again with a new "
        "prefix (--request-log), and compare that log. Of a folder with other files, name the "
        "prefix."
    )


def _answers_with(answer: LoggedAnswer, vocabulary: Set[str]) -> bool:
    """Whether an answer is of a model with these classes."""
    return answer.label in vocabulary and answer.classes == len(vocabulary)


def _refusal(
    log: LoggedAnswers, notes: Notes, vocabularies: Mapping[int, Set[str]]
) -> ConfigError | ResourceError:
    """Return the error for a log without an answer of the model."""
    findings = notes.findings()
    rows = [
        f"{finding['sentence']}: {example['detail']}"
        for finding in findings
        for example in finding["examples"][:1]
    ]
    newest = max(vocabularies)
    classes = join_names(sorted(vocabularies[newest]))
    words = (
        f"{log.path} holds no answer of this model: {'; '.join(rows) or 'it is empty'}. Expected: "
        f"answers of version {newest} with the classes {classes}. Name the folder of the model "
        "that answered with --model, or send requests to the server first (--log-share sets the "
        "share of them that is logged)."
    )
    is_other_log = any(finding["reason"] in (_FOREIGN, SKIPPED) for finding in findings)
    return ConfigError(words) if is_other_log else ResourceError(words)
