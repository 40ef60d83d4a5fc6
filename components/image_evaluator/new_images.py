"""New images that are surely unlike the old images of their class: cats among daisies, for example.

An image is new if the run that made the served version did not know it. Its similarity to a class
is the mean cosine of its features with those of the class's most similar old images. Two scores
follow: how unlike its own class an image is, which finds pictures of other things, and how much
more it is like another class, which finds images of that class. Old images have scores, too, by the
images of other folds. The number of new images above one of the highest old scores then has a
beta-binomial distribution if they are of the same kind, whatever the features are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from imgpipe.components.storage import known_images, records
from imgpipe.models import feature_names as names
from imgpipe.models.features import bank, folds, rows
from imgpipe.models.features.feature_distribution import LONGEST, unit

#: Probability that a run names anything although its new images are of the same kind as the old.
#: None of 140 draws of clean images (5 to 20 % of a set) was named; of 200 with 10 to 60 images of
#: another set in a class, all were.
_CHANCE = 0.01
_FEWEST = 5  # groups of new images of a class that say anything; an image may be a group by itself
#: Share of a class's new groups, beyond the expected one, that is named. Among thousands of images,
#: harmless differences are more than chance, too.
_EXCESS = 0.05
#: The shares of the old scores above the scores with which the new ones are compared.
_TAILS = (0.01, 0.03, 0.1)
_NEAREST = 5  # old images of a class whose similarities are averaged
_MOST, _MOST_OF_CLASS = 8_000, 20  # old images that are used: of all classes, but so many of each
_LISTED = 500  # images of a class that are listed
_ROWS = 1024  # images that are compared at once

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]


def find(
    bank_uri: str, vocabulary: Sequence[str], known: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    """Find the new images that are surely unlike the old images of their class.

    Args:
        bank_uri: URI of the Examples of FeatureBank; without features, nothing is found.
        vocabulary: Class names in sorted order.
        known: The images that the served version knows, see `known_images.read`.

    Returns:
        For each class with such images ``{"class", "new", "unlike", "images": [{"path", "label",
        "image_hash"}, …]}``: how many new images it has, how many of them are unlike the old ones,
        and the first of these, the most unlike first.
    """
    if not known or not bank.read_dim(bank_uri):
        return []
    images = bank.read_rows(bank_uri, names.SPLITS, len(vocabulary), 0)
    old = np.array([known_images.short(one.decode()) in known for one in images.hashes], bool)
    found = []
    for label, places in unlike(images, old, len(vocabulary)).items():
        name, hashes = vocabulary[label], images.hashes[places[:_LISTED]]
        where = records.places(bank_uri, hashes)
        listed = [
            {"path": where[one][1], "label": name, "image_hash": one.decode()}
            for one in hashes.tolist()
        ]
        new = int((~old & (images.labels == label)).sum())
        found.append({"class": name, "new": new, "unlike": len(places), "images": listed})
    return found


def unlike(images: bank.BankRows, old: npt.NDArray[np.bool_], classes: int) -> dict[int, Integers]:
    """Return the rows of the new images that are surely unlike the old ones, by their label.

    Args:
        images: Rows of the images themselves, without augmented views.
        old: Whether each image is an old one, bool [n].
        classes: Number of classes.

    Returns:
        For each class that has such images their rows, the most unlike first.
    """
    features = images.features[:, :: -(-images.features.shape[1] // LONGEST)]  # of a long map some
    fold = np.full(len(images), -1)
    fold[old] = folds.assign(images.labels[old], images.groups[old], folds.FOLDS)
    most, asked = max(_MOST // classes, _MOST_OF_CLASS), np.unique(images.labels[~old]).tolist()
    # Rows are sorted by content hash, so evenly spaced ones are a random sample.
    by_class = [np.flatnonzero(old & (images.labels == label)) for label in range(classes)]
    by_class = [places[:: -(-len(places) // most) or 1] for places in by_class]
    every, ends = np.concatenate(by_class), np.cumsum([len(places) for places in by_class])
    theirs = unit(rows.take(features, every))
    found: dict[int, Integers] = {}
    for label in asked:
        new, count = np.flatnonzero(~old & (images.labels == label)), len(by_class[label])
        chosen = np.concatenate([by_class[label], new])
        blocks = [
            _similarities(unit(rows.take(features, part)), fold[part], theirs, fold[every], ends)
            for part in np.split(chosen, range(_ROWS, len(chosen), _ROWS))
        ]
        similar = np.concatenate(blocks)
        own = similar[:, label].copy()
        similar[:, label] = -np.inf
        if not np.isfinite(own).all():  # the class has too few old images
            continue
        kinds = (-own, similar.max(axis=1) - own)
        tested = [(*_test(one, images.groups[chosen], count), one) for one in kinds]
        chance, usual, scores = min(tested, key=lambda found: found[0])
        if chance * len(kinds) * len(_TAILS) * len(asked) < _CHANCE:
            ranked = np.argsort(-scores[count:], kind="stable")
            found[label] = new[ranked[: int((scores[count:] > usual).sum())]]
    return found


def _similarities(
    block: Floats, own: Integers, theirs: Floats, fold: Integers, ends: Integers
) -> Floats:
    """Return the similarity of images to each class, [m, C]; -inf where it has too few images.

    Args:
        block: Features of the images, [m, D].
        own: Fold of each of them, [m], which it is not compared with; -1 for none.
        theirs: Features of the old images, [k, D], class by class.
        fold: Their folds, [k].
        ends: Number of old images up to the end of each class, [C].
    """
    cosines = block @ theirs.T
    cosines[own[:, None] == fold] = -np.inf
    found = np.full((len(block), len(ends)), -np.inf, np.float32)
    for label, part in enumerate(np.split(cosines, ends[:-1], axis=1)):
        if part.shape[1] >= _NEAREST:
            found[:, label] = np.partition(part, -_NEAREST)[:, -_NEAREST:].mean(axis=1)
    return found


def _test(scores: Floats, groups: npt.NDArray[np.bytes_], count: int) -> tuple[float, float]:
    """Compare the scores of new images with those of old ones, which are the first `count`.

    Returns:
        The least probability that so many new scores exceed an old one by chance, and this score.
    """
    from scipy.stats import betabinom

    old, new = (_by_group(scores[p], groups[p]) for p in (slice(count), slice(count, None)))
    found = [(1.0, np.inf)]
    for rank in [int(np.ceil(tail * len(old))) for tail in _TAILS]:
        usual = float(np.sort(old)[-rank])
        above = int((new > usual).sum())
        if len(new) >= _FEWEST and above / len(new) - rank / len(old) >= _EXCESS:
            chance = betabinom.sf(above - 1, len(new), rank, len(old) - rank + 1)
            found.append((float(chance), usual))
    return min(found)


def _by_group(scores: Floats, groups: npt.NDArray[np.bytes_]) -> Floats:
    """Return the mean score of each group: the images of one film are alike and count as one."""
    _, group = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(group, scores) / np.bincount(group))
