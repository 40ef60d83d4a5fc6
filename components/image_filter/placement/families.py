"""Families: images that show the same thing, such as the frames of a film or visits of a person.

Names propose, pictures decide. Each part and each beginning of the file names is a candidate for
the family, and so are the moments at which a camera took photographs. A candidate holds if images
of its groups are more alike than other images of their class, by more than chance; no word and no
program is known here. Of two that hold, the one is taken that joins images which the other
separates, if these are alike, too. If each of two does so, as the film and the scene that all films
show, the one with the clearly greater likeness is taken, or else a person is asked.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from imgpipe.components.common.formatting import join_names, plural
from imgpipe.components.common.image_file.file_names import without_ending
from imgpipe.components.common.splits import split_of
from imgpipe.components.image_filter.placement.candidates import (
    ALIKE,
    NamePart,
    candidates_of,
    common,
    forms,
)
from imgpipe.components.image_filter.placement.likeness import Pictures
from imgpipe.models.arrays import Indices, PixelValues
from imgpipe.models.finding import Finding, make_finding

if TYPE_CHECKING:
    import pandas as pd

#: Probability that images without families get some, and that they are said to have nearly some.
_CHANCE = 1e-3
_NEARLY = 0.02
_BURST_SECONDS = 3  # between two photographs of a burst
UNCLEAR = "unclear_families"
#: What names come in that have one image of each kind of a condition, by the number of kinds.
_SETS = {2: "twos", 3: "threes", 4: "fours"}


@dataclass
class FoundFamilies:
    """The families of a set of images.

    Attributes:
        by_content: Name of its family by the content of each image that has one.
        findings: What to know about them.
    """

    by_content: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def find(images: pd.DataFrame, table: PixelValues) -> FoundFamilies:
    """Find the families of a set of images.

    Args:
        images: All images, in any order; `content` numbers their contents.
        table: What the inspection keeps of each content, uint8 [m, `ALL_BYTES`].

    Returns:
        The families, of at least two files each, which may be of several classes. Files with the
        same content are one image, of the family of the first path.
    """
    families = FoundFamilies()
    if not len(images):
        return families
    named = _named(images)
    names = named["name"].tolist()
    labels = np.unique(named["label"], return_inverse=True)[1]
    places = named["content"].to_numpy()
    pictures = Pictures(table, places, labels)
    label_of = named["label"].tolist()
    family_of: dict[int, str] = {}
    for own in forms(names):
        own_names = [names[place] for place in own]
        compared = pictures
        candidates = candidates_of(compared, own, labels, own_names)
        condition = _held_condition(candidates)
        if condition is not None:  # what the images of each kind share makes nothing else alike
            kinds = np.zeros_like(labels)
            kinds[own] = 1 + condition.groups
            compared = Pictures(table, places, labels, kinds)
            candidates = candidates_of(compared, own, labels, own_names)
        candidates = [each for each in candidates if not each.is_condition]
        best = _best(compared, own, candidates, families)
        if condition is not None:
            crossed = _crossed(condition, candidates, labels[own])
            families.findings.append(_condition(condition, crossed, crossed is best))
        if best is None:
            continue
        # Equal names in several classes are one family, if these images are alike, too.
        across = compared.likeness(own, best.groups, across=True)
        is_shared = best.holds(across, _CHANCE)
        is_alike = compared.alike(own, best.groups, best.in_number, best.across)
        for number, place in enumerate(own.tolist()):
            label = "" if is_shared else f"{label_of[place]}/"
            if best.spans[number] != (0, 0) and is_alike[number]:
                family_of.setdefault(place, f"{label}{best.titles[best.groups[number]]}")
    files = Counter(family_of.values())
    several = {place: family for place, family in sorted(family_of.items()) if files[family] > 1}
    for burst in _bursts(named, pictures):
        of_names = (several[place] for place in burst if place in several)
        name = next(of_names, f"burst of {named['path'].iloc[burst[0]]}")
        for place in burst:
            several.setdefault(place, name)
    hashes = named["image_hash"].tolist()
    families.by_content = {hashes[place]: several[place] for place in sorted(several)}
    # Names of one form may ask what all names ask, too.
    by_sentence = {finding["sentence"]: finding for finding in families.findings}
    families.findings = [*by_sentence.values()]
    return families


def _named(images: pd.DataFrame) -> pd.DataFrame:
    """Return an image of each content, in an order that no folder of a class decides, with names.

    The name is the whole path without its ending, the folder of its class, those of splits, and
    those around all images: what belongs together may stand above the class and below it.
    """
    source_labels = images["source_label"].where(images["source_label"] != "", images["label"])
    paths = [*map(_below_splits, images["path"], source_labels)]
    around = len(common([path[:-1] for path in paths]))
    named = images.assign(name=["/".join(path[around:]) for path in paths])
    first = named.sort_values(["name", "path"]).drop_duplicates("image_hash")
    return first.sort_values(["label", "name", "path"])


def _below_splits(path: str, label: str) -> list[str]:
    """Return the folders and the name of a file, without those of its class and of splits."""
    *folders, name = without_ending(path).split("/")
    if label in folders:
        del folders[len(folders) - 1 - folders[::-1].index(label)]
    return [*(folder for folder in folders if split_of(folder) is None), name]


def _best(
    pictures: Pictures, images: Indices, candidates: Sequence[NamePart], families: FoundFamilies
) -> NamePart | None:
    """Return the candidate that is the family; None for none, or if a person has to say it."""
    chance = _CHANCE / max(len(candidates), 1)
    holding = [each for each in candidates if each.holds(each.likeness, chance)]
    if not holding:
        nearly = _NEARLY / max(len(candidates), 1)
        close = [each for each in candidates if each.holds(each.likeness, nearly)]
        close.sort(key=lambda each: -each.likeness.groups)
        families.findings += [_nearly(each) for each in close[:1]]
        return None
    holding.sort(key=lambda each: -int(each.groups.max()))
    best = holding[0]
    rival: NamePart | None = None
    for other in holding[1:]:
        joins = pictures.likeness(images, other.groups, best.groups, is_near=other.in_number)
        if not other.holds(joins, chance):
            continue
        divides = pictures.likeness(images, best.groups, other.groups)
        if not best.holds(divides, chance):
            best, rival = other, None
        elif other.in_number or best.in_number:
            best = other if best.in_number else best
        elif abs(joins.share - divides.share) > 2 * (joins.error + divides.error):
            best = other if joins.share > divides.share else best
        else:
            rival = other
    if rival is not None:
        families.findings.append(_unclear(best, rival))
        return None
    return best


def _held_condition(candidates: Sequence[NamePart]) -> NamePart | None:
    """Return the condition whose images are alike most often, or None."""
    held = [
        each
        for each in candidates
        if each.is_condition and each.holds(each.likeness, _CHANCE / len(candidates))
    ]
    return max(held, key=lambda each: each.likeness.share, default=None)


def _crossed(
    condition: NamePart, candidates: Sequence[NamePart], labels: Indices
) -> NamePart | None:
    """Return the part most of whose groups have one image of each kind of a condition, or None."""
    kinds = len(condition.titles)
    most = len(labels) // 2
    crossed = None
    for each in candidates:
        groups = np.unique(labels * len(labels) + each.groups, return_inverse=True)[1]
        pairs = np.unique(np.stack([groups, condition.groups]), axis=1)
        whole = (np.bincount(groups) == kinds) & (np.bincount(pairs[0]) == kinds)
        images = kinds * int(np.count_nonzero(whole))
        if images > most:
            most = images
            crossed = each
    return crossed


def _bursts(images: pd.DataFrame, pictures: Pictures) -> list[list[int]]:
    """Return the images that one camera took within seconds, if they are alike."""
    cameras, times = images["camera"].tolist(), images["captured"].tolist()
    shots = sorted(np.flatnonzero(times).tolist(), key=lambda shot: (cameras[shot], times[shot]))
    groups = np.arange(len(images))
    for before, after in itertools.pairwise(shots):
        if cameras[before] == cameras[after] and times[after] - times[before] <= _BURST_SECONDS:
            groups[after] = groups[before]
    every = np.arange(len(images))
    bursts: dict[int, list[int]] = defaultdict(list)
    for across in (False, True):
        if not bursts and pictures.likeness(every, groups, across=across).reaches(
            ALIKE, _CHANCE / 2
        ):
            is_alike = pictures.alike(every, groups, across=across)
            for place in np.flatnonzero(is_alike).tolist():
                bursts[int(groups[place])].append(place)
    return [burst for burst in bursts.values() if len(burst) > 1]


def _condition(condition: NamePart, crossed: NamePart | None, is_family: bool) -> Finding:
    """Say that a part of the names is no family, and which part it crosses, if there is one."""
    kinds = [condition.titles[group] for group in sorted(condition.titles)]
    told = "a condition, such as a view or a stain, and no families"
    if crossed is None:
        return make_finding(
            "condition",
            f"each of {join_names(kinds)} is more than a fifth of every class: {told}",
        )
    in_sets = f"names come in {_SETS[len(kinds)]}"
    ways = [] if is_family else [f"if the images of each show the same thing: {crossed.command}"]
    return make_finding(
        "condition",
        f"{in_sets}: each of {crossed.titles[int(crossed.groups[0])]} and others has one image of "
        f"{join_names(kinds)}, which are {told}",
        ways,
        "" if is_family else in_sets,
        decides=not is_family,
    )


def _nearly(candidate: NamePart) -> Finding:
    families = plural(candidate.likeness.groups, "family", "families")
    return make_finding(
        "nearly_families",
        f"the names tell {families} whose images are more alike than others ({candidate.largest}), "
        "but these are too few to be sure; each image counts by itself",
        [f"if images of a family show the same thing: {candidate.command}"],
    )


def _unclear(*candidates: NamePart) -> Finding:
    title = "two parts of the names tell what belongs together"
    shown = "; ".join(each.largest for each in candidates)
    return make_finding(
        UNCLEAR,
        f"{title} ({shown}), and the pictures do not say which one is the family",
        [f"for families such as {each.largest}: {each.command}" for each in candidates],
        title,
        decides=True,
    )
