"""Decisions about copies: which images are rejected, or kept with a warning.

A copy shows the same as another image. There are three kinds: `identical` files have the same
bytes, images that are `near` have similar perceptual hashes and grey images that are alike, and
`altered` ones were turned, tilted, shifted, zoomed or framed.

Of identical files the one for evaluation is kept, so that no model is evaluated on an image that it
was trained on; if they have different labels, none is kept, because the correct label is unknown.
But a class that holds nothing but images of several others is a pool, such as a folder of all
photographs beside those of the classes: its images are rejected, and those of the others are kept.

Near and altered copies may really differ, so they are kept with a warning; but a training image
with such a copy in validation or test is rejected. Two images of a group are such copies only if
their own distance is within the radius and their grey images are alike; a chain of other images
between them is not enough.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.pixels import BITS, KINDS
from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.components.common.splits import HELD_OUT_FIRST
from imgpipe.components.image_filter.copies.hamming import Pairs, differing_bits, pairs_of
from imgpipe.components.image_filter.copies.search import Hashes, NearDuplicates
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
_FIRST_CROP = 2  # number of the first kind of hash that is of a crop
#: How the other image may have been changed; each way is a block of the compared pairs.
_WAYS = ("", "mirrored, ", "a crop of it, ", "it is a crop of this, ")
#: Reasons of findings about copies that are near or altered, in the order in which these are made.
NEAR_DUPLICATES = (NEAR_DUPLICATE_ACROSS_SPLITS, NEAR_DUPLICATE_LABEL_CONFLICT, NEAR_DUPLICATE)
#: Splits that an image must not resemble, by its own. Validation is used for choices, so an image
#: of it may not resemble one of test either.
_HELD_OUT = {names.TRAIN: (names.TEST, names.VALIDATION), names.VALIDATION: (names.TEST,)}


class Copy(NamedTuple):
    """That an image shows the same as another one.

    Attributes:
        other: The other image.
        kind: Kind of the copy.
        how: What is different, in words; "" for nothing.
    """

    other: ImageRow
    kind: Literal["identical", "near", "altered"]
    how: str = ""

    def finding(self, row: ImageRow, reason: str, severity: Severity = "reject") -> ImageFinding:
        """Return the finding about an image that is this copy."""
        relation = "same bytes as" if self.kind == "identical" else "similar to"
        detail = f"{relation} {self.other.path}"
        if self.other.label != row.label:
            detail += f" ({self.other.label}; this one is {row.label})"
        if self.how:
            detail += f": {self.how}"
        if reason in (DUPLICATE_ACROSS_SPLITS, NEAR_DUPLICATE_ACROSS_SPLITS):
            detail += f"; that one is in {self.other.split}, this one in {row.split}"
        remedy = _REMEDIES.get((reason, severity), "")  # `_Conflicts` has that of a label
        kept_copy = "" if reason == DUPLICATE_LABEL_CONFLICT else self.other.path
        return ImageFinding(reason, detail, severity, remedy=remedy, kept_copy=kept_copy)


class _Conflicts:
    """The images that are in several classes, summed by pairs of classes.

    They are found among all images that passed the checks, which are given by content.

    Attributes:
        pools: The classes that hold nothing but images of several others, with these.
    """

    def __init__(self, contents: Iterable[Sequence[ImageRow]]) -> None:
        self._pairs: Counter[tuple[str, str]] = Counter()
        others: dict[str, Counter[str]] = defaultdict(Counter)
        is_alone: set[str] = set()  # classes that have an image of their own
        places: dict[str, set[str]] = defaultdict(set)
        for rows in contents:
            labels = sorted({row.label for row in rows})
            self._pairs.update(itertools.combinations(labels, 2))
            is_alone |= set(labels) if len(labels) == 1 else set()
            for row in rows if len(labels) > 1 else ():
                places[row.label].add(_folder_of_class(row))
                others[row.label].update(label for label in labels if label != row.label)
        self.pools: Mapping[str, list[str]] = {
            label: sorted(of_others)
            for label, of_others in others.items()
            if label not in is_alone and len(of_others) > 1
        }
        self._places = places

    def remedy(self, labels: Iterable[str]) -> str:
        """Return what to do about an image that is in several classes, of these names."""
        first, second, *_ = sorted(labels)
        for pool, within in ((first, second), (second, first)):
            if pool in self.pools and within not in self.pools:
                others = join_names([repr(name) for name in self.pools[pool]])
                why = f"every image of {pool!r} is one of {others}, too"
                return f"{why}: {self._left_out(pool)}"
        shared = plural(self._pairs[first, second], "image is", "images are")
        return (
            f"{shared} in both {first!r} and {second!r}, and a model gives one answer to an image: "
            "keep each in one class or in none, or leave out a class with data.skip"
        )

    def _left_out(self, label: str) -> str:
        """Return how a class is left out: by its folders, where the paths have them."""
        places = sorted(self._places[label])
        if not all(places):
            return "leave its rows out of the list"
        return f"leave it out with --set {shlex.quote(f'data.skip={json.dumps(places)}')}"


def _folder_of_class(row: ImageRow) -> str:
    """Return the folder with the name of an image's class as an entry of data.skip; "" for none."""
    folders = row.path.split("/")[:-1]
    if row.label not in folders:
        return ""
    return "/" + "/".join(folders[: folders.index(row.label) + 1])


