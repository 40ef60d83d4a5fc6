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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from imgpipe.components.image_file import grey_comparison
from imgpipe.components.image_file.grey_comparison import Pairs
from imgpipe.components.image_file.perceptual_hash import BITS, GREY_BYTES, PerceptualHashes
from imgpipe.components.image_filter.check import Finding, Severity
from imgpipe.components.image_filter.checks.near_duplicate import (
    ACROSS_SPLITS,
    LABEL_CONFLICT,
    NEAR,
    REMEDIES,
    SEVERITIES,
)
from imgpipe.components.image_filter.near_duplicates.search import Indices, distances, words
from imgpipe.models import feature_names as names

#: Number of images of a group that each image is compared with inside a split. Larger groups are
#: frames of films, which have enough near-duplicates among these.
_COMPARED = 2000
#: Number of pairs whose grey images are compared first; mostly one of them is alike.
_CONFIRMED = 16
_FIRST_CROP = 2  # number of the first kind of hash that is of a crop


@dataclass(frozen=True, order=True)
class Member:
    """An image of a group of near-duplicates."""

    path: str
    split: str
    label: str
    image_hash: str
    hashes: PerceptualHashes
    group: str = ""  # the group that the source gives; "" when it gives none


def resolve(
    members: Iterable[Member],
    radius: int,
    severities: Mapping[str, str] | None = None,
    accepted: Collection[str] = (),
) -> list[Finding]:
    """Decide about the images of one group.

    Args:
        members: The images, in any order.
        radius: Bits within which images are near-duplicates.
        severities: Severities by reason, for those that are not the default.
        accepted: First digits of the content hashes of images that overrides accept; a rejection
            of such an image becomes a warning.

    Returns:
        At most one finding for each image, in the order of their paths.
    """
    levels = {**SEVERITIES, **(severities or {})}
    near = _Near(sorted(members, key=lambda member: member.path), radius)
    findings: dict[str, Finding] = {}
    gone: set[str] = set()
    for rule in (_leak, _conflict, _copy):
        # A label conflict is reported for both images; of several copies the first one is kept.
        away = gone if rule is _copy else frozenset(gone)
        for index, member in enumerate(near.members):
            if member.path in findings:
                continue
            finding = rule(near, index, levels, away)
            if finding is None or finding.severity == "ignore":
                continue
            if finding.severity == "reject":
                gone.add(member.path)
                if member.image_hash.startswith(tuple(accepted)):
                    finding = dataclasses.replace(finding, severity="warn")
            findings[member.path] = finding
    return [findings[path] for path in sorted(findings)]


def line(members: Iterable[Member], radius: int, findings: Iterable[Finding]) -> dict[str, Any]:
    """Return a group as it is listed in the quarantine and by ``imgpipe check --json``.

    Args:
        members: The images.
        radius: Bits within which images are near-duplicates.
        findings: Findings about the images.
    """
    found = {finding.path: finding for finding in findings}
    rows = [_row(member, found.get(member.path)) for member in members]
    return {"radius": radius, "limit": radius, "members": rows}


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


def _row(member: Member, finding: Finding | None) -> dict[str, Any]:
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


@dataclass(frozen=True)
class _Compared:
    """A way of comparing an image with m others.

    Attributes:
        name: How the other image was changed, such as "mirrored"; "" when it was not.
        one: Indices of the images whose upright hashes were compared, [m].
        other: Indices of the images that they were compared with, [m].
        bits: Numbers of differing bits for each kind of hash of the other image, [m, kinds].
        first_kind: Number of the first of these kinds.
    """

    name: str
    one: Indices
    other: Indices
    bits: Indices
    first_kind: int


