"""Keeps the decisions of a review in the file of overrides, and its history beside the run.

The file of overrides is the only record of what was decided, so that a review can be interrupted,
continued, and mixed with editing the file by hand. A small file beside the page of the run holds
which images were skipped, and what each answer replaced, so that answers can be undone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from imgpipe.components.image_filter import overrides
from imgpipe.components.image_filter.overrides import Override
from imgpipe.models.errors import ConfigError
from imgpipe.models.files import json_object
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.review.questions import Question, Questions

Verdict = Literal["accept", "reject", "relabel", "skip"]
#: File in the folder of a run: ``schema``, ``file``, ``skipped`` and ``history``.
STATE = "review.json"
_SCHEMA = 1
_NOTE = "imgpipe review"


@dataclass(frozen=True)
class Answer:
    """What was decided about an image."""

    verdict: Verdict
    label: str = ""  # the right class, for relabel


class Refused(Exception):
    """An answer that is not possible; the message is for the person at the page."""


class Decisions:
    """The decisions about the questions of one run.

    Args:
        questions: The questions.
        file: File of overrides, which is created with the first decision.
        state: File of skipped images and of the history.

    Raises:
        ConfigError: The file of overrides is invalid.
    """

    def __init__(self, questions: Questions, file: Path, state: Path) -> None:
        self.questions, self.file = questions, file
        self._state = state
        self._lock = threading.Lock()  # the server answers requests in several threads
        self._skipped, self._history = _read(state, file)
        self._entries()  # raises ConfigError

    def answers(self) -> dict[str, Answer]:
        """Return the answers so far by image hash; images without one are missing."""
        with self._lock:
            decided = overrides.by_hash(self._entries())
            found: dict[str, Answer] = {}
            for image_hash in self.questions.by_hash:
                if entry := overrides.find(decided, image_hash):
                    found[image_hash] = Answer(entry.verdict, entry.label)
                elif image_hash in self._skipped:
                    found[image_hash] = Answer("skip")
            return found

    def answer(self, image_hash: str, verdict: str, label: str = "") -> Answer:
        """Decide about an image, and save the decision before returning.

        Args:
            image_hash: Hash of an image that is asked about.
            verdict: ``accept``, ``reject``, ``relabel`` or ``skip``.
            label: The right class, for ``relabel``.

        Returns:
            The answer that was saved.

        Raises:
            Refused: The answer is not possible.
            ConfigError: The file of overrides is invalid.
            OSError: A file cannot be written.
        """
        with self._lock:
            question = self.questions.by_hash.get(image_hash)
            if question is None:
                raise Refused("This review does not ask about this image.")
            entries = self._checked(question, verdict, label)
            before = {"image_hash": image_hash, "skipped": image_hash in self._skipped}
            # "Skip" takes back a decision, but a proposal was not the person's decision.
            present = () if entries else overrides.of_image(self._entries(), image_hash)
            if entries or present:
                kept = entries or [entry for entry in present if not entry.confirmed]
                old = overrides.replace(self.file, image_hash, kept)
                before["entries"] = _plain(old)
                before["written"] = _plain(kept)
            self._skipped.discard(image_hash)
            if verdict == "skip":
                self._skipped.add(image_hash)
            self._history.append(before)
            self._save()
            return Answer(entries[0].verdict, entries[0].label) if entries else Answer("skip")

    def undo(self) -> str:
        """Take back the last answer.

        Returns:
            Hash of the image that it was about, "" when there is no answer to undo.

        Raises:
            Refused: Somebody has changed the decision in the file since. The next call takes back
                the answer before it.
            ConfigError: The file of overrides is invalid.
            OSError: A file cannot be written.
        """
        with self._lock:
            if not self._history:
                return ""
            last = self._history[-1]
            image_hash = str(last["image_hash"])
            present = overrides.of_image(self._entries(), image_hash)
            if last.get("written", _plain(present)) != _plain(present):
                self._history.pop()
                self._save()
                raise Refused(
                    f"The last answer is not undone, because {self.file} now has another decision "
                    f"about its image ({image_hash[:12]}…). Edit the file to change it."
                )
            if "entries" in last:
                entries = [Override(**entry) for entry in last["entries"]]
                overrides.replace(self.file, image_hash, entries)
            self._skipped.discard(image_hash)
            if last["skipped"]:
                self._skipped.add(image_hash)
            self._history.pop()  # not before the file is written, which may fail
            self._save()
            return image_hash

    def _checked(self, question: Question, verdict: str, label: str) -> tuple[Override, ...]:
        """Return the entries of an answer; Refused when it is not possible."""
        if verdict == "skip":
            return ()
        if verdict not in overrides.VERDICTS:
            known = ", ".join((*overrides.VERDICTS, "skip"))
            raise Refused(f"An answer is one of {known}. Received: {verdict[:40]!r}.")
        why = {"accept": question.no_accept, "relabel": question.no_relabel}.get(verdict)
        if why:
            raise Refused(why)
        if verdict != "relabel":
            label = ""
        elif label not in self.questions.classes:
            raise Refused(f"{label[:80]!r} is not a class of this run.")
        image = question.image
        path = os.fsencode(image.path).decode("utf-8", "replace")  # only for readers of the file
        return (Override(image.image_hash, verdict, label, path, _NOTE),)

    def _entries(self) -> Sequence[Override]:
        return overrides.load(self.file) if self.file.exists() else ()

    def _save(self) -> None:
        content = {
            "schema": _SCHEMA,
            "file": str(self.file.absolute()),
            "skipped": sorted(self._skipped),
            "history": self._history,
        }
        atomic_write(self._state, json.dumps(content) + "\n")


def _read(state: Path, file: Path) -> tuple[set[str], list[dict[str, Any]]]:
    """Read skipped images and history; nothing of a state that is missing or damaged.

    The history of answers in another file of overrides is left out: undoing one of them would
    remove a decision from this file that it did not make.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json_object.read(state)
        if content["schema"] == _SCHEMA:
            history = [_entry(one) for one in content["history"]]
            same = content["file"] == str(file.absolute())
            return set(map(str, content["skipped"])), history if same else []
    return set(), []


def _entry(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry of the history; an error when it is none."""
    entry: dict[str, Any] = {
        "image_hash": str(given["image_hash"]),
        "skipped": bool(given["skipped"]),
    }
    for key in ("entries", "written"):
        if key in given:
            entry[key] = _plain(Override(**one) for one in given[key])
            for one in entry[key]:  # the file of overrides is UTF-8, which has no lone surrogates
                "".join(map(str, one.values())).encode()
    return entry


def _plain(entries: Iterable[Override]) -> list[dict[str, Any]]:
    plain = [dataclasses.asdict(entry) for entry in entries]
    for fields in plain:
        del fields["label_index"]  # follows from the label and the classes
    return plain


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