def reject_identical(contents: Collection[Sequence[ImageRow]]) -> None:
    """Reject all but one of the files with each content, or all of them if their labels differ.

    All images that passed the checks are given, those with one content together.
    """
    conflicts = _Conflicts(contents)
    for copies in contents:
        by_path = sorted(copies, key=lambda row: row.path)
        if len({row.label for row in by_path}) > 1:
            by_path = _reject_conflicts(by_path, conflicts)
        if len({row.label for row in by_path}) == 1:
            _reject_copies(by_path)


def _reject_conflicts(by_path: Sequence[ImageRow], conflicts: _Conflicts) -> list[ImageRow]:
    """Reject identical images of several classes, and return those that are of no pool."""
    labels = {row.label for row in by_path}
    outside = labels.difference(conflicts.pools)
    rejected = conflicts.pools if len(outside) == 1 else labels
    for row in by_path:
        if row.label not in rejected:
            continue
        other = next(other for other in by_path if other.label != row.label)
        also = [f"{copy.path} ({copy.label})" for copy in by_path if copy not in (row, other)]
        how = f"also {join_names(also)}" if also else ""
        finding = Copy(other, "identical", how).finding(row, DUPLICATE_LABEL_CONFLICT)
        remedy = conflicts.remedy(outside if row.label in outside and len(outside) > 1 else labels)
        row.add(dataclasses.replace(finding, remedy=remedy))
    return [row for row in by_path if row.label not in rejected]


def _reject_copies(by_path: Sequence[ImageRow]) -> None:
    """Reject all but one of the files with one content and one label."""
    kept = min(by_path, key=lambda row: (HELD_OUT_FIRST.index(row.split), row.path))
    for row in by_path:
        if row is not kept:
            reason = DUPLICATE if row.split == kept.split else DUPLICATE_ACROSS_SPLITS
            row.add(Copy(kept, "identical").finding(row, reason))


def judge_group(
    copies: Sequence[ImageRow], similar: NearDuplicates, settings: JudgeSettings
) -> None:
    """Add what is found to the images of a group of near-duplicates, at most one finding each.

    The rejection of an image that an override accepts becomes a warning. Relabelled images stay
    rejected if they resemble a held-out image, because the right label does not make that
    evaluation honest. `similar` are the near-duplicates of the whole set.
    """
    rows = sorted(copies, key=lambda row: row.path)
    group = _Group(rows, radius_in(settings), similar)
    is_judged = np.zeros(len(rows), bool)
    rejected = np.zeros(len(rows), bool)
    for reason in NEAR_DUPLICATES:
        severity = severity_of(reason, settings)
        if severity == "ignore":
            continue
        # A label conflict is reported for both images; of several copies the first one is kept.
        left_out = rejected if reason == NEAR_DUPLICATE else rejected.copy()
        for index in np.flatnonzero(~is_judged).tolist():
            row = rows[index]
            copy = group.nearest(index, group.others(index, reason, left_out))
            if copy is None:
                continue
            across = reason == NEAR_DUPLICATE_ACROSS_SPLITS
            keeps = row.verdict == "accept" or (row.verdict == "relabel" and not across)
            # The model is not trained on a held-out image.
            is_held_out = across and row.split != names.TRAIN
            is_rejected = severity == "reject" and not keeps and not is_held_out
            row.add(copy.finding(row, reason, "reject" if is_rejected else "warn"))
            is_judged[index] = True
            rejected[index] = is_rejected


