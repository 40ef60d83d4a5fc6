"""The images of a run about which a person can decide.

These are images with a doubtful label, mistakes of models that have not seen the image,
near-duplicates and rejected files. Each image is asked about once, whatever was found in it.
Rejected files that leave nothing to decide are only counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from imgpipe.components.common.image_record import PlacedImage
from imgpipe.components.image_filter import image_table
from imgpipe.components.image_filter.image_table import NearGroup
from imgpipe.components.image_filter.judge.check import Row
from imgpipe.components.image_filter.judge.checks import CHOICES, obstacle
from imgpipe.components.image_filter.judge.checks.whole_set import (
    NEAR_DUPLICATE,
    NEAR_DUPLICATE_ACROSS_SPLITS,
    NEAR_DUPLICATE_LABEL_CONFLICT,
)
from imgpipe.components.report.commands import can_be_reviewed
from imgpipe.components.run_record.doubtful_labels import DOUBTFUL
from imgpipe.components.run_record.facts import Facts
from imgpipe.components.run_record.run_folder import FACTS
from imgpipe.components.run_record.shown_images import Gallery
from imgpipe.models.errors import ResourceError
from imgpipe.models.files import json_object
from imgpipe.models.names import feature_names as names
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
class Shown:
    """An image on the page."""

    image_hash: str
    path: str
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class Question:
    """An image to decide about."""

    image: Shown
    kind: QuestionKind  # what was found in it first
    why: tuple[str, ...]  # what was found, one sentence or clause each
    suggestion: str = ""  # the class that the image looks like
    beside: tuple[Shown, ...] = ()  # similar images, to compare with
    rejected: bool = False  # whether the run rejected it
    no_accept: str = ""  # why it cannot be accepted, "" when it can
    no_relabel: str = ""  # why it cannot be given another label, "" when it can


@dataclass(frozen=True)
class Questions:
    """All questions of a run, in the order of the page."""

    classes: tuple[str, ...]  # in sorted order
    asked: tuple[Question, ...]
    typical: Mapping[str, tuple[Shown, ...]]  # by class: images that show what it looks like
    not_asked: int = 0  # rejected files about which there is nothing to decide

    @cached_property
    def by_hash(self) -> Mapping[str, Question]:
        """The questions by the hash of their image."""
        return {question.image.image_hash: question for question in self.asked}

    def images(self) -> dict[str, Shown]:
        """Return every image that the page shows, by its hash."""
        beside = {image.image_hash: image for question in self.asked for image in question.beside}
        typical = {image.image_hash: image for row in self.typical.values() for image in row}
        asked = {question.image.image_hash: question.image for question in self.asked}
        return typical | beside | asked


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
        old = questions.get(new.image.image_hash)
        questions[new.image.image_hash] = new if old is None else _merged(old, new)
    classes = tuple(facts["settings"]["vocabulary"])
    not_asked = sum(not can_be_reviewed(row) for row in rejected)
    typical = {row["name"]: _typical(row, questions) for row in facts["galleries"]}
    return Questions(classes, tuple(questions.values()), typical, not_asked)


def _typical(row: Gallery, asked: Mapping[str, Question]) -> tuple[Shown, ...]:
    """Return the typical images of a class, without those that are themselves in question."""
    images = [image for image in row["typical"] if image["image_hash"] not in asked]
    shown = images[:_TYPICAL]
    return tuple(Shown(image["image_hash"], image["path"], row["name"]) for image in shown)


def _merged(first: Question, more: Question) -> Question:
    """Return one question about an image in which two things were found."""
    either = ("suggestion", "beside", "rejected", "no_accept", "no_relabel")
    filled = {name: getattr(first, name) or getattr(more, name) for name in either}
    return replace(first, why=tuple(dict.fromkeys((*first.why, *more.why))), **filled)


def _shown(row: PlacedImage) -> Shown:
    return Shown(row["image_hash"], row["path"], row["label"], row["split"])


def _question(row: PlacedImage, kind: QuestionKind, why: str, **more: Any) -> Question:
    if row["split"] == names.TEST:
        more["no_relabel"] = TEST_LABEL
    return Question(_shown(row), kind, (why,), **more)


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
        beside = tuple(map(_shown, (similar or others)[:3]))
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
            beside=(_shown(copy),) if copy else (),
            rejected=True,
            no_accept=obstacle(reason, remedy, relabel=False),
            no_relabel=obstacle(reason, remedy, relabel=True),
        )


def _sentence(row: Row) -> str:
    """Return what was found as a sentence: the check's words, and its detail."""
    reason = row["reason"]
    words = CHOICES[reason].about if reason in CHOICES else reason.replace("_", " ")
    if reason == NEAR_DUPLICATE_LABEL_CONFLICT:  # no setting chooses its severity
        words = "Nearly the same image with another label"
    detail = row["detail"]
    return f"{words[:1].upper()}{words[1:]}: {detail}." if detail else f"{words}."
