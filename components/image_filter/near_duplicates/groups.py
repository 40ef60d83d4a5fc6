"""Decisions about a group of near-duplicates: which images are rejected or kept with a warning.

A training image with a near-duplicate in validation or test is rejected, so that no model is
evaluated on an image that it was trained on. Copies within a split are kept with a warning. So are
copies with different labels, because unlike byte-identical files they may really differ. Two images
of a group count as near-duplicates only if their own distance is within the radius; a chain of
other images between them is not enough.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from imgpipe.components.image_file.perceptual_hash import BITS, PerceptualHashes
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


def line(
    members: Iterable[Member], radius: int, findings: Iterable[Finding], limit: int
) -> dict[str, Any]:
    """Return a group as it is listed in the quarantine and by ``imgpipe check --json``.

    Args:
        members: The images.
        radius: Bits within which images of this set are near-duplicates.
        findings: Findings about the images.
        limit: The largest radius that the settings allow.
    """
    found = {finding.path: finding for finding in findings}
    rows = [_row(member, found.get(member.path)) for member in members]
    return {"radius": radius, "limit": limit, "members": rows}


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


class _Near:
    """The distances between the images of a group."""

    def __init__(self, members: Sequence[Member], radius: int) -> None:
        self.members, self.radius = members, radius
        hashes = [member.hashes for member in members]
        self._upright = words(b"".join(one.upright for one in hashes))
        self._mirrored = words(b"".join(one.mirrored for one in hashes))
        self._crops = words(b"".join(one.crops for one in hashes))
        self._crops = self._crops.reshape(len(members), -1, self._upright.shape[-1])

    def nearest(self, index: int, others: Sequence[int]) -> _Match | None:
        """Return the nearest of `others` within the radius (the first of equal ones), or None.

        Crops are compared only if no whole image is within the radius.
        """
        if not others:
            return None
        rows = np.asarray(others)
        upright, wholes = self._upright[index], self._upright[rows]
        ways = {
            "": distances(upright, wholes),
            "mirrored": distances(upright, self._mirrored[rows]),
        }
        found = self._best(ways, others)
        if found is None and self._crops.shape[1]:
            cropped = distances(upright, self._crops[rows]).min(axis=1)
            more = distances(self._crops[index][:, None], wholes).min(axis=0)
            found = self._best({"a crop of it": cropped, "it is a crop of this": more}, others)
        return found

    def _best(self, ways: Mapping[str, Indices], others: Sequence[int]) -> _Match | None:
        bits = np.stack(list(ways.values()))
        best = int(bits.min(axis=0).argmin())
        way = int(bits[:, best].argmin())
        if bits[way, best] > self.radius:
            return None
        return _Match(others[best], int(bits[way, best]), list(ways)[way])


def _leak(
    near: _Near, index: int, levels: Mapping[str, str], gone: Collection[str]
) -> Finding | None:
    """Find an image of validation or test near a training image, or of test near validation."""
    member = near.members[index]
    over = {names.TRAIN: (names.TEST, names.VALIDATION), names.VALIDATION: (names.TEST,)}
    held_out = over.get(member.split, ())
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
