"""New images that are surely unlike the old images of their class: cats among daisies, for example.

An image is new if the run that made the served version did not know it. The similarity of an image
to a class is the mean cosine of its features with those of the five old images of the class that
are most similar to it. An old image is compared only with the old images of other folds.

Each image has two scores. The first is high if the image is unlike its own class, as other things
are. The second is high if the image is more like another class than like its own.

If the new images of a class are of the same kind as the old ones, all orders of their scores are
equally probable. The number of new images that score higher than the r-th highest of n old ones
then has a beta-binomial distribution with the parameters r and n - r + 1. For example, let 8 of 20
new images score higher than the third highest of 100 old ones; fewer than 1 would be expected. The
probability of 8 or more by chance is 0.000006, so these images are unlike their class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from imgpipe.components.common import images as tables
from imgpipe.components.common.storage import manifest
from imgpipe.components.image_evaluator.decision import UnlikeImages
from imgpipe.models import names
from imgpipe.models.arrays import Floats, Integers
from imgpipe.models.features import bank, folds, rows
from imgpipe.models.features.feature_distribution import LONGEST, unit

if TYPE_CHECKING:
    import pandas as pd

#: Probability that a run names anything although its new images are of the same kind as the old;
#: what it named in trials is in docs/benchmarks.md, "Constants of the code".
_CHANCE = 0.01
_FEWEST = 5  # groups of new images of a class that say anything; an image may be a group by itself
#: Share of a class's new groups, beyond the expected one, that is named. Among thousands of images,
#: harmless differences are more than chance, too.
_EXCESS = 0.05
#: The shares of the old scores above the scores with which the new ones are compared.
_TAILS = (0.01, 0.03, 0.1)
_NEAREST = 5  # old images of a class whose similarities are averaged
# old images that are used: of all classes, but so many of each
_MOST = 8_000
_MOST_OF_CLASS = 20
_LISTED = 500  # images of a class that are listed
_ROWS = 1024  # images that are compared at once


def unlike_images(
    bank_uri: str,
    kept: pd.DataFrame,
    vocabulary: Sequence[str],
    known_hashes: Mapping[str, str] | None,
) -> list[UnlikeImages]:
    """Find the new images that are surely unlike the old images of their class, class by class.

    `kept` are the kept images, and `known_hashes` those that the served version knows, by their
    short hashes. Nothing is found if the bank has no features, or nothing is known.
    """
    if not known_hashes or not bank.read_facts(bank_uri)["sizes"]:
        return []
    images = bank.read_rows(bank_uri, names.SPLITS, len(vocabulary), 0)
    old = np.array([manifest.short_hash(name.decode()) in known_hashes for name in images.hashes])
    classes: list[UnlikeImages] = []
    for label, places in unlike_rows(images, old, len(vocabulary)).items():
        name = vocabulary[label]
        listed = tables.placed(tables.find(kept, images.hashes[places[:_LISTED]]))
        new = int((~old & (images.labels == label)).sum())
        classes.append({"class": name, "new": new, "unlike": len(places), "images": listed})
    return classes


def unlike_rows(
    images: bank.BankRows, old: npt.NDArray[np.bool_], classes: int
) -> dict[int, Integers]:
    """Return the rows of the new images that are surely unlike the old ones, by their label.

    The most unlike come first. `images` has no augmented views, and `old`, bool [n], says which of
    them the served version knows.
    """
    features = images.first_block().features
    step = math.ceil(features.shape[1] / LONGEST)  # some features of a long map suffice
    features = features[:, ::step]
    fold = np.full(len(images), -1)
    fold[old] = folds.assign(images.labels[old], images.groups[old], folds.FOLDS)
    most = max(_MOST // classes, _MOST_OF_CLASS)
    old_by_label = [
        _evenly_spaced(np.flatnonzero(old & (images.labels == label)), most)
        for label in range(classes)
    ]
    sampled = np.concatenate(old_by_label)
    ends = np.cumsum([len(places) for places in old_by_label])
    old_images = _OldImages(unit(rows.take(features, sampled)), fold[sampled], ends)
    labels_of_new = np.unique(images.labels[~old]).tolist()
    # Two scores are tested for each label, with each of the tails.
    tests = 2 * len(_TAILS) * len(labels_of_new)
    unlike: dict[int, Integers] = {}
    for label in labels_of_new:
        new = np.flatnonzero(~old & (images.labels == label))
        count = len(old_by_label[label])
        compared = np.concatenate([old_by_label[label], new])
        blocks = [
            old_images.similarities(unit(rows.take(features, part)), fold[part])
            for part in np.split(compared, range(_ROWS, len(compared), _ROWS))
        ]
        tested = [
            _test(scores, images.groups[compared], count)
            for scores in _scores(np.concatenate(blocks), label)
        ]
        surest = min(tested, key=lambda test: test.chance, default=None)
        if surest is not None and surest.chance * tests < _CHANCE:
            ranked = np.argsort(-surest.new_scores, kind="stable")
            above = int((surest.new_scores > surest.usual).sum())
            # Images of the same kind score higher, too, with the share that is expected.
            others = surest.expected * (len(new) - above) / (1 - surest.expected)
            unlike[label] = new[ranked[: max(above - round(others), 1)]]
    return unlike


def _evenly_spaced(places: Integers, most: int) -> Integers:
    """Return at most `most` rows: a random sample, because rows are sorted by content hash."""
    return places[:: max(1, math.ceil(len(places) / most))]


@dataclass(frozen=True)
class _OldImages:
    """The old images with which others are compared, class by class.

    Attributes:
        features: Their features, scaled to a length of 1, [k, d].
        folds: The fold of each, [k].
        ends: Where the images of each class end, [C].
    """

    features: Floats
    folds: Integers
    ends: Integers

    def similarities(self, features: Floats, fold: Integers) -> Floats:
        """Return the similarity of images to each class, [m, C]; -inf where it has too few images.

        The features, [m, d], are scaled to a length of 1. An image is not compared with the old
        images of its fold, [m]; -1 is no fold.
        """
        cosines = features @ self.features.T
        cosines[fold[:, None] == self.folds] = -np.inf
        similarities = np.full((len(features), len(self.ends)), -np.inf, np.float32)
        for label, part in enumerate(np.split(cosines, self.ends[:-1], axis=1)):
            if part.shape[1] >= _NEAREST:
                nearest = np.partition(part, -_NEAREST)[:, -_NEAREST:]
                similarities[:, label] = nearest.mean(axis=1)
        return similarities


def _scores(similarities: Floats, label: int) -> list[Floats]:
    """Return how unlike its class each image is, and how much more like another class.

    Both are [m], from the similarity of the images of a class to each class, [m, C]; there are none
    if the class has too few old images.
    """
    to_own_class = similarities[:, label]
    if not np.isfinite(to_own_class).all():
        return []
    is_other = np.arange(similarities.shape[1]) != label
    to_others = similarities.max(axis=1, where=is_other, initial=-np.inf)
    return [-to_own_class, to_others - to_own_class]


class _Test(NamedTuple):
    """How a score of new images compares with that of old ones.

    Attributes:
        chance: Probability that so many new scores exceed the old score `usual` by chance.
        usual: The old score, of those that were tried, for which this is the least.
        expected: Share of the new images that score higher where they are of the same kind.
        new_scores: The scores of the new images.
    """

    chance: float
    usual: float
    expected: float
    new_scores: Floats


def _test(scores: Floats, groups: npt.NDArray[np.bytes_], count: int) -> _Test:
    """Compare the scores of new images with those of old ones, which are the first `count`."""
    from scipy.stats import betabinom

    old = _by_group(scores[:count], groups[:count])
    new = _by_group(scores[count:], groups[count:])
    chances = [(1.0, np.inf, 0.0)]
    for tail in _TAILS:
        rank = int(np.ceil(tail * len(old)))
        usual = float(np.sort(old)[-rank])
        above = int((new > usual).sum())
        if len(new) >= _FEWEST and above / len(new) - rank / len(old) >= _EXCESS:
            chance = betabinom.sf(above - 1, len(new), rank, len(old) - rank + 1)
            chances.append((float(chance), usual, rank / len(old)))
    return _Test(*min(chances), scores[count:])


def _by_group(scores: Floats, groups: npt.NDArray[np.bytes_]) -> Floats:
    """Return the mean score of each group: the images of one film are alike and count as one."""
    _, group = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(group, scores) / np.bincount(group))
