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

import numpy as np
import numpy.typing as npt

from imgpipe.components.common.named_images import LabelledImage
from imgpipe.components.common.storage import known_images, records
from imgpipe.components.image_evaluator.decision import UnlikeImages
from imgpipe.models.features import bank, folds, rows
from imgpipe.models.features.feature_distribution import LONGEST, unit
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.arrays import Floats, Integers

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
    bank_uri: str, vocabulary: Sequence[str], known_hashes: Mapping[str, str] | None
) -> list[UnlikeImages]:
    """Find the new images that are surely unlike the old images of their class, class by class.

    Nothing is found if the bank has no features, or nothing is known.

    Args:
        bank_uri: URI of the feature bank.
        vocabulary: Class names in sorted order.
        known_hashes: Images that the served version knows, by their short hashes; or None.
    """
    if not known_hashes or not bank.read_facts(bank_uri)["dim"]:
        return []
    images = bank.read_rows(bank_uri, names.SPLITS, len(vocabulary), 0)
    old = np.array([known_images.short(name.decode()) in known_hashes for name in images.hashes])
    classes: list[UnlikeImages] = []
    for label, places in unlike_rows(images, old, len(vocabulary)).items():
        name = vocabulary[label]
        hashes = images.hashes[places[:_LISTED]]
        split_and_path = records.places(bank_uri, hashes)
        listed: list[LabelledImage] = [
            {"path": split_and_path[image][1], "label": name, "image_hash": image.decode()}
            for image in hashes.tolist()
        ]
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
    features = features[:, :: math.ceil(features.shape[1] / LONGEST)]  # of a long map some
    fold = np.full(len(images), -1)
    fold[old] = folds.assign(images.labels[old], images.groups[old], folds.FOLDS)
    most = max(_MOST // classes, _MOST_OF_CLASS)
    old_by_label = [
        _evenly_spaced(np.flatnonzero(old & (images.labels == label)), most)
        for label in range(classes)
    ]
    sampled = np.concatenate(old_by_label)
    sampled_features = unit(rows.take(features, sampled))
    ends = np.cumsum([len(places) for places in old_by_label])
    labels_of_new = np.unique(images.labels[~old]).tolist()
    # Two scores are tested for each label, with each of the tails.
    tests = 2 * len(_TAILS) * len(labels_of_new)
    unlike: dict[int, Integers] = {}
    for label in labels_of_new:
        new = np.flatnonzero(~old & (images.labels == label))
        count = len(old_by_label[label])
        compared = np.concatenate([old_by_label[label], new])
        blocks = [
            _similarities(
                unit(rows.take(features, part)), fold[part], sampled_features, fold[sampled], ends
            )
            for part in np.split(compared, range(_ROWS, len(compared), _ROWS))
        ]
        similarities = np.concatenate(blocks)
        own = similarities[:, label].copy()
        similarities[:, label] = -np.inf  # the largest one is then that to another class
        if not np.isfinite(own).all():  # the class has too few old images
            continue
        tested = []
        for scores in (-own, similarities.max(axis=1) - own):
            tested.append((*_test(scores, images.groups[compared], count), scores))
        chance, usual, scores = min(tested, key=lambda test: test[0])
        if chance * tests < _CHANCE:
            of_new = scores[count:]
            ranked = np.argsort(-of_new, kind="stable")
            unlike[label] = new[ranked[: int((of_new > usual).sum())]]
    return unlike


def _evenly_spaced(places: Integers, most: int) -> Integers:
    """Return at most `most` rows: a random sample, because rows are sorted by content hash."""
    return places[:: max(1, math.ceil(len(places) / most))]


def _similarities(
    block: Floats, own: Integers, theirs: Floats, fold: Integers, ends: Integers
) -> Floats:
    """Return the similarity of images to each class, [m, C]; -inf where it has too few images.

    `theirs` are the old images class by class, up to `ends`, and `fold` are their folds. Images of
    the fold `own` are not compared with them; -1 is none.
    """
    cosines = block @ theirs.T
    cosines[own[:, None] == fold] = -np.inf
    similarities = np.full((len(block), len(ends)), -np.inf, np.float32)
    for label, part in enumerate(np.split(cosines, ends[:-1], axis=1)):
        if part.shape[1] >= _NEAREST:
            similarities[:, label] = np.partition(part, -_NEAREST)[:, -_NEAREST:].mean(axis=1)
    return similarities


def _test(scores: Floats, groups: npt.NDArray[np.bytes_], count: int) -> tuple[float, float]:
    """Compare the scores of new images with those of old ones, which are the first `count`.

    Returns the least probability that so many new scores exceed an old one by chance, and that one.
    """
    from scipy.stats import betabinom

    old = _by_group(scores[:count], groups[:count])
    new = _by_group(scores[count:], groups[count:])
    chances = [(1.0, np.inf)]
    for rank in [int(np.ceil(tail * len(old))) for tail in _TAILS]:
        usual = float(np.sort(old)[-rank])
        above = int((new > usual).sum())
        if len(new) >= _FEWEST and above / len(new) - rank / len(old) >= _EXCESS:
            chance = betabinom.sf(above - 1, len(new), rank, len(old) - rank + 1)
            chances.append((float(chance), usual))
    return min(chances)


def _by_group(scores: Floats, groups: npt.NDArray[np.bytes_]) -> Floats:
    """Return the mean score of each group: the images of one film are alike and count as one."""
    _, group = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(group, scores) / np.bincount(group))
