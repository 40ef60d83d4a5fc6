"""Decisions about copies: which images are rejected, or kept with a warning.

A copy shows the same as another image. There are three kinds: `identical` files have the same
bytes, images that are `near` have similar perceptual hashes and grey images that are alike, and
`altered` ones were turned, tilted, shifted, zoomed or framed.

Of identical files the one for evaluation is kept, so that no model is evaluated on an image that it
was trained on; if they have different labels, none is kept, because the correct label is unknown.

Near and altered copies may really differ, so they are kept with a warning; but a training image
with such a copy in validation or test is rejected. Two images of a group are such copies only if
their own distance is within the radius and their grey images are alike; a chain of other images
between them is not enough.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.pixels import KINDS
from imgpipe.components.common.image_row import ImageFinding
from imgpipe.components.common.splits import HELD_OUT_FIRST
from imgpipe.components.image_filter.copies.hamming import Pairs, differing_bits, pairs_of
from imgpipe.components.image_filter.copies.search import Hashes, NearDuplicates
from imgpipe.components.image_filter.findings import ImageFindings
from imgpipe.components.image_filter.judge.checks import severity_of
from imgpipe.components.image_filter.judge.checks.quality import (
    NEAR_DUPLICATE,
    NEAR_DUPLICATE_ACROSS_SPLITS,
    NEAR_DUPLICATE_LABEL_CONFLICT,
    NEAR_REMEDIES,
    radius_in,
)
from imgpipe.models import names
from imgpipe.models.arrays import Flags, Indices
from imgpipe.models.finding import Finding, make_finding
from imgpipe.models.settings.data import JudgeSettings, Severity

if TYPE_CHECKING:
    import pandas as pd

DUPLICATE = "duplicate"
DUPLICATE_ACROSS_SPLITS = "duplicate_across_splits"
DUPLICATE_LABEL_CONFLICT = "label_conflict"
#: What to do about a copy, by the reason and what happens to the image.
_REMEDIES: Mapping[tuple[str, Severity], str] = {
    **NEAR_REMEDIES,
    (DUPLICATE, "reject"): (
        "nothing is lost, because one copy is kept; delete the copy that you do not need"
    ),
    (DUPLICATE_ACROSS_SPLITS, "reject"): (
        "nothing is lost, because one copy is kept; delete that one to use this one"
    ),
}
#: Number of images of a group that each image is compared with inside a split. Larger groups are
#: frames of films, which have enough near-duplicates among these.
_COMPARED = 2000
_CONFIRMED = 64  # pairs whose grey images are compared at once
_FEWEST_OF_CLASS = 10  # images that are in another class too; fewer may be mistakes
_MIRRORED = 1  # number of the kind of hash of the mirror image
_FIRST_CROP = 2  # number of the first kind that is of a crop
#: Reasons of findings about copies that are near or altered, in the order in which these are made.
NEAR_DUPLICATES = (NEAR_DUPLICATE_ACROSS_SPLITS, NEAR_DUPLICATE_LABEL_CONFLICT, NEAR_DUPLICATE)
#: Splits that an image must not resemble, by its own. Validation is used for choices, so an image
#: of it may not resemble one of test either.
_HELD_OUT = {names.TRAIN: (names.TEST, names.VALIDATION), names.VALIDATION: (names.TEST,)}


class Copy(NamedTuple):
    """That an image shows the same as another one.

    Attributes:
        other: The other image, a row of the table.
        kind: Kind of the copy.
        how: What is different, in words; "" for nothing.
    """

    other: Any
    kind: Literal["identical", "near", "altered"]
    how: str = ""

    def finding(self, row: Any, reason: str, severity: Severity = "reject") -> ImageFinding:
        """Return the finding about an image that is this copy."""
        relation = "same bytes as" if self.kind == "identical" else "similar to"
        detail = f"{relation} {self.other.path}"
        if self.other.label != row.label:
            detail += f" ({self.other.label}; this one is {row.label})"
        if self.how:
            detail += f": {self.how}"
        if reason in (DUPLICATE_ACROSS_SPLITS, NEAR_DUPLICATE_ACROSS_SPLITS):
            detail += f"; that one is in {self.other.split}, this one in {row.split}"
        remedy = _REMEDIES.get((reason, severity), "")  # `reject_identical` has that of a label
        kept_copy = "" if reason == DUPLICATE_LABEL_CONFLICT else self.other.path
        return ImageFinding(reason, detail, severity, remedy=remedy, kept_copy=kept_copy)


def decide(
    images: pd.DataFrame,
    similar: NearDuplicates,
    settings: JudgeSettings,
    findings: ImageFindings,
) -> list[Finding]:
    """Decide about all copies.

    Args:
        images: The images that passed the checks, as `engine.belongings` completes their table.
        similar: The near-duplicates among their contents.
        settings: Settings of the checks.
        findings: What was found in the images, to which this is added.

    Returns:
        What there is to say about all images together.
    """
    reject_identical(images, findings)
    left = findings.kept(images)
    for rows in _grouped(left[left["near_group"] > 0], "near_group"):
        judge_group(rows, similar, settings, findings)
    return sum_conflicts(images, findings)


def _grouped(images: pd.DataFrame, column: str) -> Collection[list[Any]]:
    """Return the rows of images by the values of a column, in the order of their paths."""
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in images.sort_values("path").itertuples():
        groups[getattr(row, column)].append(row)
    return groups.values()


def reject_identical(images: pd.DataFrame, findings: ImageFindings) -> None:
    """Reject all but one of the files with each content, or all of them if their labels differ."""
    contents = _grouped(images[images["content"].duplicated(keep=False)], "content")
    labels_of = [sorted({row.label for row in rows}) for rows in contents]
    pairs = Counter(pair for labels in labels_of for pair in itertools.combinations(labels, 2))
    for rows, labels in zip(contents, labels_of, strict=True):
        if len(labels) == 1:
            _reject_copies(rows, findings)
        else:
            shared = plural(pairs[labels[0], labels[1]], "image is", "images are")
            remedy = (
                f"{shared} in both {labels[0]!r} and {labels[1]!r}, and a model gives one answer "
                "to an image: keep each in one class or in none, or leave out a class with "
                "data.skip"
            )
            _reject_conflicts(rows, remedy, findings)


def _reject_conflicts(rows: Sequence[Any], remedy: str, findings: ImageFindings) -> None:
    """Reject identical images of several classes, in the order of their paths."""
    for row in rows:
        other = next(other for other in rows if other.label != row.label)
        also = [f"{copy.path} ({copy.label})" for copy in rows if copy not in (row, other)]
        how = f"also {join_names(also)}" if also else ""
        finding = Copy(other, "identical", how).finding(row, DUPLICATE_LABEL_CONFLICT)
        findings.add(row.Index, dataclasses.replace(finding, remedy=remedy))


def _reject_copies(rows: Sequence[Any], findings: ImageFindings) -> None:
    """Reject all but one of the files with one content and one label."""
    kept = min(rows, key=lambda row: (HELD_OUT_FIRST.index(row.split), row.path))
    for row in rows:
        if row is not kept:
            reason = DUPLICATE if row.split == kept.split else DUPLICATE_ACROSS_SPLITS
            findings.add(row.Index, Copy(kept, "identical").finding(row, reason))


def judge_group(
    rows: Sequence[Any], similar: NearDuplicates, settings: JudgeSettings, findings: ImageFindings
) -> None:
    """Add what is found in the images of a group of near-duplicates, at most one finding each.

    The rows of their table are in the order of the paths.
    The rejection of an image that an override accepts becomes a warning. Relabelled images stay
    rejected if they resemble a held-out image, because the right label does not make that
    evaluation honest. `similar` are the near-duplicates of the whole set.
    """
    group = _Group(rows, similar, radius_in(settings))
    is_judged = np.zeros(len(rows), bool)
    rejected = np.zeros(len(rows), bool)
    for reason in NEAR_DUPLICATES:
        severity = severity_of(reason, settings)
        if severity == "ignore":
            continue
        # A label conflict is reported for both images; of several copies the first one is kept.
        left_out = rejected if reason == NEAR_DUPLICATE else rejected.copy()
        for place in np.flatnonzero(~is_judged).tolist():
            row = rows[place]
            copy = group.nearest(place, group.others(place, reason, left_out))
            if copy is None:
                continue
            across = reason == NEAR_DUPLICATE_ACROSS_SPLITS
            keeps = row.verdict == "accept" or (row.verdict == "relabel" and not across)
            # The model is not trained on a held-out image.
            is_held_out = across and row.split != names.TRAIN
            is_rejected = severity == "reject" and not keeps and not is_held_out
            findings.add(row.Index, copy.finding(row, reason, "reject" if is_rejected else "warn"))
            is_judged[place] = True
            rejected[place] = is_rejected


def sum_conflicts(images: pd.DataFrame, findings: ImageFindings) -> list[Finding]:
    """Say once of classes most of whose images are in another one too that this is what they are.

    They were made of the same pictures, such as one class for each direction of a page, so that no
    image has a wrong label. What was found about each is taken back.
    """
    kept = findings.kept(images)
    copy_of = {
        number: finding.kept_copy
        for number in kept.index
        for finding in findings.of(number)
        if finding.reason == NEAR_DUPLICATE_LABEL_CONFLICT
    }
    sizes = kept["label"].value_counts()
    conflicts = kept.loc[[*copy_of], "label"].value_counts()
    most = conflicts[(conflicts >= _FEWEST_OF_CLASS) & (2 * conflicts > sizes[conflicts.index])]
    label_of = dict(zip(kept["path"], kept["label"], strict=True))
    of_made = [
        number
        for number, path in copy_of.items()
        if kept["label"][number] in most and label_of.get(path) in most
    ]
    for number in of_made:
        findings.remove(number, NEAR_DUPLICATE_LABEL_CONFLICT)
    if not of_made:
        return []
    classes = sorted({*kept.loc[of_made, "label"]})
    title = f"the classes {join_names(classes, 8)} show the same pictures"
    title += f" ({plural(len(of_made), 'image')})"
    how = "they differ in how these were turned, mirrored, blurred or otherwise altered"
    sentence = f"{title}: {how}"
    return [make_finding("classes_of_copies", sentence, (), title, True, len(of_made))]


class _Group:
    """The images of a group in the order of their paths, and the distances between them."""

    def __init__(self, rows: Sequence[Any], similar: NearDuplicates, radius: int) -> None:
        self._rows = rows
        self._radius = radius
        self._altered_copies = similar.altered
        self._hashes = Hashes(similar.pictures[[row.content for row in rows]])
        kinds = [self._hashes.kind(number).T for number in range(KINDS)]
        self._kinds = np.stack(kinds, axis=-1)  # uint64 [4, n, kinds]
        self._splits = np.array([row.split for row in rows])
        self._labels = np.array([row.label for row in rows])
        self._groups = np.array([row.group for row in rows])
        self._held_out = {
            split: np.flatnonzero(np.isin(self._splits, splits))
            for split, splits in _HELD_OUT.items()
        }

    def others(self, index: int, reason: str, left_out: Flags) -> Indices:
        """Return the images with which a rule compares one; some may be left out."""
        if reason == NEAR_DUPLICATE_ACROSS_SPLITS:
            return self._held_out.get(str(self._splits[index]), np.array([], np.int64))
        # Of a large group, the first images and the preceding ones.
        count = len(self._rows)
        preceding = np.arange(max(_COMPARED, index - _COMPARED), max(_COMPARED, index))
        first = np.arange(min(_COMPARED, count))
        rows = np.concatenate([first, preceding[preceding < count]])
        rows = rows[(rows != index) & ~left_out[rows]]
        if reason == NEAR_DUPLICATE_LABEL_CONFLICT:
            return rows[self._labels[rows] != self._labels[index]]
        rows = rows[(rows < index) & (self._splits[rows] == self._splits[index])]
        is_grouped = self._groups[index] != ""
        return rows[self._groups[rows] != self._groups[index]] if is_grouped else rows

    def nearest(self, index: int, rows: Indices) -> Copy | None:
        """Return the nearest of these images that is near and alike, or else an altered copy.

        Of equally near ones it is the first, and a crop only if no whole image is near.
        """
        if not len(rows):
            return None
        return self._most_similar(index, rows) or self._altered(index, rows)

    def _most_similar(self, index: int, rows: Indices) -> Copy | None:
        """Return the image with the nearest hash whose grey image is alike, or None."""
        pairs = self._compared(index, rows)
        (near,) = np.nonzero(pairs["bits"] <= self._radius)
        blocks, places = np.divmod(near, len(rows))
        is_crop = blocks >= _FIRST_CROP
        # The last key decides first.
        near = near[np.lexsort((blocks, places, pairs["bits"][near], is_crop))]
        # Mostly one of the first pairs is alike.
        for candidates in np.split(near, range(_CONFIRMED, len(near), _CONFIRMED)):
            alike = candidates[self._hashes.alike(pairs[candidates])]
            if len(alike):
                block, place = divmod(int(alike[0]), len(rows))
                how = "mirrored" if block == _MIRRORED else ""
                return Copy(self._rows[rows[place]], "near", how)
        return None

    def _compared(self, index: int, rows: Indices) -> Pairs:
        """Compare the hashes of an image and of others, in four blocks of pairs.

        They are those of the upright images, of the mirrored ones, of crops of the others, and of
        crops of the image.
        """
        bits = differing_bits(self._kinds[:, index, 0], self._kinds[:, rows])  # [m, kinds]
        own_crops = self._kinds[:, index, _FIRST_CROP:]
        bits_of_own = differing_bits(own_crops, self._kinds[:, rows, :1])
        return np.concatenate(
            [
                *(pairs_of(index, rows, kind, bits[:, kind]) for kind in range(_FIRST_CROP)),
                _nearest_crops(index, rows, bits[:, _FIRST_CROP:]),
                _nearest_crops(rows, index, bits_of_own),
            ]
        )

    def _altered(self, index: int, rows: Indices) -> Copy | None:
        """Return the first of these images that is an altered copy of one, or None."""
        altered = self._altered_copies.get(self._rows[index].content, {})
        for place in rows.tolist() if altered else ():
            other = self._rows[place]
            if other.content in altered:
                return Copy(other, "altered", altered[other.content])
        return None


def _nearest_crops(images: Indices | int, cropped: Indices | int, bits: Indices) -> Pairs:
    """Pair images with the nearest crop of the others, of which `bits` [m, crops] differ."""
    return pairs_of(images, cropped, _FIRST_CROP + bits.argmin(axis=1), bits.min(axis=1))
