"""Decisions about a group of near-duplicates: which images are rejected or kept with a warning.

A training image with a near-duplicate in validation or test is rejected, so that no model is
evaluated on an image that it was trained on. Copies within a split are kept with a warning. So are
copies with different labels, because unlike byte-identical files they may really differ. Two images
of a group count as near-duplicates only if their own distance is within the radius and their grey
images are alike; a chain of other images between them is not enough.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, cast

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.common.image_file.perceptual_hash import BITS, HashPairs
from imgpipe.components.common.named_images import PlacedImage
from imgpipe.components.image_filter.check import ImageFinding, JudgeSettings, Severity
from imgpipe.components.image_filter.checks.whole_set import (
    NEAR_DUPLICATE,
    NEAR_DUPLICATE_ACROSS_SPLITS,
    NEAR_DUPLICATE_LABEL_CONFLICT,
    NEAR_DUPLICATE_REMEDIES,
    NEAR_DUPLICATE_SEVERITIES,
    radius,
)
from imgpipe.components.image_filter.hamming import differing_bits
from imgpipe.components.image_filter.near_search import Hashes
from imgpipe.components.image_filter.overrides import find
from imgpipe.models import feature_names as names
from imgpipe.models.arrays import Indices

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


class Listed(PlacedImage):
    """An image of a group of near-duplicates."""

    stays: Annotated[bool, "Whether the image is kept."]
    reason: Annotated[str, "Name of the check; empty without a finding."]
    detail: Annotated[str, "What was found."]
    similar_to: Annotated[str, "Path of the image to which it is similar."]


class NearGroup(TypedDict):
    """A group of near-duplicates."""

    radius: Annotated[int, "Largest number of differing bits between near-duplicates."]
    members: Annotated[list[Listed], "Images of the group."]


@dataclass(frozen=True)
class Member:
    """An image of a group of equal or similar images."""

    path: str
    split: str
    label: str
    image_hash: str
    hashes: bytes = b""  # as `perceptual_hashes` returns them
    group: str = ""  # the family, or the group that the source gives; "" for none
    #: How this image or another one was altered, by content of the other; see `NearDuplicates`.
    altered: Mapping[str, str] = field(default_factory=dict)


def resolve(members: Iterable[Member], settings: JudgeSettings) -> list[ImageFinding]:
    """Decide about the images of one group.

    The rejection of an image that an override accepts becomes a warning. Relabelled images stay
    rejected if they resemble a held-out image, because the right label does not make that
    evaluation honest.

    Args:
        members: The images, in any order.
        settings: Settings of the checks.

    Returns:
        At most one finding for each image, in the order of their paths.
    """
    levels = {**NEAR_DUPLICATE_SEVERITIES, **settings.severity}
    near = _Near(sorted(members, key=lambda member: member.path), radius(settings))
    findings: dict[str, ImageFinding] = {}
    gone = np.zeros(len(near.members), bool)
    for reason in _RULES:
        if levels[reason] == "ignore":
            continue
        # A label conflict is reported for both images; of several copies the first one is kept.
        away = gone if reason == NEAR_DUPLICATE else gone.copy()
        for index, member in enumerate(near.members):
            if member.path in findings:
                continue
            match = near.nearest(index, near.others(index, reason, away))
            if match is None:
                continue
            finding = _finding(member, near.members[match.index], match, reason, levels[reason])
            if finding.severity == "reject":
                override = find(settings.overrides, member.image_hash)
                verdict = override.verdict if override is not None else ""
                across = reason == NEAR_DUPLICATE_ACROSS_SPLITS
                if verdict == "accept" or (verdict == "relabel" and not across):
                    finding = dataclasses.replace(finding, severity="warn")
                else:
                    gone[index] = True
            findings[member.path] = finding
    return [findings[path] for path in sorted(findings)]


def line(members: Iterable[Member], radius: int, findings: Iterable[ImageFinding]) -> NearGroup:
    """Return a group as it is listed in the quarantine and by `imgpipe check --json`.

    Args:
        members: The images, in any order.
        radius: Bits within which images are near-duplicates.
        findings: Findings about the images.
    """
    by_path = {finding.path: finding for finding in findings}
    ordered = sorted(members, key=lambda member: member.path)
    rows = [_row(member, by_path.get(member.path)) for member in ordered]
    return {"radius": radius, "members": rows}


def set_aside(groups: Iterable[NearGroup]) -> dict[str, int]:
    """Count the training images that were rejected as near-duplicates of held-out images.

    Args:
        groups: Groups as `line` returns them.

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


