"""Decisions about a group of near-duplicates: which images are rejected or kept with a warning.

A training image with a near-duplicate in validation or test is rejected, so that no model is
evaluated on an image that it was trained on. Copies within a split are kept with a warning. So are
copies with different labels, because unlike byte-identical files they may really differ. Two images
of a group count as near-duplicates only if their own distance is within the radius and their grey
images are alike; a chain of other images between them is not enough.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12

from imgpipe.components.image_file.grey_comparison import Pairs
from imgpipe.components.image_file.perceptual_hash import BITS
from imgpipe.components.image_filter.check import Finding, Settings, Severity
from imgpipe.components.image_filter.checks.whole_set import (
    ACROSS_SPLITS,
    LABEL_CONFLICT,
    NEAR,
    REMEDIES,
    SEVERITIES,
    radius,
)
from imgpipe.components.image_filter.near_search import Hashes, Indices, distances
from imgpipe.components.image_filter.overrides import find
from imgpipe.models import feature_names as names

#: Number of images of a group that each image is compared with inside a split. Larger groups are
#: frames of films, which have enough near-duplicates among these.
_COMPARED = 2000
#: Number of pairs whose grey images are compared first; mostly one of them is alike.
_CONFIRMED = 16
_FIRST_CROP = 2  # number of the first kind of hash that is of a crop
#: Splits that an image must not resemble, by its own. Validation is used for choices, so an image
#: of it may not resemble one of test either.
_HELD_OUT = {names.TRAIN: (names.TEST, names.VALIDATION), names.VALIDATION: (names.TEST,)}


class Listed(TypedDict):
    """An image of a group of near-duplicates."""

    path: Annotated[str, "Path in the source."]
    split: Annotated[str, "Split of the image."]
    label: Annotated[str, "Label of the image."]
    image_hash: Annotated[str, "SHA-256 of the file."]
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
    group: str = ""  # the group that the source gives; "" when it gives none


def resolve(members: Iterable[Member], settings: Settings) -> list[Finding]:
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
    levels = {**SEVERITIES, **settings.severity}
    near = _Near(sorted(members, key=lambda member: member.path), radius(settings))
    findings: dict[str, Finding] = {}
    gone: set[str] = set()
    for reason, others in _RULES.items():
        if levels[reason] == "ignore":
            continue
        # A label conflict is reported for both images; of several copies the first one is kept.
        away = gone if reason == NEAR else frozenset(gone)
        for index, member in enumerate(near.members):
            if member.path in findings:
                continue
            found = near.nearest(index, others(near, index, away))
            if found is None:
                continue
            finding = _finding(member, near.members[found.index], found, reason, levels[reason])
            if finding.severity == "reject":
                override = find(settings.overrides, member.image_hash)
                verdict = override.verdict if override is not None else ""
                if verdict == "accept" or (verdict == "relabel" and reason != ACROSS_SPLITS):
                    finding = dataclasses.replace(finding, severity="warn")
                else:
                    gone.add(member.path)
            findings[member.path] = finding
    return [findings[path] for path in sorted(findings)]


def line(members: Iterable[Member], radius: int, findings: Iterable[Finding]) -> NearGroup:
    """Return a group as it is listed in the quarantine and by ``imgpipe check --json``.

    Args:
        members: The images, in any order.
        radius: Bits within which images are near-duplicates.
        findings: Findings about the images.
    """
    found = {finding.path: finding for finding in findings}
    ordered = sorted(members, key=lambda member: member.path)
    return {"radius": radius, "members": [_row(one, found.get(one.path)) for one in ordered]}


def set_aside(lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Count the training images that were rejected as near-duplicates of held-out images.

    Args:
        lines: Groups as `line` returns them.

    Returns:
        Number of training images by the split of the held-out image; without zeros.
    """
    counts: Counter[str] = Counter()
    for one in lines:
        split_of = {member["path"]: member["split"] for member in one["members"]}
        for member in one["members"]:
            if member["reason"] == ACROSS_SPLITS and not member["stays"]:
                counts[split_of.get(member["similar_to"], "")] += 1
    return {split: counts[split] for split in names.SPLITS if counts[split]}


def _row(member: Member, finding: Finding | None) -> Listed:
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
    """Another image, and how far away it is."""

    index: int  # index of the other image in the group
    bits: int
    way: str = ""  # how it was changed, such as "mirrored"; "" when it was not


