"""Images of another set are found by their features among images of the model's own set.

Measured with EfficientNet-Lite0 on up to 2,000 images each of rps_photos, cats_dogs, flowers_128,
sign_digits and horses_or_humans, 60 % for the distribution and 15 % held out, ten divisions: of 150
samples of the model's own set none was over its limit, and of 200 mixtures of 1,969 images with 9 %
of another set 190 were; the ten that were not found are sign_digits among rps_photos, both of which
show hands. With 160 images for the distribution and 60 held out it was 1 of 150, and 105 of 200.

The share of images that are far from the training data finds fewer images of another set. With 340
images of each of the five sets for the distribution and 140 held out, six divisions, it was over
its limit in 76, 83, 85 and 89 % of 240 mixtures each of 400 or 2,000 images with 3, 4, 5 and 9 % of
another set, and in 2 of 360 samples of the same set; the other share in 9, 17, 30 and 95 %, and 1
of 360. Sets that are alike are not found: digits shown by hands among other hands, horses among
cats and dogs.

This trial uses fewer images of three sets, so that it takes a minute.
"""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from imgpipe.models.features import feature_distribution
from imgpipe.models.features.extractor import FeatureExtractor
from imgpipe.pipeline.request_drift import comparison
from imgpipe.pipeline.request_drift.comparison import MIXTURE_LIMIT
from imgpipe.pipeline.request_drift.share import Share

pytestmark = pytest.mark.slow
SETS = {"hands": "rps_photos/training", "cats": "cats_dogs", "flowers": "flowers_128"}
_IMAGES = 600
_ASKED = 400
_DIVISIONS = 3
_STRANGE = 0.092  # share of the images from another set
_FEW = 0.05  # a smaller share, which only the share of far images finds


@pytest.fixture(scope="module")
def features(shared_data):
    """Return features and labels of some images of each set, in random order."""
    extractor = FeatureExtractor()
    found = {}
    for name, folder in SETS.items():
        files = sorted((shared_data / folder).glob("*/*.jpg"))
        if len(files) < _IMAGES:
            pytest.skip(f"needs ../shared/data/{folder}")
        chosen = np.random.default_rng(0).permutation(len(files))[:_IMAGES]
        files = [files[place] for place in chosen]
        images = [file.read_bytes() for file in files]
        hashes = [hashlib.sha256(image).hexdigest() for image in images]
        rows = np.concatenate(extractor.extract(images, hashes, [[0]] * len(images)))
        found[name] = rows, np.array([file.parent.name for file in files])
    return found


def over(distribution, asked):
    """Return whether some of the images are taken for images of another kind."""
    number = int((distribution.scores(asked) > distribution.threshold).sum())
    now = Share(number, len(asked))
    was = Share(distribution.held_out_above, distribution.held_out)
    return now.value - was.value > MIXTURE_LIMIT + now.by_chance(was)


def far(distribution, asked):
    """Return whether too many of the images are far from the training data."""
    number = int((distribution.scores(asked) > distribution.far).sum())
    return comparison.far_images(Share(number, len(asked)), distribution.held_out).over


@pytest.fixture(scope="module")
def divided(features):
    """Return a distribution for each set and division, and features that it does not know.

    The latter have the shape [images, features] and are of the same set.
    """
    found = {}
    for name, seed in itertools.product(SETS, range(_DIVISIONS)):
        rows, labels = features[name]
        order = np.random.default_rng(seed).permutation(len(labels))
        train, held_out, rest = np.split(order, [_IMAGES // 2, 3 * _IMAGES // 4])
        _, numbers = np.unique(labels, return_inverse=True)
        known = feature_distribution.fit(rows[train], numbers[train], rows[held_out])
        found[name, seed] = known, rows[rest]
    return found


def test_images_of_the_same_set_are_of_the_same_kind(divided):
    assert sum(over(known, own) or far(known, own) for known, own in divided.values()) == 0


@pytest.mark.parametrize(("judge", "share"), [(over, _STRANGE), (far, _FEW)])
def test_images_of_another_set_are_found_in_a_mixture(features, divided, judge, share):
    found = {}
    for name, other in itertools.permutations(SETS, 2):
        for seed in range(_DIVISIONS):
            known, own = divided[name, seed]
            drawing = np.random.default_rng(seed)
            strange = round(share * _ASKED)
            asked = np.concatenate(
                [
                    own[drawing.integers(0, len(own), _ASKED - strange)],
                    features[other][0][drawing.integers(0, _IMAGES, strange)],
                ]
            )
            found[name, other, seed] = judge(known, asked)
    assert sum(found.values()) >= 0.8 * len(found), found