def _row(member: Member, finding: ImageFinding | None) -> Listed:
    return {
        "path": member.path,
        "split": member.split,
        "label": member.label,
        "image_hash": member.image_hash,
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


class _Near:
    """The distances between the images of a group, in the order of their paths."""

    def __init__(self, members: Sequence[Member], radius: int) -> None:
        self.members = members
        self._radius = radius
        rows = np.frombuffer(b"".join(member.hashes for member in members), np.uint8)
        self._hashes = Hashes(rows.reshape(len(members), -1))
        kinds = [self._hashes.kind(number).T for number in range(self._hashes.kinds)]
        self._kinds = np.stack(kinds, axis=-1)  # uint64 [4, n, kinds]
        columns = ((one.split, one.label, one.group) for one in members)
        self._splits, self._labels, self._groups = map(np.array, zip(*columns, strict=True))
        self._held_out = {
            split: np.flatnonzero(np.isin(self._splits, held)) for split, held in _HELD_OUT.items()
        }

    def others(self, index: int, reason: str, gone: npt.NDArray[np.bool_]) -> Indices:
        """Return the images with which a rule compares one; those in `gone` may be left out."""
        if reason == NEAR_DUPLICATE_ACROSS_SPLITS:
            return self._held_out.get(str(self._splits[index]), np.array([], np.int64))
        # Of a large group, the first images and the preceding ones.
        count = len(self.members)
        tail = np.arange(max(_COMPARED, index - _COMPARED), max(_COMPARED, index))
        rows = np.concatenate([np.arange(min(_COMPARED, count)), tail[tail < count]])
        rows = rows[(rows != index) & ~gone[rows]]
        if reason == NEAR_DUPLICATE_LABEL_CONFLICT:
            return rows[self._labels[rows] != self._labels[index]]
        rows = rows[(rows < index) & (self._splits[rows] == self._splits[index])]
        grouped = self._groups[index] != ""
        return rows[self._groups[rows] != self._groups[index]] if grouped else rows

    def nearest(self, index: int, rows: Indices) -> _Match | None:
        """Return the nearest of these images that is near and alike, or None.

        Of equally near ones it is the first, and a crop only if no whole image is near.
        """
        if not len(rows):
            return None
        here = np.full(len(rows), index)
        kinds = differing_bits(self._kinds[:, index, 0], self._kinds[:, rows])  # [m, kinds]
        ways = [HashPairs(here, rows, np.full(len(rows), kind), kinds[:, kind]) for kind in (0, 1)]
        if kinds.shape[1] > _FIRST_CROP:
            crops = self._kinds[:, index, _FIRST_CROP:]
            own = differing_bits(crops, self._kinds[:, rows, :1])
            ways += [_crops(here, rows, kinds[:, _FIRST_CROP:]), _crops(rows, here, own)]
        pairs = HashPairs.join(ways)
        (near,) = np.nonzero(pairs.bits <= self._radius)
        way, place = np.divmod(near, len(rows))
        near = near[np.lexsort((way, place, pairs.bits[near], way >= _FIRST_CROP))]
        for start in range(0, len(near), _CONFIRMED):  # mostly one of the first pairs is alike
            some = near[start : start + _CONFIRMED]
            for number in some[self._hashes.alike(pairs.select(some))].tolist():
                way, place = divmod(number, len(rows))
                bits = f"{pairs.bits[number]} of {BITS} bits of the perceptual hash differ"
                return _Match(int(rows[place]), f"{_WAYS[way]}{bits}")
        altered = self.members[index].altered
        for row in rows.tolist() if altered else ():
            how = altered.get(self.members[row].image_hash)
            if how is not None:
                return _Match(row, how)
        return None


def _crops(one: Indices, other: Indices, bits: npt.NDArray[np.int64]) -> HashPairs:
    """Pair images by the nearest crop of the others, of which `bits` [m, crops] differ."""
    return HashPairs(one, other, _FIRST_CROP + bits.argmin(axis=1), bits.min(axis=1))


def _finding(
    member: Member, other: Member, match: _Match, reason: str, severity: str
) -> ImageFinding:
    """Describe which image a member is similar to, and the distance."""
    labels = f" ({other.label}; this one is {member.label})" if other.label != member.label else ""
    detail = f"similar to {other.path}{labels}: {match.how}"
    if reason == NEAR_DUPLICATE_ACROSS_SPLITS:
        detail += f"; that one is in {other.split}, this one in {member.split}"
        if member.split != names.TRAIN and severity == "reject":
            severity = "warn"  # the model is not trained on this image
    return ImageFinding(
        reason,
        detail,
        cast(Severity, severity),
        remedy=NEAR_DUPLICATE_REMEDIES[reason],
        kept_copy=other.path,
        path=member.path,
    )
