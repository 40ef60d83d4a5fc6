"""Reads the answers in the request log of a server, and chooses the version that is compared.

A few hundred bytes for each answer stay in memory, but no image.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence, Set

from imgpipe.components.common.formatting import join_names
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources.request_log import (
    SKIPPED,
    LoggedAnswer,
    RequestLogSource,
)
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.finding import Finding
from imgpipe.models.machine import progress
from imgpipe.models.names import feature_names as names

#: With fewer answers, or fewer different images, nothing is judged: chance would decide.
FEWEST = 50
_FOREIGN = "answers_of_another_model"  # reason of a finding


def read(
    source: RequestLogSource, vocabularies: Mapping[int, Set[str]]
) -> tuple[int, list[LoggedAnswer], list[Finding]]:
    """Return the newest version with enough answers, its answers, and notes about all others.

    `vocabularies` holds the class names of each version of the model by its number. A log without
    an answer of one of them is a ConfigError if it is that of another model, and else a
    ResourceError.
    """
    answers: dict[int, list[LoggedAnswer]] = collections.defaultdict(list)
    removed: collections.Counter[int] = collections.Counter()
    foreign: collections.Counter[str] = collections.Counter()
    notes: list[Finding] = []
    for answer in source.answers(notes):
        progress.advance(1, "answers")
        if answer.version not in vocabularies:
            removed[answer.version] += 1
        elif _answers_with(answer, vocabularies[answer.version]):
            answers[answer.version].append(answer)
        else:
            foreign[answer.label] += 1
    if foreign:
        labels = f"answers such as {join_names(sorted(foreign))}"
        notes.append(noted(_FOREIGN, labels, "other classes than the version's", foreign.total()))
    for number, count in sorted(removed.items()):
        why = "there is no such version of the model"
        notes.append(noted("other_answers", f"version {number}", why, count))
    if not answers:
        raise _refusal(source.locator, notes, vocabularies)
    compared = max([number for number in answers if len(answers[number]) >= FEWEST] or answers)
    for number in sorted(answers.keys() - {compared}):
        why = f"version {compared} is compared"
        notes.append(noted("other_answers", f"version {number}", why, len(answers[number])))
    return compared, answers[compared], notes


def _answers_with(answer: LoggedAnswer, vocabulary: Set[str]) -> bool:
    """Whether an answer is of a model with these classes."""
    is_known = answer.label in vocabulary or answer.label == names.UNKNOWN
    return is_known and answer.classes == len(vocabulary)


def _refusal(
    log: str, notes: Sequence[Finding], vocabularies: Mapping[int, Set[str]]
) -> ConfigError | ResourceError:
    """Return the error for a log without an answer of the model."""
    places = ((note["examples"][0], note["count"]) for note in notes)
    rows = [f"{place['path']}: {place['detail']} ({number:,})" for place, number in places]
    newest = max(vocabularies)
    classes = join_names(sorted(vocabularies[newest]))
    words = (
        f"{log} holds no answer of this model: {'; '.join(rows) or 'it is empty'}. Expected: "
        f"answers of version {newest} with the classes {classes}. Name the folder of the model "
        "that answered with --model, or send requests to the server first (--log-share sets the "
        "share of them that is logged)."
    )
    is_other_log = any(note["reason"] in (_FOREIGN, SKIPPED) for note in notes)
    return ConfigError(words) if is_other_log else ResourceError(words)
