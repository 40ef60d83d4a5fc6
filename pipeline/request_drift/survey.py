"""Reads a log once, and counts the answers and the different images of each version.

It keeps a few bytes for each answer and 16 bytes for each different image, but no image, in memory.
"""

from __future__ import annotations

import collections
import hashlib
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


@dataclass
class Survey:
    """The answers of one model in a log."""

    versions: dict[int, VersionRequests] = field(default_factory=dict)  # by version

    @property
    def answers(self) -> int:
        """Number of answers of all versions."""
        return sum(requests.answers for requests in self.versions.values())

    @property
    def images(self) -> int:
        """Number of answers of all versions whose image is in the log."""
        return sum(requests.images for requests in self.versions.values())


def survey(answers: Iterable[Answer]) -> Survey:
    """Read all answers of `log.read` once, and count them by version."""
    found = Survey()
    seen: dict[int, set[bytes]] = collections.defaultdict(set)
    for answer in answers:
        new = VersionRequests(answer.version, first=answer.time)
        requests = found.versions.setdefault(answer.version, new)
        requests.labels[answer.label] += 1
        # NaN would be the highest one.
        requests.confidence.append(float(np.nan_to_num(answer.probabilities).max()))
        requests.first = min(requests.first, answer.time)
        requests.last = max(requests.last, answer.time)
        if answer.image is None:
            continue
        requests.images += 1
        digest = hashlib.sha256(answer.image).digest()[:_DIGEST]
        if digest not in seen[answer.version]:
            seen[answer.version].add(digest)
            requests.locations.append(answer.location)
    return found