def sum_conflicts(kept: Sequence[ImageRow]) -> list[Finding]:
    """Say once of classes most of whose images are in another one too that this is what they are.

    They were made of the same pictures, such as one class for each direction of a page, so that no
    image has a wrong label. What was found about each is taken back.
    """
    label_of = {row.path: row.label for row in kept}
    others = {
        row.path: label_of.get(finding.kept_copy)
        for row in kept
        for finding in row.findings
        if finding.reason == NEAR_DUPLICATE_LABEL_CONFLICT
    }
    sizes = Counter(row.label for row in kept)
    conflicts = Counter(row.label for row in kept if row.path in others)
    made = {
        label
        for label, count in conflicts.items()
        if count >= _FEWEST_OF_CLASS and 2 * count > sizes[label]
    }
    of_made = [row for row in kept if row.label in made and others.get(row.path) in made]
    for row in of_made:
        row.findings = tuple(
            finding for finding in row.findings if finding.reason != NEAR_DUPLICATE_LABEL_CONFLICT
        )
    if not of_made:
        return []
    title = f"the classes {join_names(sorted({row.label for row in of_made}), 8)} show the same"
    title += f" pictures ({plural(len(of_made), 'image')})"
    how = "they differ in how these were turned, mirrored, blurred or otherwise altered"
    sentence = f"{title}: {how}"
    return [make_finding("classes_of_copies", sentence, (), title, True, len(of_made))]


class _Group:
    """The images of a group in the order of their paths, and the distances between them."""

    def __init__(self, rows: Sequence[ImageRow], radius: int, similar: NearDuplicates) -> None:
        self._rows = rows
        self._radius = radius
        self._altered_copies = similar.altered
        hashes = np.frombuffer(b"".join(similar.hashes[row.image_hash] for row in rows), np.uint8)
        self._hashes = Hashes(hashes.reshape(len(rows), -1))
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
        ways, places = np.divmod(near, len(rows))
        is_crop = ways >= _FIRST_CROP
        # The last key decides first.
        near = near[np.lexsort((ways, places, pairs["bits"][near], is_crop))]
        # Mostly one of the first pairs is alike.
        for candidates in np.split(near, range(_CONFIRMED, len(near), _CONFIRMED)):
            alike = candidates[self._hashes.alike(pairs[candidates])]
            if len(alike):
                way, place = divmod(int(alike[0]), len(rows))
                bits = f"{pairs[alike[0]]['bits']} of {BITS} bits of the perceptual hash differ"
                return Copy(self._rows[rows[place]], "near", f"{_WAYS[way]}{bits}")
        return None

    def _compared(self, index: int, rows: Indices) -> Pairs:
        """Compare the hashes of an image and of others, in a block of pairs for each of `_WAYS`."""
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
        altered = self._altered_copies.get(self._rows[index].image_hash, {})
        for place in rows.tolist() if altered else ():
            other = self._rows[place]
            if other.image_hash in altered:
                return Copy(other, "altered", altered[other.image_hash])
        return None


def _nearest_crops(images: Indices | int, cropped: Indices | int, bits: Indices) -> Pairs:
    """Pair images with the nearest crop of the others, of which `bits` [m, crops] differ."""
    return pairs_of(images, cropped, _FIRST_CROP + bits.argmin(axis=1), bits.min(axis=1))
