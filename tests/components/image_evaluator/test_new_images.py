"""New images of another kind are named with their paths, and those of the same kind are not."""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pytest

from imgpipe.components.common.images import kept
from imgpipe.components.common.storage import manifest
from imgpipe.components.image_evaluator import new_images
from tests.models.banks import rows_of, write_facts

CLASSES = ("daisy", "rose", "tulip")
_CENTRES = np.random.default_rng(7).normal(0, 1, (5, 32))
_CAT = 3  # a centre that no class has


def _images(kinds: Iterable[int], seed: int = 0) -> np.ndarray:
    """Return features [n, 32] of images of these kinds, which are classes or `_CAT`."""
    places = list(kinds)
    return _CENTRES[places] + np.random.default_rng(seed).normal(0, 0.7, (len(places), 32))


def _known(images: int) -> Mapping[str, str]:
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(images)]
    return {manifest.short_hash(digest): "train" for digest in hashes}


def _found(bank, new: list[tuple[int, int]], old: int = 240, seed: int = 0):
    """Look at new images, given as pairs of the kind and the label, beside old ones."""
    labels = [number % 3 for number in range(old)]
    kinds = labels + [kind for kind, _ in new]
    uri = bank(_images(kinds, seed), labels + [label for _, label in new])
    return new_images.unlike_images(uri, kept(uri), CLASSES, _known(old))


def test_cats_among_daisies_are_named_and_the_most_unlike_come_first(bank) -> None:
    (found,) = _found(bank, [(_CAT, 0)] * 20 + [(0, 0)] * 80 + [(1, 1)] * 30)
    assert (found["class"], found["new"]) == ("daisy", 100)
    assert found["unlike"] == len(found["images"]) and 20 <= found["unlike"] <= 23
    first = found["images"][:20]
    assert {row["path"] for row in first} == {f"0/{number}.jpg" for number in range(240, 260)}
    assert {row["label"] for row in first} == {"class 0"}, "as the table of images says"
    assert first[0]["image_hash"] not in {row["image_hash"] for row in first[1:]}


@pytest.mark.parametrize("kind", [_CAT, 1])
def test_ten_images_are_enough_of_another_kind_or_of_another_class(bank, kind) -> None:
    (found,) = _found(bank, [(kind, 0)] * 10)
    assert (found["class"], found["new"], found["unlike"]) == ("daisy", 10, 10)


def test_the_new_images_that_are_unlike_by_chance_alone_are_not_counted(bank) -> None:
    labels = [number % 3 for number in range(240)] + [0] * 460
    numbers = []
    for seed in range(6):
        features = _images(labels, seed)
        features[240:300] += 0.75 * (_CENTRES[_CAT] - _CENTRES[0])  # 60 are half unlike
        uri = bank(features, labels)
        (found,) = new_images.unlike_images(uri, kept(uri), CLASSES, _known(240))
        numbers.append(found["unlike"])
    assert max(numbers) <= 60 and np.mean(numbers) > 45


def test_clean_images_are_not_named(bank) -> None:
    draws = (_found(bank, [(n % 3, n % 3) for n in range(45)], seed=seed) for seed in range(20))
    assert sum(map(bool, draws)) <= 1


@pytest.mark.parametrize(
    ("new", "old"),
    [
        pytest.param([(_CAT, 0)] * 4, 240, id="few new images"),
        pytest.param([(_CAT, 0)] * 20, 12, id="few old images"),
        pytest.param([(_CAT, 0)] * 20, 0, id="other images altogether"),
        pytest.param([], 240, id="nothing new"),
    ],
)
def test_where_little_can_be_said_nothing_is(bank, new, old) -> None:
    assert _found(bank, new, old) == []


def test_without_known_images_or_features_nothing_is_said(bank) -> None:
    uri = bank(_images([0] * 60), [0] * 60)
    assert new_images.unlike_images(uri, kept(uri), CLASSES, None) == []
    write_facts(uri, [], "over bank.budget")
    assert new_images.unlike_images(uri, kept(uri), CLASSES, _known(30)) == []


@pytest.mark.parametrize(("films", "named"), [(30, True), (2, False)])
def test_a_film_counts_as_one_image(films, named) -> None:
    """Thirty new images of two films are unlike the old ones, as two single images may be."""
    labels = np.array([0, 1] * 100 + [0] * 30)
    features = _images([*labels[:200], *[_CAT] * 30])
    groups = [f"old{n}" for n in range(200)] + [f"new{n % films}" for n in range(30)]
    rows = rows_of(features, labels, np.array(groups, "S"))
    assert bool(new_images.unlike_rows(rows, np.arange(230) < 200, 2)) is named
