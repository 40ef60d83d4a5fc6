"""Counts the answers in the request log of a server, and chooses the version that is compared.

A few bytes for each answer and the place of each different image stay in memory, but no image.
"""

from __future__ import annotations

import collections
from array import array
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from imgpipe.components.common.formatting import join_names
from imgpipe.components.example_gen.notes import noted
from imgpipe.components.example_gen.sources.base import Item
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


@dataclass
class VersionRequests:
    """The requests to one version and its answers.

    Attributes:
        labels: Number of answers by label.
        confidence: The highest probability of each answer.
        images: Number of answers whose image the log holds.
        items: The different images by their hash.
        first: Time of the first answer, seconds since 1970.
        last: Time of the last answer.
    """

    labels: collections.Counter[str] = field(default_factory=collections.Counter)
    confidence: array[float] = field(default_factory=lambda: array("f"))
    images: int = 0
    items: dict[str, Item] = field(default_factory=dict)
    first: int = 0
    last: int = 0

    @property
    def answers(self) -> int:
        """Number of answers; a request for N images has N of them."""
        return len(self.confidence)

    def add(self, answer: LoggedAnswer) -> None:
        """Count an answer."""
        self.first = min(self.first or answer.time, answer.time)
        self.last = max(self.last, answer.time)
        self.labels[answer.label] += 1
        self.confidence.append(answer.confidence)
        if answer.item is not None:
            self.images += 1
            self.items.setdefault(answer.item.sha256, answer.item)


def read(
    source: RequestLogSource, vocabularies: Mapping[int, Set[str]]
) -> tuple[int, VersionRequests, list[Finding]]:
    """Read a log once, from its first record to its last.

    Args:
        source: The log.
        vocabularies: Class names of each version of the model, by its number.

    Returns:
        The newest version of which there are enough answers, the requests to it, and notes about
        what is not compared.

    Raises:
        ConfigError: There is no log, or it is not the log of this model.
        ResourceError: The log is empty, or the versions that answered were removed.
    """
    requests: dict[int, VersionRequests] = {}
    removed: collections.Counter[int] = collections.Counter()
    foreign: collections.Counter[str] = collections.Counter()
    notes: list[Finding] = []
    for answer in source.answers(notes):
        progress.advance(1, "answers")
        if answer.version not in vocabularies:
            removed[answer.version] += 1
        elif _answers_with(answer, vocabularies[answer.version]):
            requests.setdefault(answer.version, VersionRequests()).add(answer)
        else:
            foreign[answer.label] += 1
    if foreign:
        labels = f"answers such as {join_names(sorted(foreign))}"
        notes.append(noted(_FOREIGN, labels, "other classes than the version's", foreign.total()))
    for number, count in sorted(removed.items()):
        why = "there is no such version of the model"
        notes.append(noted("other_answers", f"version {number}", why, count))
    if not requests:
        raise _refusal(source.locator, notes, vocabularies)
    compared = max([n for n in requests if requests[n].answers >= FEWEST] or requests)
    for number in sorted(requests.keys() - {compared}):
        why = f"version {compared} is compared"
        notes.append(noted("other_answers", f"version {number}", why, requests[number].answers))
    return compared, requests[compared], notes


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
