"""The way of a set of images through the filter: each on its own, and all together.

Two drivers take it, Beam for ImageFilter and a loop for `imgpipe check`, so both give the same
results. `examine` decides about each image on its own. One process completes the rows of all of
them (`compare`): it searches for families and copies, places the images in
splits, and decides about the copies. Afterwards the table says what becomes of each image.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from imgpipe.components.common.image_file.content import NOT_MEASURED
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.image_filter.copies import decisions
from imgpipe.components.image_filter.copies.search import (
    NearDuplicates,
    find_near_duplicates,
    hash_table,
)
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge.checks.quality import radius_in
from imgpipe.components.image_filter.judge.single_image import decide
from imgpipe.components.image_filter.placement import families, placement
from imgpipe.components.image_filter.placement.families import FoundFamilies
from imgpipe.models import names
from imgpipe.models.settings.given import Given


def examine(rows: Iterable[ImageRow], given: Given) -> Iterator[ImageRow]:
    """Decide about each image on its own; its measurements are not kept in memory."""
    for row in rows:
        decide(row, given.settings.judge, given.facts.decision_about(row.image_hash))
        row.figures = NOT_MEASURED
        yield row


def compare(
    rows: Sequence[ImageRow], hashes: Iterable[bytes], given: Given, rule: SplitRule | None
) -> ImageTable:
    """Complete the rows of all images of a source, in place.

    Args:
        rows: Rows that `examine` has yielded, in any order.
        hashes: The perceptual hashes of these rows, of which one is read at a time; zeros for an
            image that cannot be compared.
        given: What ImageFilter gets.
        rule: The rule that has drawn the splits. None: no image is moved.

    Returns:
        The table of these rows.
    """
    has_passed = [row.rejection is None for row in rows]
    passed = [*itertools.compress(rows, has_passed)]
    radius = radius_in(given.settings.judge)
    of_set, similar = belongings(passed, itertools.compress(hashes, has_passed), radius)
    if rule is not None and rule.drawn:
        placement.place(passed, rule, given.facts.decision_about)
    by_content: dict[str, list[ImageRow]] = defaultdict(list)
    for row in passed:
        by_content[row.image_hash].append(row)
    decisions.reject_identical(by_content.values())
    groups: dict[int, list[ImageRow]] = defaultdict(list)
    for row in passed:
        if row.rejection is None and row.near_group:
            groups[row.near_group].append(row)
    for group in groups.values():
        decisions.judge_group(group, similar, given.settings.judge)
    of_set.findings += decisions.sum_conflicts([row for row in passed if row.rejection is None])
    of_set.alike_apart = _settle(passed, similar, radius)
    return ImageTable(rows, of_set)


def belongings(
    images: Sequence[ImageRow], hashes: Iterable[bytes], radius: int
) -> tuple[FoundFamilies, NearDuplicates]:
    """Find what belongs together: write the group, the near-duplicates and the family of images.

    A group of several images that a pattern or a column gives rules its images. All others get the
    family that names propose and pictures confirm.

    Args:
        images: The images, in any order, with the groups of their source.
        hashes: The perceptual hashes of these images; see `compare`.
        radius: See `search.search`; 0 finds no near-duplicates.

    Returns:
        The families that were found, and the near-duplicates.
    """
    contents, table = hash_table([row.image_hash for row in images], hashes)
    of_group: dict[str, set[str]] = defaultdict(set)
    for row in images:
        of_group[row.group].add(row.image_hash)
    others = [row for row in images if not row.group or len(of_group[row.group]) == 1]
    of_set = families.find(others, contents, table)
    for row in others:
        row.group = of_set.by_content.get(row.image_hash, "")
        row.is_family = bool(row.group)
    similar = find_near_duplicates(contents, table, radius)
    for row in images:
        row.near_group = 1 + similar.groups.get(row.image_hash, -1)
    _name_families(images)
    return of_set, similar


def _name_families(images: Sequence[ImageRow]) -> None:
    """Write the family of each image, by its group and by its near-duplicates."""
    if not images:
        return
    hashes = np.array([row.image_hash for row in images])
    groups = np.array([row.group or row.image_hash for row in images])
    near = np.array([str(row.near_group or row.image_hash) for row in images])
    units = placement.connected(hashes, groups, near)
    names_of: dict[int, str] = {}
    for unit, image_hash in zip(units.tolist(), hashes.tolist(), strict=True):
        names_of[unit] = min(image_hash, names_of.get(unit, image_hash))
    for row, unit in zip(images, units.tolist(), strict=True):
        row.family = names_of[unit]


def _settle(passed: Sequence[ImageRow], similar: NearDuplicates, radius: int) -> int:
    """Complete the families when copies are rejected, and mark those that train has, too.

    Where a rejected image was the only link between two others, nothing confirms that these are
    alike, so that the near-duplicates are searched again among those that are left.

    Returns:
        The number of images that were alike only by way of rejected ones.
    """
    kept = [row for row in passed if row.rejection is None]
    contents = {row.image_hash for row in kept}
    broken = {row.near_group for row in passed if row.image_hash not in contents} - {0}
    for row in passed:
        if row.rejection is not None:
            row.near_group = 0
    left = [row for row in kept if row.near_group in broken]
    hashes = [similar.hashes[row.image_hash] for row in left]
    before = Counter(row.near_group for row in left)
    again = find_near_duplicates(*hash_table([row.image_hash for row in left], hashes), radius)
    first = 1 + max((row.near_group for row in kept), default=0)
    keys = [again.groups.get(row.image_hash, row.image_hash) for row in left]
    now = Counter(keys)
    apart = 0
    for row, key in zip(left, keys, strict=True):
        apart += now[key] < before[row.near_group]
        row.near_group = first + key if isinstance(key, int) else 0
    _name_families(kept)
    in_train = {row.family for row in kept if row.split == names.TRAIN}
    for row in kept:
        row.seen_family = row.split != names.TRAIN and row.family in in_train
    return apart
