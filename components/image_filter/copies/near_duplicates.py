"""Decisions about a group of near-duplicates: which images are rejected or kept with a warning.

A training image with a near-duplicate in validation or test is rejected, so that no model is
evaluated on an image that it was trained on. Copies within a split are kept with a warning. So are
copies with different labels, because unlike byte-identical files they may really differ. Two images
of a group count as near-duplicates only if their own distance is within the radius and their grey
images are alike; a chain of other images between them is not enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.image_file.perceptual_hash import BITS, HashPairs
from imgpipe.components.common.named_images import PlacedImage
from imgpipe.components.image_filter.copies.copy import Copy
from imgpipe.components.image_filter.copies.hamming import differing_bits
from imgpipe.components.image_filter.copies.search import Hashes
from imgpipe.components.image_filter.judge.check import ImageFinding, Severity
from imgpipe.components.image_filter.judge.checks.whole_set import (
    NEAR_DUPLICATE,
    NEAR_DUPLICATE_ACROSS_SPLITS,
    NEAR_DUPLICATE_LABEL_CONFLICT,
    near_duplicate_remedy,
)
from imgpipe.components.image_filter.judge.overrides import Override, override_of
from imgpipe.components.image_filter.judge.settings import JudgeSettings
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.arrays import Indices

#: Number of images of a group that each image is compared with inside a split. Larger groups are
#: frames of films, which have enough near-duplicates among these.
_COMPARED = 2000
_CONFIRMED = 64  # pairs whose grey images are compared at once
_FIRST_CROP = 2  # number of the first kind of hash that is of a crop
#: How the other image may have been changed; each way is a block of the compared pairs.
_WAYS = ("", "mirrored, ", "a crop of it, ", "it is a crop of this, ")
#: Rules in the order in which they are applied.
_RULES = (NEAR_DUPLICATE_ACROSS_SPLITS, NEAR_DUPLICATE_LABEL_CONFLICT, NEAR_DUPLICATE)
#: Splits that an image must not resemble, by its own. Validation is used for choices, so an image
#: of it may not resemble one of test either.
_HELD_OUT = {names.TRAIN: (names.TEST, names.VALIDATION), names.VALIDATION: (names.TEST,)}


class ListedCopy(PlacedImage):
    """An image of a group of near-duplicates."""

    stays: Annotated[bool, "Whether the image is kept."]
    reason: Annotated[str, "Name of the check; empty without a finding."]
    detail: Annotated[str, "What was found."]
    similar_to: Annotated[str, "Path of the image to which it is similar."]


class NearGroup(TypedDict):
    """A group of near-duplicates."""

    radius: Annotated[int, "Largest number of differing bits between near-duplicates."]
    members: Annotated[list[ListedCopy], "Images of the group."]


def findings_in_group(
    copies: Iterable[Copy], settings: JudgeSettings, overrides: Mapping[str, Override]
) -> list[ImageFinding]:
    """Decide about the images of one group.

    The rejection of an image that an override accepts becomes a warning. Relabelled images stay
    rejected if they resemble a held-out image, because the right label does not make that
    evaluation honest.

    Args:
        copies: The images, in any order.
        settings: Settings of the checks.
        overrides: Decisions of people, as `override_of` takes them.

    Returns:
        At most one finding for each image, in the order of their paths.
    """
    group = _Group(sorted(copies, key=lambda copy: copy.path), settings.radius)
    findings: dict[str, ImageFinding] = {}
    rejected = np.zeros(len(group.copies), bool)
    for reason in _RULES:
        severity = settings.severity_of(reason)
        if severity == "ignore":
            continue
        # A label conflict is reported for both images; of several copies the first one is kept.
        left_out = rejected if reason == NEAR_DUPLICATE else rejected.copy()
        for index, copy in enumerate(group.copies):
            if copy.path in findings:
                continue
            match = group.nearest(index, group.others(index, reason, left_out))
            if match is None:
                continue
            kept = severity == "reject" and _keeps(override_of(copy.image_hash, overrides), reason)
            applied = "warn" if kept else severity
            finding = _finding(copy, group.copies[match.index], match, reason, applied)
            rejected[index] = finding.severity == "reject"
            findings[copy.path] = finding
    return [findings[path] for path in sorted(findings)]


def _keeps(override: Override | None, reason: str) -> bool:
    """Return whether a person keeps an image that is to be rejected."""
    if override is None:
        return False
    is_relabelled = override.verdict == "relabel" and reason != NEAR_DUPLICATE_ACROSS_SPLITS
    return override.verdict == "accept" or is_relabelled


def listed_group(
    copies: Iterable[Copy], radius: int, findings: Iterable[ImageFinding]
) -> NearGroup:
    """Return a group as it is listed in the quarantine and by `imgpipe check --json`.

    Args:
        copies: The images, in any order.
        radius: Bits within which images are near-duplicates.
        findings: Findings about the images.
    """
    by_path = {finding.path: finding for finding in findings}
    ordered = sorted(copies, key=lambda copy: copy.path)
    rows = [_listed(copy, by_path.get(copy.path)) for copy in ordered]
    return {"radius": radius, "members": rows}


def set_aside(groups: Iterable[NearGroup]) -> dict[str, int]:
    """Count the training images that were rejected as near-duplicates of held-out images.

    Args:
        groups: Groups as `listed_group` returns them.

    Returns:
        Number of training images by the split of the held-out image; without zeros.
    """
    counts: Counter[str] = Counter()
    for group in groups:
        split_of = {member["path"]: member["split"] for member in group["members"]}
        for member in group["members"]:
            if member["reason"] == NEAR_DUPLICATE_ACROSS_SPLITS and not member["stays"]:
                counts[split_of.get(member["similar_to"], "")] += 1
    return {split: counts[split] for split in names.SPLITS if counts[split]}


def _listed(copy: Copy, finding: ImageFinding | None) -> ListedCopy:
    return {
        "path": copy.path,
        "split": copy.split,
        "label": copy.label,
        "image_hash": copy.image_hash,
        "stays": finding is None or finding.severity != "reject",
        "reason": finding.reason if finding else "",
        "detail": finding.detail if finding else "",
        "similar_to": finding.kept_copy if finding else "",
    }


@dataclass(frozen=True)
class _Match:
    """Another image, and how similar it is."""

    index: int  # index of the other image in the group
    how: str  # what was found, in words


class _Group:
    """The images of a group in the order of their paths, and the distances between them."""

    def __init__(self, copies: Sequence[Copy], radius: int) -> None:
        self.copies = copies
        self._radius = radius
        rows = np.frombuffer(b"".join(copy.hashes for copy in copies), np.uint8)
        self._hashes = Hashes(rows.reshape(len(copies), -1))
        kinds = [self._hashes.kind(number).T for number in range(self._hashes.kinds)]
        self._kinds = np.stack(kinds, axis=-1)  # uint64 [4, n, kinds]
        self._splits = np.array([copy.split for copy in copies])
        self._labels = np.array([copy.label for copy in copies])
        self._groups = np.array([copy.group for copy in copies])
        self._held_out = {
            split: np.flatnonzero(np.isin(self._splits, splits))
            for split, splits in _HELD_OUT.items()
        }

    def others(self, index: int, reason: str, left_out: npt.NDArray[np.bool_]) -> Indices:
        """Return the images with which a rule compares one; some may be left out."""
        if reason == NEAR_DUPLICATE_ACROSS_SPLITS:
            return self._held_out.get(str(self._splits[index]), np.array([], np.int64))
        # Of a large group, the first images and the preceding ones.
        count = len(self.copies)
        preceding = np.arange(max(_COMPARED, index - _COMPARED), max(_COMPARED, index))
        first = np.arange(min(_COMPARED, count))
        rows = np.concatenate([first, preceding[preceding < count]])
        rows = rows[(rows != index) & ~left_out[rows]]
        if reason == NEAR_DUPLICATE_LABEL_CONFLICT:
            return rows[self._labels[rows] != self._labels[index]]
        rows = rows[(rows < index) & (self._splits[rows] == self._splits[index])]
        is_grouped = self._groups[index] != ""
        return rows[self._groups[rows] != self._groups[index]] if is_grouped else rows

    def nearest(self, index: int, rows: Indices) -> _Match | None:
        """Return the nearest of these images that is near and alike, or else an altered copy.

        Of equally near ones it is the first, and a crop only if no whole image is near.
        """
        if not len(rows):
            return None
        return self._most_similar(index, rows) or self._altered(index, rows)

    def _most_similar(self, index: int, rows: Indices) -> _Match | None:
        """Return the image with the nearest hash whose grey image is alike, or None."""
        pairs = self._compared(index, rows)
        (near,) = np.nonzero(pairs.bits <= self._radius)
        ways, places = np.divmod(near, len(rows))
        is_crop = ways >= _FIRST_CROP
        near = near[np.lexsort((ways, places, pairs.bits[near], is_crop))]  # by the last key first
        for start in range(0, len(near), _CONFIRMED):  # mostly one of the first pairs is alike
            candidates = near[start : start + _CONFIRMED]
            alike = candidates[self._hashes.alike(pairs.select(candidates))]
            if len(alike):
                way, place = divmod(int(alike[0]), len(rows))
                bits = f"{pairs.bits[alike[0]]} of {BITS} bits of the perceptual hash differ"
                return _Match(int(rows[place]), f"{_WAYS[way]}{bits}")
        return None

    def _compared(self, index: int, rows: Indices) -> HashPairs:
        """Compare the hashes of an image and of others, in a block of pairs for each of `_WAYS`."""
        this_image = np.full(len(rows), index)
        bits = differing_bits(self._kinds[:, index, 0], self._kinds[:, rows])  # [m, kinds]
        ways = [
            HashPairs(this_image, rows, np.full(len(rows), kind), bits[:, kind]) for kind in (0, 1)
        ]
        if bits.shape[1] > _FIRST_CROP:
            own_crops = self._kinds[:, index, _FIRST_CROP:]
            bits_of_own = differing_bits(own_crops, self._kinds[:, rows, :1])
            ways.append(_nearest_crops(this_image, rows, bits[:, _FIRST_CROP:]))
            ways.append(_nearest_crops(rows, this_image, bits_of_own))
        return HashPairs.join(ways)

    def _altered(self, index: int, rows: Indices) -> _Match | None:
        """Return the first of these images that is an altered copy of one, or None."""
        altered = self.copies[index].altered
        for row in rows.tolist() if altered else ():
            how = altered.get(self.copies[row].image_hash)
            if how is not None:
                return _Match(row, how)
        return None


def _nearest_crops(images: Indices, cropped: Indices, bits: npt.NDArray[np.int64]) -> HashPairs:
    """Pair images with the nearest crop of the others, of which `bits` [m, crops] differ."""
    return HashPairs(images, cropped, _FIRST_CROP + bits.argmin(axis=1), bits.min(axis=1))


def _finding(
    copy: Copy, similar: Copy, match: _Match, reason: str, severity: Severity
) -> ImageFinding:
    """Describe which image a copy is similar to, and the distance."""
    labels = f" ({similar.label}; this one is {copy.label})" if similar.label != copy.label else ""
    detail = f"similar to {similar.path}{labels}: {match.how}"
    if reason == NEAR_DUPLICATE_ACROSS_SPLITS:
        detail += f"; that one is in {similar.split}, this one in {copy.split}"
        if copy.split != names.TRAIN and severity == "reject":
            severity = "warn"  # the model is not trained on this image
    return ImageFinding(
        reason,
        detail,
        severity,
        remedy=near_duplicate_remedy(reason, severity),
        kept_copy=similar.path,
        path=copy.path,
    )
