"""What a person decides about the images of a run.

The file of overrides is the only record, so that a review can be interrupted, continued, and mixed
with editing the file by hand. What each answer replaced is known while the page is open.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from imgpipe.components.image_filter.judge import overrides
from imgpipe.models.errors import ConfigError
from imgpipe.models.settings.override import VERDICTS, Override, OverrideVerdict
from imgpipe.pipeline.review.images import (
    ReviewDecision,
    ReviewedImage,
    ReviewedImages,
    obstacles,
)

_NOTE = "imgpipe review"


class RefusedAnswer(Exception):
    """An answer or another request that is not possible, as the person at the page is told."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status  # of HTTP


class Decisions:
    """The decisions about the images of one run.

    Args:
        images: The images.
        file: File of overrides, which is created with the first decision.

    Raises:
        ConfigError: The file of overrides is invalid.
    """

    def __init__(self, images: ReviewedImages, file: Path) -> None:
        self.images = images
        self.file = file
        self._lock = threading.Lock()  # the server answers requests in several threads
        self._history: list[dict[str, Override | None]] = []  # entries before each answer
        self._entries()  # raises ConfigError

    def made(self) -> dict[str, ReviewDecision]:
        """Return the decisions so far by image hash; images without one are missing.

        Raises:
            ConfigError: The file of overrides is invalid.
        """
        return {
            entry.image_hash: {"verdict": entry.verdict, "label": entry.label}
            for entry in self._entries()
            if entry.image_hash in self.images.by_hash
        }

    def counts(self) -> dict[str, int]:
        """Return the number of images by verdict."""
        return Counter(decision["verdict"] for decision in self.made().values())

    def answer(self, hashes: Sequence[str], decision: ReviewDecision) -> list[str]:
        """Decide about images by their hashes, and save it before returning.

        An empty verdict takes back what was decided. Returned are the hashes of the images for
        which the decision is possible. If it is for none, RefusedAnswer is raised. An invalid file
        of overrides raises ConfigError, and one that cannot be written OSError.
        """
        verdict = decision["verdict"]
        label = decision["label"]
        if verdict not in ("", *VERDICTS):
            verdicts = ", ".join(VERDICTS)
            raise RefusedAnswer(f"An answer is one of {verdicts}. Received: {verdict[:40]!r}.")
        if verdict != "relabel":
            decision = {"verdict": verdict, "label": ""}
        elif label not in self.images.classes:
            raise RefusedAnswer(f"{label[:80]!r} is not a class of this run.")
        changes: dict[str, Override | None] = {}
        why = "This review has no such image."
        for image_hash in hashes:
            row = self.images.by_hash.get(image_hash)
            if row is None:
                continue
            decided = _decided(row, decision)
            refusal = _refusal(row, decided)
            why = refusal or why
            if not refusal:
                changes[image_hash] = _entry_of(row, decided)
        if not changes:
            raise RefusedAnswer(why)
        with self._lock:
            self._history.append(overrides.replace_entries(self.file, changes))
        return [*changes]

    def undo(self) -> list[str]:
        """Take back the last answer; return the hashes of its images, [] if there is none.

        The errors are those of `answer`.
        """
        with self._lock:
            if not self._history:
                return []
            overrides.replace_entries(self.file, self._history[-1])
            return [*self._history.pop()]  # not before the file is written, which may fail

    def _entries(self) -> Sequence[Override]:
        return overrides.load(self.file) if self.file.exists() else ()


def _decided(row: ReviewedImage, decision: ReviewDecision) -> ReviewDecision:
    """Return a decision as the override of an image says it, whose label may be of an override."""
    verdict = decision["verdict"]
    label = decision["label"]
    if verdict == "accept" and row.label != row.source_label:
        return {"verdict": "relabel", "label": row.label}
    if verdict == "relabel" and label == row.source_label and not obstacles(row)[0]:
        return {"verdict": "accept", "label": ""}
    return decision


def _refusal(row: ReviewedImage, decided: ReviewDecision) -> str:
    """Return why a decision about an image is not possible, "" if it is."""
    no_accept, no_relabel = obstacles(row)
    return {"accept": no_accept, "relabel": no_relabel}.get(decided["verdict"], "")


def _entry_of(row: ReviewedImage, decided: ReviewDecision) -> Override | None:
    """Return the entry of a decision about an image; None to take one back."""
    if not decided["verdict"]:
        return None
    verdict = cast(OverrideVerdict, decided["verdict"])
    path = os.fsencode(row.path).decode("utf-8", "replace")  # only for readers of the file
    return Override(row.image_hash, verdict, decided["label"], path, _NOTE)


def check(file: Path) -> None:
    """Check whether decisions can be written to a file of overrides.

    Raises:
        ConfigError: The file is invalid, or its folder cannot be written.
    """
    if file.exists():
        overrides.load(file)
    elif not file.parent.is_dir():
        raise ConfigError(
            f"--to {file}: there is no folder {file.parent}. Create it, or name another file."
        )
