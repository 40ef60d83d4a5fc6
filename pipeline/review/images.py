"""The images of a run, and the views of them that a review shows.

Every file of the source is an image of the review, also a rejected one. A view has the images of
one kind, of one label and of one answer, in an order; a page of it is described at a time, so that
a set of any size can be looked through.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from typing_extensions import TypedDict

from imgpipe.components.common import images
from imgpipe.components.common.image_row import FileFinding, PlacedImage
from imgpipe.components.image_filter import quarantine
from imgpipe.components.image_filter.copies.decisions import DUPLICATE, DUPLICATE_ACROSS_SPLITS
from imgpipe.components.image_filter.findings import title_of
from imgpipe.components.image_filter.judge.checks import obstacle
from imgpipe.components.image_filter.judge.examine import REVIEWED
from imgpipe.components.report.blocks import capitalised
from imgpipe.components.run_record.doubtful_labels import DOUBTFUL, SURELY_WRONG, UNLIKE
from imgpipe.components.run_record.run_folder import ANSWERS
from imgpipe.models.errors import ConfigError, ResourceError, nearest
from imgpipe.models.files import json_object
from imgpipe.pipeline.output.run import Run

#: Kinds of images, those that most need a look first.
KINDS = ("doubtful", "mistakes", "unlike", "copies", "rejected", "decided", "all")
_SIMILAR = 3  # similar images beside one of a group
_COPY_USED = "Another copy of this file is used, so there is nothing to decide."
_UNREADABLE = "The file could not be read, so nothing can be decided about it."


class ImageView(NamedTuple):
    """Which images are shown, and in which order."""

    kind: str = "all"  # one of `KINDS`
    label: str = ""  # only images with this label; "" for any
    answer: str = ""  # only images for which this class was answered; "" for any
    order: str = ""  # `doubt`, `surest` or `file`; "" for the order of the kind


class ReviewDecision(TypedDict):
    """What is decided about an image."""

    verdict: str  # of its override; "" where nothing is decided
    label: str  # the right class, for "relabel"


UNDECIDED: ReviewDecision = {"verdict": "", "label": ""}


class ShownImage(PlacedImage):
    """An image as the page shows it."""

    answer: str  # class that a network which has not seen it answers; "" if none has
    sure: float  # probability of the answer
    why: list[str]  # what was found, a sentence each
    proposal: ReviewDecision  # what Enter decides
    similar: list[PlacedImage]  # images to compare with
    no_accept: str  # why it cannot be used as it is, "" when it can
    no_relabel: str  # why it cannot be given another label, "" when it can


class ReviewedImage(NamedTuple):
    """An image of a review: what the filter has decided about it, and what was found."""

    path: str
    image_hash: str
    label: str
    split: str
    source_label: str
    near_group: int
    reason: str  # why it is rejected; "" if it is kept
    findings: Sequence[FileFinding]

    @property
    def placed(self) -> PlacedImage:
        """The image as all lists have it."""
        return {
            "path": self.path,
            "image_hash": self.image_hash,
            "label": self.label,
            "split": self.split,
        }

    @property
    def kept_copy(self) -> str:
        """Path of the image of which this one is a copy; "" if it is none."""
        copies = (finding["kept_copy"] for finding in self.findings)
        return next(filter(None, copies), "")


class _Answer(NamedTuple):
    """What is known of an image with features; see `ImageAnswers`."""

    predicted: str = ""
    sure: float = 0.0
    wrong: float = 0.0
    unlike_class: float = 0.0
    unlike_all: float = 0.0


@dataclass(frozen=True)
class ReviewedImages:
    """All images of a run.

    Attributes:
        classes: Class names in sorted order.
        rows: The images as the filter left them.
        answers: What is known of those with features, by content hash.
        typical: Images that show what a class looks like, by class.
    """

    classes: tuple[str, ...]
    rows: Sequence[ReviewedImage]
    answers: Mapping[str, _Answer]
    typical: Mapping[str, list[PlacedImage]]

    @cached_property
    def by_hash(self) -> dict[str, ReviewedImage]:
        """The images by content hash; of identical files, one that is kept."""
        ordered = sorted(self.rows, key=lambda row: not row.reason)
        return {row.image_hash: row for row in ordered if row.image_hash}

    def view(self, view: ImageView, decided: Collection[str] = ()) -> list[ReviewedImage]:
        """Return the images of a view in its order; those of `decided` hashes have a decision."""
        order = _ORDERS[view.order or (view.kind if view.kind in _ORDERS else "doubt")]
        rows = [row for row in self._of_kind(view.kind, decided) if self._is_in(view, row)]
        return sorted(rows, key=lambda row: order(row, self.answer_to(row)))

    def answer_to(self, row: ReviewedImage) -> _Answer:
        """Return what is known of an image that is kept; a rejected copy has no answer."""
        return _NOTHING if row.reason else self.answers.get(row.image_hash, _NOTHING)

    def _is_in(self, view: ImageView, row: ReviewedImage) -> bool:
        label_is_right = not view.label or row.label == view.label
        return label_is_right and (not view.answer or self.answer_to(row).predicted == view.answer)

    def _of_kind(self, kind: str, decided: Collection[str]) -> Sequence[ReviewedImage]:
        if kind == "all":
            return self.rows
        if kind == "decided":
            return [row for row in self.rows if row.image_hash in decided]
        return self._by_kind[kind]

    @cached_property
    def _by_kind(self) -> Mapping[str, list[ReviewedImage]]:
        by_kind: dict[str, list[ReviewedImage]] = {kind: [] for kind in KINDS}
        for row in self.rows:
            answer = self.answer_to(row)
            if row.reason:
                by_kind["rejected"].append(row)
            if answer.wrong > 0:
                by_kind["doubtful" if answer.wrong > DOUBTFUL else "mistakes"].append(row)
            if answer.unlike_class > UNLIKE:
                by_kind["unlike"].append(row)
            if row.near_group in self._groups or row.kept_copy:
                by_kind["copies"].append(row)
        return by_kind

    @cached_property
    def _groups(self) -> Mapping[int, list[ReviewedImage]]:
        """The groups of near-duplicates about which there is a finding, by their number."""
        groups: dict[int, list[ReviewedImage]] = defaultdict(list)
        for row in self.rows:
            if row.near_group:
                groups[row.near_group].append(row)
        return {
            number: group for number, group in groups.items() if any(row.kept_copy for row in group)
        }

    @cached_property
    def _by_path(self) -> Mapping[str, ReviewedImage]:
        return {row.path: row for row in self.rows}

    def counts(self, decided: Collection[str]) -> dict[str, int]:
        """Return the number of images of each kind."""
        return {kind: len(self._of_kind(kind, decided)) for kind in KINDS}

    def first_view(self) -> ImageView:
        """Return the images that most need a look."""
        kinds = (kind for kind in KINDS if self._of_kind(kind, ()))
        return ImageView(next(kinds, "all"))

    @cached_property
    def cells(self) -> list[tuple[str, str, int]]:
        """Label, answer and number of images, for each pair that occurs; kept images only."""
        kept = [row for row in self.rows if not row.reason]
        pairs = Counter((row.label, self.answer_to(row).predicted) for row in kept)
        return [(label, answer, count) for (label, answer), count in sorted(pairs.items())]

    def shown(self, row: ReviewedImage) -> ShownImage:
        """Return an image as the page shows it."""
        answer = self.answer_to(row)
        no_accept, no_relabel = obstacles(row)
        proposal = UNDECIDED
        if answer.wrong > DOUBTFUL and answer.unlike_all > UNLIKE:
            proposal = {"verdict": "reject", "label": ""}
        elif answer.wrong > SURELY_WRONG and not no_relabel:
            proposal = {"verdict": "relabel", "label": answer.predicted}
        return {
            **row.placed,
            "answer": answer.predicted,
            "sure": answer.sure,
            "why": list(_why(row, answer)),
            "proposal": proposal,
            "similar": [other.placed for other in self._similar(row)],
            "no_accept": no_accept,
            "no_relabel": no_relabel,
        }

    def _similar(self, row: ReviewedImage) -> list[ReviewedImage]:
        """Return the image of which this one is a copy, or others of its group."""
        copy = self._by_path.get(row.kept_copy)
        others = self._groups.get(row.near_group, [])
        return [copy] if copy else [other for other in others if other is not row][:_SIMILAR]


_NOTHING = _Answer()
_Order = Callable[[ReviewedImage, _Answer], tuple[float | str, ...]]
_ORDERS: Mapping[str, _Order] = {
    # What is contradicted most surely comes first, then what is answered least surely.
    "doubt": lambda row, answer: (-answer.wrong, answer.sure, row.path),
    "surest": lambda row, answer: (-answer.sure, row.path),
    "file": lambda row, _: (row.path,),
    "unlike": lambda row, answer: (-answer.unlike_class, row.path),
    "rejected": lambda row, _: (row.reason, row.path),
    # The images of a group lie side by side, and a copy behind the one that is used.
    "copies": lambda row, _: (row.near_group, row.kept_copy or row.path, row.path),
}


def obstacles(row: ReviewedImage) -> tuple[str, str]:
    """Return why an image cannot be used as it is, and not with another label; "" if it can."""
    if not row.image_hash:
        return _UNREADABLE, _UNREADABLE
    if row.reason in (DUPLICATE, DUPLICATE_ACROSS_SPLITS):
        return _COPY_USED, _COPY_USED
    if row.reason in ("", REVIEWED):  # a new decision replaces the old one
        return "", ""
    remedy = row.findings[0]["override"]
    no_accept, no_relabel = (obstacle(row.reason, remedy, is_new) for is_new in (False, True))
    return no_accept, no_relabel


def _why(row: ReviewedImage, answer: _Answer) -> list[str]:
    """Return what was found in an image, a sentence each."""
    sentences = []
    if answer.unlike_all > UNLIKE:
        sentences.append("It is unlike the images of every class.")
    elif answer.unlike_class > UNLIKE:
        sentences.append("It is unlike the other images of its class.")
    for finding in row.findings:
        detail = f": {finding['detail'].removesuffix('.')}" if finding["detail"] else ""
        sentences.append(f"{capitalised(title_of(finding['reason']))}{detail}.")
    return sentences


def read(run: Run) -> ReviewedImages:
    """Read the images of a run.

    Raises:
        ResourceError: The result of the run, or what it tells of its images, cannot be read.
    """
    run.require_readable()
    classes = tuple(run.result["classes"])
    file = run.folder / ANSWERS
    try:
        answers = _answers(json_object.read(file), classes) if file.exists() else {}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ResourceError(
            f"cannot read {file} ({type(error).__name__}: {error}). Expected the answers that "
            "a run leaves beside its page. Run the pipeline again."
        ) from None
    if run.quarantine is None:
        raise ResourceError(
            f"{run.folder}: the table of its images no longer exists, because a later run removed "
            "the files of this one. Review the newest run, or run the pipeline again."
        )
    rows = _rows(str(run.quarantine))
    typical = {gallery["name"]: gallery["typical"] for gallery in run.result["galleries"]}
    return ReviewedImages(classes, rows, answers, typical)


def _rows(uri: str) -> list[ReviewedImage]:
    """Read the images of a quarantine."""
    findings: dict[str, list[FileFinding]] = defaultdict(list)
    for finding in quarantine.read_findings(uri):
        findings[finding["path"]].append(finding)
    fields = ReviewedImage._fields[:-1]
    table = images.read(uri)
    rows = zip(*(table[name] for name in fields), strict=True)
    return [ReviewedImage._make((*row, findings.get(row[0], ()))) for row in rows]


def _answers(columns: Mapping[str, Any], classes: Sequence[str]) -> dict[str, _Answer]:
    """Return the answers by image; `columns` are `ImageAnswers`."""
    predicted = [classes[label] if label >= 0 else "" for label in columns["predicted"]]
    figures = (columns["sure"], columns["wrong"], columns["unlike_class"], columns["unlike_all"])
    values = zip(predicted, *figures, strict=True)
    return dict(zip(columns["image_hash"], map(_Answer._make, values), strict=True))


def parse_view(text: str, classes: Sequence[str]) -> ImageView:
    """Return the view that `--show` names: a kind, a class, or `LABEL:ANSWER`.

    Raises:
        ConfigError: It names none, or both a kind and a class.
    """
    cuts = [place for place, character in enumerate(text) if character == ":"]
    labels = ("", *classes)
    cells = [(text[:cut], text[cut + 1 :]) for cut in cuts]
    cells = [cell for cell in cells if cell[0] in labels and cell[1] in labels]
    if text in KINDS and text in classes:
        raise ConfigError(
            f"--show {text}: this is a kind of images and a class. For the class, say {text}:"
        )
    if text in KINDS:
        return ImageView(text)
    if text in classes:
        return ImageView(label=text)
    if cells:
        return ImageView(label=cells[0][0], answer=cells[0][1])
    raise ConfigError(
        f"--show {text}: expected one of {', '.join(KINDS)}, a class, or LABEL:ANSWER, such as "
        f"{':'.join(classes[:2])}{nearest(text, [*KINDS, *classes])}."
    )
