"""The way of a set of images through the filter: each on its own, and all together.

Two drivers take it, Beam for ImageFilter and a loop for `imgpipe check`, so both give the same
results. `examine` decides about each image on its own. One process completes the rows of all of
them (`compare`): it searches for families and copies, places the images in
splits, and decides about the copies. Afterwards the table says what becomes of each image.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from imgpipe.components.common.image_file.content import NOT_MEASURED
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.image_filter.copies import decisions
from imgpipe.components.image_filter.copies.search import find_near_duplicates, hash_table
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge.checks import CHECKS
from imgpipe.components.image_filter.judge.settings import FilterPlan
from imgpipe.components.image_filter.judge.single_image import decide, judge
from imgpipe.components.image_filter.placement import families, placement
from imgpipe.components.image_filter.placement.families import FoundFamilies
from imgpipe.models import names


def examine(rows: Iterable[ImageRow], plan: FilterPlan) -> Iterator[ImageRow]:
    """Decide about each image on its own; its measurements are not kept in memory."""
    for row in rows:
        decide(row, plan.settings, plan.override_of(row.image_hash))
        row.figures = NOT_MEASURED
        yield row


def compare(
    rows: Sequence[ImageRow], hashes: Iterable[bytes], plan: FilterPlan, rule: SplitRule | None
) -> ImageTable:
    """Complete the rows of all images of a source, in place.

    Args:
        rows: Rows that `examine` has yielded, in any order.
        hashes: The perceptual hashes of these rows, of which one is read at a time; zeros for an
            image that cannot be compared.
        plan: What ImageFilter gets.
        rule: The rule that has drawn the splits. None: no image is moved.

    Returns:
        The table of these rows.
    """
    _check_in_the_set([row for row in rows if row.rejection is None], plan)
    has_passed = [row.rejection is None for row in rows]
    passed = [*itertools.compress(rows, has_passed)]
    digests = [row.image_hash for row in passed]
    contents, table = hash_table(digests, itertools.compress(hashes, has_passed))
    of_set = FoundFamilies()
    # Groups that a pattern or a column gives are the only ones, if any has several images.
    given = {row.group: row.image_hash for row in passed if row.group}
    if all(given.get(row.group, row.image_hash) == row.image_hash for row in passed):
        of_set = families.find(passed, contents, table)
        for row in passed:
            row.group = of_set.by_content.get(row.image_hash, "")
            row.is_family = row.image_hash in of_set.by_content
    similar = find_near_duplicates(contents, table, plan.settings.radius)
    for row in passed:
        row.near_group = 1 + similar.groups.get(row.image_hash, -1)
    if rule is not None and rule.drawn:
        placement.place(passed, rule, plan.override_of)
    in_train = {row.group for row in passed if row.is_family and row.split == names.TRAIN}
    by_content: dict[str, list[ImageRow]] = defaultdict(list)
    for row in passed:
        row.seen_family = row.split != names.TRAIN and row.group in in_train
        by_content[row.image_hash].append(row)
    decisions.reject_identical(by_content.values())
    groups: dict[int, list[ImageRow]] = defaultdict(list)
    for row in passed:
        if row.rejection is not None:
            row.near_group = 0
        elif row.near_group:
            groups[row.near_group].append(row)
    for group in groups.values():
        decisions.judge_group(group, similar, plan.settings)
    return ImageTable(rows, of_set)


def _check_in_the_set(rows: Sequence[ImageRow], plan: FilterPlan) -> None:
    """Run the checks that need the whole set on the images that passed all others."""
    for check in CHECKS:
        if check.limits is None:
            continue
        limits = check.limits(rows, plan.settings.limit_of(check))
        for row in rows:
            judge(row, check, plan.settings, limits)