class _Near:
    """The distances between the images of a group."""

    def __init__(self, members: Sequence[Member], radius: int) -> None:
        self.members, self.radius = members, radius
        rows = np.frombuffer(b"".join(member.hashes for member in members), np.uint8)
        hashes = self._hashes = Hashes.of(rows.reshape(len(members), -1))
        self._upright, self._mirrored, *crops = map(hashes.kind, range(hashes.kinds))
        self._crops = np.stack(crops, axis=1) if crops else None

    @functools.cached_property
    def held_out(self) -> dict[str, list[int]]:
        """Indices of the images that an image must not resemble, by its split."""
        return {
            split: [i for i, other in enumerate(self.members) if other.split in held]
            for split, held in _HELD_OUT.items()
        }

    @functools.cached_property
    def of_one_label(self) -> bool:
        """Whether all images have the same label."""
        return len({member.label for member in self.members}) == 1

    def nearest(self, index: int, others: Sequence[int]) -> _Match | None:
        """Return the nearest of `others` that is near (the first of equal ones), or None.

        Crops are compared only if no whole image is near.
        """
        if not others:
            return None
        rows = np.asarray(others)
        here = np.full(len(rows), index)
        upright, wholes = self._upright[index], self._upright[rows]
        ways = {
            "": _pairs(here, rows, distances(upright, wholes)[:, None], 0),
            "mirrored": _pairs(here, rows, distances(upright, self._mirrored[rows])[:, None], 1),
        }
        found = self._best(others, ways)
        if found is None and self._crops is not None:
            crops = distances(upright, self._crops[rows])
            more = distances(self._crops[index], wholes[:, None])
            ways = {
                "a crop of it": _pairs(here, rows, crops, _FIRST_CROP),
                "it is a crop of this": _pairs(rows, here, more, _FIRST_CROP),
            }
            found = self._best(others, ways)
        return found

    def _best(self, others: Sequence[int], ways: Mapping[str, Pairs]) -> _Match | None:
        """Return the nearest of `others` in any way, of those that are alike.

        Args:
            others: Indices of m images.
            ways: For each way in which the other image may have been changed, the m pairs.
        """
        pairs = Pairs.join(ways.values())
        (near,) = np.nonzero(pairs.bits <= self.radius)
        way_of, place = np.divmod(near, len(others))
        near = near[np.lexsort((way_of, place, pairs.bits[near]))]
        number = self._first_alike(pairs.select(near))
        if number is None:
            return None
        way, nearest = divmod(int(near[number]), len(others))
        return _Match(others[nearest], int(pairs.bits[near[number]]), list(ways)[way])

    def _first_alike(self, pairs: Pairs) -> int | None:
        """Return the number of the first pair whose grey images are alike; None if there is none.

        Mostly it is one of the first pairs, so that few are compared.
        """
        start, count = 0, _CONFIRMED
        while start < len(pairs):
            some = pairs.select(np.arange(start, min(start + count, len(pairs))))
            (found,) = np.nonzero(self._hashes.alike(some))
            if len(found):
                return start + int(found[0])
            start, count = start + count, 8 * count  # few calls where no pair is alike
        return None


def _pairs(one: Indices, other: Indices, bits: Indices, first_kind: int) -> Pairs:
    """Pair images by the nearest hash of the others.

    Args:
        one: Indices of the images whose upright hashes were compared, [m].
        other: Indices of the images that they were compared with, [m].
        bits: Numbers of differing bits for each kind of hash of the other image, [m, kinds].
        first_kind: Number of the first of these kinds.
    """
    return Pairs(one, other, first_kind + bits.argmin(axis=1), bits.min(axis=1))


def _held_out(near: _Near, index: int, gone: Collection[str]) -> Sequence[int]:
    """Find the images that must not resemble this one because they are used for evaluation."""
    return near.held_out.get(near.members[index].split, ())


def _other_labels(near: _Near, index: int, gone: Collection[str]) -> Sequence[int]:
    """Find the images with another label."""
    if near.of_one_label:
        return ()
    label = near.members[index].label
    others = _neighbours(near.members, index)
    return [i for i, other in others if other.label != label and other.path not in gone]


def _earlier(near: _Near, index: int, gone: Collection[str]) -> Sequence[int]:
    """Find the earlier images of the same split that are not in the same source group."""
    member = near.members[index]
    return [
        i
        for i, other in _neighbours(near.members, index)
        if i < index
        and other.split == member.split
        and other.path not in gone
        and not (member.group and other.group == member.group)
    ]


#: Rules in the order in which they are applied: the reason, and which images each is compared with.
_RULES = {ACROSS_SPLITS: _held_out, LABEL_CONFLICT: _other_labels, NEAR: _earlier}


def _neighbours(members: Sequence[Member], index: int) -> list[tuple[int, Member]]:
    """Return the images to compare with: of a large group, the first and the preceding ones."""
    head = list(enumerate(members[:_COMPARED]))
    start = max(_COMPARED, index - _COMPARED)
    tail = list(enumerate(members[start:index], start))
    return [(i, member) for i, member in (*head, *tail) if i != index]


def _finding(member: Member, other: Member, found: _Match, reason: str, severity: str) -> Finding:
    """Describe which image a member is similar to, and the distance."""
    way = f"{found.way}, " if found.way else ""
    labels = f" ({other.label}; this one is {member.label})" if other.label != member.label else ""
    bits = f"{found.bits} of {BITS} bits of the perceptual hash differ"
    detail = f"similar to {other.path}{labels}: {way}{bits}"
    if reason == ACROSS_SPLITS:
        detail += f"; that one is in {other.split}, this one in {member.split}"
        if member.split != names.TRAIN and severity == "reject":
            severity = "warn"  # the model is not trained on this image
    return Finding(
        reason,
        detail,
        cast(Severity, severity),
        remedy=REMEDIES[reason],
        kept_copy=other.path,
        path=member.path,
    )
