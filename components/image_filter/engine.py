"""The way of a set of images through the filter: each on its own, and all together.

Two drivers take it, Beam for ImageFilter and a loop for `imgpipe check`, so both give the same
results. `examine` has decided about each image on its own. One process completes the table of all
of them (`judge`): it searches for families and copies, places the images in splits, and decides
about the copies. Afterwards the table says what becomes of each image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.common.image_file.pixels import ALL_BYTES
from imgpipe.components.common.image_row import TRANSCODED, FileFinding
from imgpipe.components.common.splits import SplitRule
from imgpipe.components.image_filter.copies import decisions
from imgpipe.components.image_filter.copies.search import NearDuplicates, find_near_duplicates
from imgpipe.components.image_filter.findings import ImageFindings
from imgpipe.components.image_filter.judge.checks.quality import radius_in
from imgpipe.components.image_filter.placement import families, placement
from imgpipe.models import names
from imgpipe.models.arrays import PixelValues
from imgpipe.models.finding import Finding
from imgpipe.models.settings.given import Facts, Given

if TYPE_CHECKING:
    import pandas as pd

#: Columns that are decided when all images are known.
_TOGETHER = ("split", "group", "is_family", "near_group", "family", "seen_family", "reason")


@dataclass(frozen=True)
class JudgedImages:
    """The images of a source, and what was found.

    Attributes:
        images: The table of all images.
        findings: What was found in them, by path and reason.
        notes: What was found about all of them together.
        alike_apart: Number of kept images that are alike only by way of rejected ones.
    """

    images: pd.DataFrame
    findings: list[FileFinding]
    notes: list[Finding]
    alike_apart: int


def judge(
    images: pd.DataFrame,
    findings: ImageFindings,
    hashes: Iterable[bytes],
    given: Given,
    rule: SplitRule | None,
) -> JudgedImages:
    """Complete the table of all images of a source, in place.

    Args:
        images: The table, as it was read, in any order; its index is a range from 0.
        findings: What `examine` has found, by the number of the image; what is found together is
            added.
        hashes: The perceptual hashes of the images, of which one is read at a time; zeros for an
            image that cannot be compared.
        given: What ImageFilter gets.
        rule: The rule that has drawn the splits. None: no image is moved.
    """
    settings = given.settings.judge
    _apply_decisions(images, given.facts)
    images["reason"] = [findings.rejection(number) for number in range(len(images))]
    has_passed = (images["reason"] == "").to_numpy()
    passed = images[has_passed].copy()
    radius = radius_in(settings)
    notes, similar = belongings(passed, itertools.compress(hashes, has_passed), radius)
    if rule is not None and rule.drawn:
        placement.place(passed, rule)
    notes += decisions.decide(passed, similar, settings, findings)
    passed["reason"] = [findings.rejection(number) for number in passed.index]
    alike_apart = _settle(passed, similar, radius)
    for name in _TOGETHER:
        column = images[name].to_numpy(copy=True)
        column[has_passed] = passed[name]
        images[name] = column
    is_repaired = (images["converted"] != "") & (images["reason"] == "")
    images["repairs"] = np.where(is_repaired, TRANSCODED, "").astype(np.object_)
    return JudgedImages(images, findings.described(images), notes, alike_apart)


def _apply_decisions(images: pd.DataFrame, facts: Facts) -> None:
    """Give the images the labels that people have given them."""
    images["source_label"] = images["label"]
    images["source_index"] = images["label_index"]
    decided = {number: facts.decision_about(each) for number, each in images["image_hash"].items()}
    for number, override in decided.items():
        if override is not None:
            images.loc[number, "verdict"] = override.verdict
            if override.verdict == "relabel":
                images.loc[number, ["label", "label_index"]] = override.label, override.label_index


def belongings(
    images: pd.DataFrame, hashes: Iterable[bytes], radius: int
) -> tuple[list[Finding], NearDuplicates]:
    """Find what belongs together: write the group, the near-duplicates and the family of images.

    A group of several images that a pattern or a column gives rules its images. All others get the
    family that names propose and pictures confirm.

    Args:
        images: The images, in any order, with the groups of their source. The column `content` is
            added, which numbers the contents in the order of their hashes.
        hashes: The perceptual hashes of these images; see `judge`.
        radius: See `search.search`; 0 finds no near-duplicates.

    Returns:
        What to know about the families, and the near-duplicates among the contents.
    """
    import pandas as pd

    images["content"], contents = pd.factorize(images["image_hash"], sort=True)
    pictures = pictures_of(images["content"], len(contents), hashes)
    in_group = images.groupby("group")["content"].transform("nunique")
    is_alone = (images["group"] == "") | (in_group == 1)
    named = families.find(images[is_alone], pictures)
    of_family = images["image_hash"].map(named.by_content).fillna("")
    images["group"] = images["group"].where(~is_alone, of_family)
    images["is_family"] = is_alone & (images["group"] != "")
    similar = find_near_duplicates(pictures, radius)
    images["near_group"] = similar.groups[images["content"]]
    _name_families(images)
    return named.findings, similar


def pictures_of(contents: Iterable[int], count: int, hashes: Iterable[bytes]) -> PixelValues:
    """Return what the inspection keeps of each content, uint8 [count, `ALL_BYTES`]."""
    pictures = np.zeros((count, ALL_BYTES), np.uint8)
    for content, value in zip(contents, hashes, strict=True):
        if value:
            pictures[content] = np.frombuffer(value, np.uint8)
    return pictures


def _name_families(images: pd.DataFrame) -> None:
    """Write the family of each image, by its group and by its near-duplicates."""
    units = placement.units(images)
    images["family"] = images.groupby(units)["image_hash"].transform("min").astype(object)


def _settle(passed: pd.DataFrame, similar: NearDuplicates, radius: int) -> int:
    """Complete the families when copies are rejected, and mark those that train has, too.

    Where a rejected image was the only link between two others, nothing confirms that these are
    alike, so that the near-duplicates are searched again among those that are left.

    Returns:
        The number of images that were alike only by way of rejected ones.
    """
    is_kept = passed["reason"] == ""
    is_gone = ~passed["content"].isin(passed.loc[is_kept, "content"])
    broken = set(passed.loc[is_gone, "near_group"]) - {0}
    passed.loc[~is_kept, "near_group"] = 0
    left = passed[is_kept & passed["near_group"].isin(broken)]
    again = find_near_duplicates(similar.pictures[left["content"]], radius).groups
    keys = np.where(again > 0, again, -1 - np.arange(len(left)))
    before = left.groupby("near_group")["content"].transform("size")
    now = left.groupby(keys)["content"].transform("size")
    first = passed["near_group"].max() if len(passed) else 0
    passed.loc[left.index, "near_group"] = np.where(again > 0, first + again, 0)
    kept = passed[is_kept].copy()
    _name_families(kept)
    passed.loc[kept.index, "family"] = kept["family"]
    in_train = kept.loc[kept["split"] == names.TRAIN, "family"]
    is_held_out = is_kept & (passed["split"] != names.TRAIN)
    passed["seen_family"] = is_held_out & passed["family"].isin(in_train)
    return int((now < before).sum())
