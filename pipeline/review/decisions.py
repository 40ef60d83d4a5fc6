"""Keeps the decisions of a review in the file of overrides.

The file is the only record of what was decided, so that a review can be interrupted, continued, and
mixed with editing the file by hand. Which images were skipped, and what each answer replaced, is
known while the page is open.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.review.questions import Question, Questions

_NOTE = "imgpipe review"


@dataclass(frozen=True)
class ReviewAnswer:
    """What was decided about an image."""

    verdict: Literal["accept", "reject", "relabel", "skip"]
    label: str = ""  # the right class, for relabel


class RefusedAnswer(Exception):
    """An answer or another request that is not possible, as the person at the page is told."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status  # of HTTP


class Decisions:
    """The decisions about the questions of one run.

    Args:
        questions: The questions.
        file: File of overrides, which is created with the first decision.

    Raises:
        ConfigError: The file of overrides is invalid.
    """

    def __init__(self, questions: Questions, file: Path) -> None:
        self.questions = questions
        self.file = file
        self._lock = threading.Lock()  # the server answers requests in several threads
        self._skipped: set[str] = set()
        #: Image, whether it was skipped, and its entries, before each answer.
        self._history: list[tuple[str, bool, tuple[Override, ...]]] = []
        self._entries()  # raises ConfigError

    def answers(self) -> dict[str, ReviewAnswer]:
        """Return the answers so far by image hash; images without one are missing."""
        with self._lock:
            decided = overrides.by_hash(self._entries())
            answers: dict[str, ReviewAnswer] = {}
            for image_hash in self.questions.by_hash:
                if entry := overrides.override_of(image_hash, decided):
                    answers[image_hash] = ReviewAnswer(entry.verdict, entry.label)
                elif image_hash in self._skipped:
                    answers[image_hash] = ReviewAnswer("skip")
            return answers

    def answer(self, image_hash: str, verdict: str, label: str = "") -> ReviewAnswer:
        """Decide about an image, and save the decision before returning it.

        Args:
            image_hash: Hash of an image that is asked about.
            verdict: `accept`, `reject`, `relabel` or `skip`.
            label: The right class, for `relabel`.

        Raises:
            Refused: The answer is not possible.
            ConfigError: The file of overrides is invalid.
            OSError: A file cannot be written.
        """
        with self._lock:
            question = self.questions.by_hash.get(image_hash)
            if question is None:
                raise RefusedAnswer("This review does not ask about this image.")
            entries = self._checked(question, verdict, label)
            old = overrides.of_image(self._entries(), image_hash)
            if entries or old:  # "skip" takes back a decision
                old = overrides.replace_entries(self.file, image_hash, entries)
            self._history.append((image_hash, image_hash in self._skipped, old))
            self._skip(image_hash, verdict == "skip")
            return (
                ReviewAnswer(entries[0].verdict, entries[0].label)
                if entries
                else ReviewAnswer("skip")
            )

    def undo(self) -> str:
        """Take back the last answer; return the hash of its image, "" if there is none.

        Raises:
            ConfigError: The file of overrides is invalid.
            OSError: A file cannot be written.
        """
        with self._lock:
            if not self._history:
                return ""
            image_hash, skipped, old = self._history[-1]
            if overrides.of_image(self._entries(), image_hash) != old:
                overrides.replace_entries(self.file, image_hash, old)
            self._skip(image_hash, skipped)
            self._history.pop()  # not before the file is written, which may fail
            return image_hash

    def _skip(self, image_hash: str, skipped: bool) -> None:
        (self._skipped.add if skipped else self._skipped.discard)(image_hash)

    def _checked(self, question: Question, verdict: str, label: str) -> tuple[Override, ...]:
        """Return the entries of an answer; Refused when it is not possible."""
        if verdict == "skip":
            return ()
        if verdict not in overrides.VERDICTS:
            verdicts = ", ".join((*overrides.VERDICTS, "skip"))
            raise RefusedAnswer(f"An answer is one of {verdicts}. Received: {verdict[:40]!r}.")
        why = {"accept": question.no_accept, "relabel": question.no_relabel}.get(verdict)
        if why:
            raise RefusedAnswer(why)
        if verdict != "relabel":
            label = ""
        elif label not in self.questions.classes:
            raise RefusedAnswer(f"{label[:80]!r} is not a class of this run.")
        image = question.image
        path = os.fsencode(image.path).decode("utf-8", "replace")  # only for readers of the file
        return (Override(image.image_hash, verdict, label, path, _NOTE),)

    def _entries(self) -> Sequence[Override]:
        return overrides.load(self.file) if self.file.exists() else ()


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
