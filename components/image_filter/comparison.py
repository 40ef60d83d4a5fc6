"""The way of a set of images through the filter: each on its own, and all together.

Two drivers take it, Beam for ImageFilter and a loop for `imgpipe check`, so both give the same
results. `examine` decides about each image on its own, to whose row the checks add what they find.
One process completes the rows of all of them (`compare`): it searches for families and copies,
places the images in splits, and decides about the copies. Afterwards the table says what becomes of
each image.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from imgpipe.components.common.image_file.content import NOT_MEASURED
from imgpipe.components.common.image_row import ImageFinding, ImageRow
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.image_filter.copies import decisions
from imgpipe.components.image_filter.copies.search import find_near_duplicates, hash_table
from imgpipe.components.image_filter.image_table import ImageTable
from imgpipe.components.image_filter.judge.check import ImageCheck, Limits
from imgpipe.components.image_filter.judge.checks import CHECKS, files
from imgpipe.components.image_filter.judge.overrides import Override
from imgpipe.components.image_filter.judge.settings import FilterPlan, JudgeSettings
from imgpipe.components.image_filter.placement import families, placement
from imgpipe.components.image_filter.placement.families import FoundFamilies
from imgpipe.models import names

REVIEWED = "reviewed"  # reason of files that an override rejects
_REVIEWED_REMEDY = "remove its entry from the overrides file"


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


def judge(row: ImageRow, check: ImageCheck, settings: JudgeSettings, limit: float | Limits) -> None:
    """Add what a check finds in an image, unless it is ignored or overridden.

    For `limit` see `ImageCheck.run`.
    """
    severity = settings.severity_of(check.name, check.severity)
    if severity == "ignore" or (row.is_accepted and "ignore" in check.may_be):
        return
    finding = check.run(row, limit)
    if finding is None:
        return
    if finding.severity != "repair":  # `decodable` sets it itself
        remedy = finding.remedy or check.remedy
        if severity == "reject" and check.severity == "warn":
            remedy = f"to keep them: --set judge.severity.{check.name}=warn"
        finding = dataclasses.replace(finding, severity=severity, remedy=remedy)
    row.add(finding)


def decide(row: ImageRow, settings: JudgeSettings, override: Override | None = None) -> ImageRow:
    """Run the checks in order until one rejects the image, and return its row.

    For an image that an override accepts or relabels, checks that may be ignored are skipped. A
    file that cannot be used is rejected regardless of overrides.

    Args:
        row: The row as the inspection made it.
        settings: Settings of the checks.
        override: Decision of a person about the image.
    """
    row.source_label = row.label
    row.source_index = row.label_index
    row.verdict = override.verdict if override is not None else ""
    move(row, row.split, override)
    is_solved = row.verdict == "relabel" and files.is_about_label(row.problem)
    if is_solved and row.is_accepted:
        row.problem = ""  # which concerns the old label
    for check in CHECKS:
        if check.needs == "set":
            continue  # `comparison` runs it
        if check.needs == "pixels" and not row.is_measured:
            continue  # the image was not decoded
        judge(row, check, settings, settings.limit_of(check))
        if row.rejection is not None:
            return row
    # The checks come first, so that a file that cannot be used keeps the reason for it.
    if override is not None and override.verdict == "reject":
        row.add(ImageFinding(REVIEWED, "rejected by an override", remedy=_REVIEWED_REMEDY))
    return row


def move(row: ImageRow, split: str, override: Override | None) -> None:
    """Move an image to a split, where its override may hold or no longer hold."""
    row.split = split
    if override is not None and override.relabels(split):
        row.label = override.label
        row.label_index = override.label_index
    elif row.source_index >= 0:
        row.label = row.source_label
        row.label_index = row.source_index