class _Near:
    """The distances between the images of a group."""

    def __init__(self, members: Sequence[Member], radius: int) -> None:
        self.members, self.radius = members, radius
        hashes = [member.hashes for member in members]
        self._upright = words(b"".join(one.upright for one in hashes))
        self._mirrored = words(b"".join(one.mirrored for one in hashes))
        self._crops = words(b"".join(one.crops for one in hashes))
        self._crops = self._crops.reshape(len(members), -1, self._upright.shape[-1])
        known = all(len(one.grey) == GREY_BYTES for one in hashes)
        greys = b"".join(one.grey for one in hashes) if known else b""
        self._greys = np.frombuffer(greys, np.uint8).reshape(-1, GREY_BYTES)

    def nearest(self, index: int, others: Sequence[int]) -> _Match | None:
        """Return the nearest of `others` that is near (the first of equal ones), or None.

        Crops are compared only if no whole image is near.
        """
        if not others:
            return None
        rows = np.asarray(others)
        here = np.full(len(rows), index)
        upright, wholes = self._upright[index], self._upright[rows]
        found = self._best(
            rows,
            _Compared("", here, rows, distances(upright, wholes)[:, None], 0),
            _Compared("mirrored", here, rows, distances(upright, self._mirrored[rows])[:, None], 1),
        )
        if found is None and self._crops.shape[1]:
            crops = distances(upright, self._crops[rows])
            more = distances(self._crops[index], wholes[:, None])
            found = self._best(
                rows,
                _Compared("a crop of it", here, rows, crops, _FIRST_CROP),
                _Compared("it is a crop of this", rows, here, more, _FIRST_CROP),
            )
        return found

    def _best(self, others: Indices, *ways: _Compared) -> _Match | None:
        """Return the nearest of `others` in any way, of those that are alike."""
        bits = np.stack([way.bits.min(axis=1) for way in ways])
        way_of, place = np.nonzero(bits <= self.radius)
        order = np.lexsort((way_of, place, bits[way_of, place]))
        way_of, place = way_of[order], place[order]
        if not len(place):
            return None
        at = (way_of, place)
        kinds = np.stack([way.first_kind + way.bits.argmin(axis=1) for way in ways])
        ones = np.stack([way.one for way in ways])
        those = np.stack([way.other for way in ways])
        pairs = Pairs(ones[at], those[at], kinds[at], bits[at])
        number = self._first_alike(pairs)
        if number is None:
            return None
        way = ways[way_of[number]]
        return _Match(int(others[place[number]]), int(pairs.bits[number]), way.name)

    def _first_alike(self, pairs: Pairs) -> int | None:
        """Return the number of the first pair whose grey images are alike; None if there is none.

        Mostly it is one of the first pairs, so that few are compared.
        """
        if not len(self._greys):
            return 0
        start, count = 0, _CONFIRMED
        while start < len(pairs):
            some = pairs.select(np.arange(start, min(start + count, len(pairs))))
            (found,) = np.nonzero(grey_comparison.alike(self._greys, some))
            if len(found):
                return start + int(found[0])
            start, count = start + count, 8 * count  # few calls where no pair is alike
        return None


def _leak(
    near: _Near, index: int, levels: Mapping[str, str], gone: Collection[str]
) -> Finding | None:
    """Find an image of validation or test near a training image, or of test near validation."""
    member = near.members[index]
    # Validation is used for choices, so an image of it may not resemble one of test either.
    held_out_from = {names.TRAIN: (names.TEST, names.VALIDATION), names.VALIDATION: (names.TEST,)}
    held_out = held_out_from.get(member.split, ())
    found = near.nearest(index, [i for i, m in enumerate(near.members) if m.split in held_out])
    if found is None:
        return None
    other = near.members[found.index]
    where = f"; that one is in {other.split}, this one in {member.split}"
    detail = _described(member, other, found) + where
    severity = levels[ACROSS_SPLITS]
    if member.split != names.TRAIN and severity == "reject":
        severity = "warn"  # the model is not trained on this image
    return _finding(member, ACROSS_SPLITS, severity, detail, other)


def _conflict(
    near: _Near, index: int, levels: Mapping[str, str], gone: Collection[str]
) -> Finding | None:
    """Find a near-duplicate with another label."""
    member = near.members[index]
    others = [
        i for i, m in _compared(near, index) if m.label != member.label and m.path not in gone
    ]
    found = near.nearest(index, others)
    if found is None:
        return None
    other = near.members[found.index]
    severity = levels[LABEL_CONFLICT]
    return _finding(member, LABEL_CONFLICT, severity, _described(member, other, found), other)


def _copy(
    near: _Near, index: int, levels: Mapping[str, str], gone: Collection[str]
) -> Finding | None:
    """Find an earlier near-duplicate in the same split that is not in the same source group."""
    member = near.members[index]
    others = [
        i
        for i, m in _compared(near, index)
        if i < index
        and m.split == member.split
        and m.path not in gone
        and not (member.group and m.group == member.group)
    ]
    found = near.nearest(index, others)
    if found is None:
        return None
    other = near.members[found.index]
    return _finding(member, NEAR, levels[NEAR], _described(member, other, found), other)


def _finding(member: Member, reason: str, severity: str, detail: str, other: Member) -> Finding:
    return Finding(
        reason,
        detail,
        cast(Severity, severity),
        remedy=REMEDIES[reason],
        kept_copy=other.path,
        path=member.path,
    )


def _compared(near: _Near, index: int) -> list[tuple[int, Member]]:
    """Return the images to compare with: of a large group, the first and the preceding ones."""
    head = list(enumerate(near.members[:_COMPARED]))
    start = max(_COMPARED, index - _COMPARED)
    tail = list(enumerate(near.members[start:index], start))
    return [(i, member) for i, member in (*head, *tail) if i != index]


def _described(member: Member, other: Member, found: _Match) -> str:
    """Describe which image it is similar to, and the distance."""
    way = f"{found.way}, " if found.way else ""
    labels = f" ({other.label}; this one is {member.label})" if other.label != member.label else ""
    bits = f"{found.bits} of {BITS} bits of the perceptual hash differ"
    return f"similar to {other.path}{labels}: {way}{bits}"
