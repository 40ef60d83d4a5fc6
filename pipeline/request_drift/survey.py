"""Reads a log once: counts the answers of each version and finds the least certain images.

It keeps a few bytes for each answer and 16 bytes for each different image, but no image, in memory.
"""

from __future__ import annotations

import collections
import hashlib
import heapq
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from imgpipe.models import feature_names as names
from imgpipe.pipeline.request_drift.log import Answer, Location

_DIGEST = 16  # bytes of the SHA-256 by which images are compared; half of it saves memory


@dataclass
class VersionRequests:
    """The requests and answers of one version."""

    version: int
    labels: collections.Counter[str] = field(default_factory=collections.Counter)
    confidence: array[float] = field(default_factory=lambda: array("f"))  # the top probability
    images: int = 0  # number of answers whose image the log holds
    locations: list[Location] = field(default_factory=list)  # first one of each different image
    first: int = 0  # time of the first answer, seconds since 1970
    last: int = 0  # time of the last answer

    @property
    def answers(self) -> int:
        """Number of answers; a request for N images has N of them."""
        return len(self.confidence)

    @property
    def unknown(self) -> float:
        """Share of the answers that are "unknown", 0..1."""
        return self.labels[names.UNKNOWN] / max(self.answers, 1)


@dataclass(frozen=True)
class Uncertain:
    """An image for which the model was uncertain."""

    location: Location
    version: int
    time: int  # seconds since 1970
    label: str  # most probable class, also where the answer was "unknown"
    probability: float
    second: str  # second most probable class, "" if there is only one
    second_probability: float

    @property
    def rank(self) -> tuple[float, float]:
        """Certainty: the top probability, then its lead over the second. Smallest first."""
        return self.probability, self.probability - self.second_probability


@dataclass
class Survey:
    """The answers of one model in a log."""

    versions: dict[int, VersionRequests] = field(default_factory=dict)  # by version
    uncertain: list[Uncertain] = field(default_factory=list)  # the least certain first

    @property
    def answers(self) -> int:
        """Number of answers of all versions."""
        return sum(requests.answers for requests in self.versions.values())

    @property
    def images(self) -> int:
        """Number of answers of all versions whose image is in the log."""
        return sum(requests.images for requests in self.versions.values())


def survey(answers: Iterable[Answer], most: int) -> Survey:
    """Read all answers once.

    Args:
        answers: Answers of `log.read`.
        most: Number of least certain images to find. Images with the same bytes count once.

    Returns:
        The counts by version and the least certain images.
    """
    found = Survey()
    least = _Least(most)
    seen: dict[int, set[bytes]] = collections.defaultdict(set)
    for answer in answers:
        new = VersionRequests(answer.version, first=answer.time)
        requests = found.versions.setdefault(answer.version, new)
        probabilities = np.nan_to_num(answer.probabilities)  # NaN would be the highest one
        top = int(probabilities.argmax())
        requests.labels[answer.label] += 1
        requests.confidence.append(float(probabilities[top]))
        requests.first = min(requests.first, answer.time)
        requests.last = max(requests.last, answer.time)
        if answer.image is None:
            continue
        requests.images += 1
        digest = hashlib.sha256(answer.image).digest()[:_DIGEST]
        if digest not in seen[answer.version]:
            seen[answer.version].add(digest)
            requests.locations.append(answer.location)
        least.offer(digest, answer, probabilities, top)
    found.uncertain = least.found()
    return found


class _Least:
    """Keeps a bounded number of the least certain images of a stream."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[tuple[float, float], int, bytes, Uncertain]] = []
        self._kept: set[bytes] = set()
        self._count = 0

    def offer(self, digest: bytes, answer: Answer, probabilities: np.ndarray, top: int) -> None:
        """Keep the image if it is less certain than one of those kept."""
        if self._most <= 0 or digest in self._kept:
            return
        # The heap has its most certain image first, because heapq keeps the smallest entry there
        # and the ranks are negative. Most images of a log end here, before they are described.
        if len(self._heap) == self._most and float(probabilities[top]) > -self._heap[0][0][0]:
            return
        one = _described(answer, probabilities, top)
        self._count += 1  # of equally certain images, the first is kept
        entry = ((-one.rank[0], -one.rank[1]), -self._count, digest, one)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            _, _, gone, _ = heapq.heapreplace(self._heap, entry)
            self._kept.discard(gone)
        else:
            return
        self._kept.add(digest)

    def found(self) -> list[Uncertain]:
        """Return the kept images, the least certain first."""
        return [entry[3] for entry in sorted(self._heap, key=lambda e: e[:2], reverse=True)]


def _described(answer: Answer, probabilities: np.ndarray, top: int) -> Uncertain:
    others = probabilities.copy()
    others[top] = -1.0
    second = int(others.argmax())
    lone = second == top
    return Uncertain(
        answer.location,
        answer.version,
        answer.time,
        answer.classes[top],
        float(probabilities[top]),
        "" if lone else answer.classes[second],
        0.0 if lone else float(probabilities[second]),
    )
