"""What a review asks about the images of a run, and what is decided.

These are images with a doubtful label, mistakes of models that have not seen the image,
near-duplicates and rejected files. Each image is asked about once, whatever was found in it.
Rejected files that leave nothing to decide are only counted.

The file is the only record of what was decided, so that a review can be interrupted, continued, and
mixed with editing the file by hand. Which images were skipped, and what each answer replaced, is
known while the page is open.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from imgpipe.components.common.image_record import PlacedImage
from imgpipe.components.image_filter import image_table
from imgpipe.components.image_filter.image_table import NearGroup
from imgpipe.components.image_filter.judge import overrides
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.image_filter.judge.checks import CHOICES, obstacle
from imgpipe.components.image_filter.judge.checks.whole_set import (
    NEAR_DUPLICATE,
    NEAR_DUPLICATE_ACROSS_SPLITS,
    NEAR_DUPLICATE_LABEL_CONFLICT,
)
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.report.commands import can_be_reviewed
from imgpipe.components.run_record.doubtful_labels import DOUBTFUL
from imgpipe.components.run_record.facts import Facts
from imgpipe.components.run_record.run_folder import FACTS
from imgpipe.components.run_record.shown_images import Gallery
from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.models.files import json_object
from imgpipe.pipeline.output.past_run import PastRun

QuestionKind = Literal["doubtful", "mistake", "near", "rejected"]
#: Findings of near-duplicates in the order in which they are asked about.
_NEAR_ORDER = (NEAR_DUPLICATE_LABEL_CONFLICT, NEAR_DUPLICATE_ACROSS_SPLITS, NEAR_DUPLICATE)
_TYPICAL = 3  # images that show what a class looks like
#: Why an image of the test split cannot be given another label.
TEST_LABEL = (
    "Overrides never change a label of the test split. Correct this label in the source of the "
    "images."
)


@dataclass(frozen=True)
class Question:
    """An image to decide about."""

    image: PlacedImage
    kind: QuestionKind  # what was found in it first
    why: tuple[str, ...]  # what was found, one sentence or clause each
    suggestion: str = ""  # the class that the image looks like
    beside: tuple[PlacedImage, ...] = ()  # similar images, to compare with
    rejected: bool = False  # whether the run rejected it
    no_accept: str = ""  # why it cannot be accepted, "" when it can
    no_relabel: str = ""  # why it cannot be given another label, "" when it can


@dataclass(frozen=True)
class Questions:
    """All questions of a run, in the order of the page."""

    classes: tuple[str, ...]  # in sorted order
    asked: tuple[Question, ...]
    typical: Mapping[str, tuple[PlacedImage, ...]]  # by class: images that show what it looks like
    not_asked: int = 0  # rejected files about which there is nothing to decide

    @cached_property
    def by_hash(self) -> Mapping[str, Question]:
        """The questions by the hash of their image."""
        return {question.image["image_hash"]: question for question in self.asked}

    def images(self) -> dict[str, PlacedImage]:
        """Return every image that the page shows, by its hash."""
        shown = [image for images in self.typical.values() for image in images]
        shown += [image for question in self.asked for image in question.beside]
        shown += [question.image for question in self.asked]
        return {image["image_hash"]: image for image in shown}


def read(run: PastRun) -> Questions:
    """Read the questions of a run.

    Raises:
        ResourceError: The facts of the run cannot be read.
    """
    file = run.folder / FACTS
    try:
        facts: Any = json_object.read(file)
        if run.quarantine is not None:
            groups = image_table.read_found(str(run.quarantine)).near_groups() or []
            return collect(facts, groups)
        return collect(facts, facts["near"]["rows"] if facts["near"] is not None else [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResourceError(
            f"cannot read {file} ({type(error).__name__}: {error}). Expected the facts that "
            "a run leaves beside its page. Run the pipeline again."
        ) from None


def collect(facts: Facts, groups: Sequence[NearGroup]) -> Questions:
    """Make the questions.

    Args:
        facts: Facts of the run, as `run_record.collect.collect` returns them.
        groups: All groups of near-duplicates of the run.
    """
    rejected = facts["rejected"]
    questions: dict[str, Question] = {}
    for new in (*_contradicted(facts), *_near(groups), *_rejected(rejected, groups)):
        old = questions.get(new.image["image_hash"])
        questions[new.image["image_hash"]] = new if old is None else _merged(old, new)
    classes = tuple(facts["settings"]["vocabulary"])
    not_asked = sum(not can_be_reviewed(row) for row in rejected)
    typical = {row["name"]: _typical(row, questions) for row in facts["galleries"]}
    return Questions(classes, tuple(questions.values()), typical, not_asked)


def _typical(row: Gallery, asked: Mapping[str, Question]) -> tuple[PlacedImage, ...]:
    """Return the typical images of a class, without those that are themselves in question."""
    images = [image for image in row["typical"] if image["image_hash"] not in asked]
    shown = images[:_TYPICAL]
    return tuple({**image, "label": row["name"], "split": ""} for image in shown)


def _merged(first: Question, more: Question) -> Question:
    """Return one question about an image in which two things were found."""
    either = ("suggestion", "beside", "rejected", "no_accept", "no_relabel")
    filled = {name: getattr(first, name) or getattr(more, name) for name in either}
    return replace(first, why=tuple(dict.fromkeys((*first.why, *more.why))), **filled)


def _question(row: PlacedImage, kind: QuestionKind, why: str, **more: Any) -> Question:
    if row["split"] == names.TEST:
        more["no_relabel"] = TEST_LABEL
    return Question(_placed(row), kind, (why,), **more)


def _placed(row: PlacedImage) -> PlacedImage:
    """Return what the page shows of an image of which more is known."""
    return {
        "image_hash": row["image_hash"],
        "path": row["path"],
        "label": row["label"],
        "split": row["split"],
    }


def _contradicted(facts: Facts) -> Iterator[Question]:
    """Ask about the images that models which have not seen them take for another class."""
    for row in facts["suspects"]["rows"] if facts["suspects"] is not None else []:
        label = row["looks_like"]
        doubtful = row["wrong"] > DOUBTFUL
        why = f"A model that has not seen this image says {label}."
        yield _question(row, "doubtful" if doubtful else "mistake", why, suggestion=label)


def _near(groups: Iterable[NearGroup]) -> Iterator[Question]:
    """Ask about each member of a group in which something was found, conflicts first."""
    rows = [
        (row, group["members"]) for group in groups for row in group["members"] if row["reason"]
    ]
    for row, members in sorted(rows, key=lambda entry: _NEAR_ORDER.index(entry[0]["reason"])):
        others = [member for member in members if member["path"] != row["path"]]
        # The image to which it is similar, or others of its group if that one is not listed.
        similar = [member for member in others if member["path"] == row["kept_copy"]]
        beside = tuple(_placed(member) for member in (similar or others)[:3])
        is_rejected = row["severity"] == "reject"
        yield _question(row, "near", _sentence(row), beside=beside, rejected=is_rejected)


def _rejected(rejected: Iterable[Row], groups: Iterable[NearGroup]) -> Iterator[Question]:
    """Ask about the rejected files that an override can make usable."""
    members = {member["path"]: member for group in groups for member in group["members"]}
    for row in sorted(rejected, key=lambda row: (row["reason"], row["path"])):
        reason = row["reason"]
        remedy = row["override"]
        if not can_be_reviewed(row):
            continue
        copy = members.get(row["kept_copy"])
        yield _question(
            row,
            "rejected",
            _sentence(row),
            beside=(_placed(copy),) if copy else (),
            rejected=True,
            no_accept=obstacle(reason, remedy, relabel=False),
            no_relabel=obstacle(reason, remedy, relabel=True),
        )


def _sentence(row: Row) -> str:
    """Return what was found as a sentence: the check's words, and its detail."""
    reason = row["reason"]
    words = CHOICES[reason].finds if reason in CHOICES else reason.replace("_", " ")
    if reason == NEAR_DUPLICATE_LABEL_CONFLICT:  # no setting chooses its severity
        words = "Nearly the same image with another label"
    detail = row["detail"]
    return f"{words[:1].upper()}{words[1:]}: {detail}." if detail else f"{words}."


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
        path = os.fsencode(image["path"]).decode("utf-8", "replace")  # only for readers of the file
        return (Override(image["image_hash"], verdict, label, path, _NOTE),)

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
