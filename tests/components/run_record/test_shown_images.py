"""Galleries have random and the least typical images; on the map, similar ones are neighbours."""

import numpy as np
import pytest

from imgpipe.components.common.images import find, kept
from imgpipe.components.run_record.shown_images import distances, galleries, image_map, sampled
from imgpipe.models import names
from imgpipe.models.features.bank import read_rows
from tests import image_tables
from tests.answer_tables import answer, table
from tests.models.banks import clouds, rows_of

CLASSES = ("cat", "dog", "owl")


def galleries_of(uri, doubted=()):
    """Return the galleries of a bank, in which the labels of some files are in doubt."""
    rows = read_rows(uri, names.SPLITS, 3, 0)
    images = kept(uri)
    in_doubt = find(images, rows.hashes)["path"].isin(doubted).to_numpy()
    return galleries(rows, images, CLASSES, distances(rows, 3).own, in_doubt)


def test_the_least_typical_images_come_last_and_no_image_comes_twice(bank):
    features, labels = clouds(120, apart=3)
    strange = int(np.flatnonzero(labels == 1)[5])
    features[strange] *= -1
    uri = bank(features, labels)
    found = galleries_of(uri)
    assert [row["count"] for row in found] == np.bincount(labels).tolist()
    dogs = found[1]
    assert len(dogs["sample"]) == 9 and len(dogs["least"]) == 3
    assert f"/{strange}.jpg" in dogs["least"][0]["path"]
    paths = [image["path"] for image in (*dogs["sample"], *dogs["least"])]
    assert len(set(paths)) == 12
    nearest = [image["path"] for image in dogs["typical"]]
    assert len(set(nearest)) == 3 and not set(nearest) & {row["path"] for row in dogs["least"]}
    without = galleries_of(uri, doubted=nearest[:1])[1]["typical"]
    assert [image["path"] for image in without[:2]] == nearest[1:]


def test_a_class_of_one_image_has_a_row_and_no_distance_is_a_number_that_is_none(bank):
    features, labels = clouds(120, apart=3)
    labels[labels == 2] = 1
    labels[7] = 2
    uri = bank(features, labels)
    rows = read_rows(uri, names.SPLITS, 3, 0)
    assert np.isfinite(distances(rows, 3)).all()
    assert [len(row["sample"]) for row in galleries_of(uri)] == [9, 9, 1]


def test_without_features_the_same_images_are_chosen_in_any_order():
    listed = image_tables.table(
        image_tables.row(f"cat/{number}.jpg", "cat", image_hash=f"{number * 7919 % 997:064x}")
        for number in range(50)
    )
    found = sampled(listed, CLASSES)
    assert found == sampled(listed[::-1], CLASSES)
    cats, dogs, _ = found
    assert (cats["count"], len(cats["sample"]), cats["least"]) == (50, 12, [])
    assert (dogs["count"], dogs["sample"]) == (0, [])


@pytest.mark.parametrize(("classes", "images"), [(3, 12), (100, 6), (1000, 4)])
def test_of_more_classes_fewer_images_are_shown(classes, images):
    vocabulary = [f"{number:04}" for number in range(classes)]
    rows = (image_tables.row(f"{n}.jpg", "0000", image_hash=f"{n:064x}") for n in range(20))
    listed = image_tables.table(rows)
    assert len(sampled(listed, vocabulary)[0]["sample"]) == images


def test_on_the_map_images_of_one_class_lie_together_and_each_has_its_own_field():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    features = random.normal(0, 1, (90, 24)) + random.normal(0, 3, (3, 24))[labels]
    rows = rows_of(features, labels)
    answers = [answer(number, 0, int(number <= 9)) for number in range(90)]
    sample = table(["a", "b"], *answers)
    found = image_map(rows, sample)
    assert found == image_map(rows, sample), "it is the same each time"
    fields = np.array([(image["column"], image["row"]) for image in found["images"]])
    assert len(np.unique(fields, axis=0)) == 90
    assert fields.max(axis=0)[0] < found["columns"] and fields.max(axis=0)[1] < found["rows"]
    assert sum(not image["right"] for image in found["images"]) == 10
    apart = ((fields[:, None] - fields[None]) ** 2).sum(axis=-1)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, 1:5]
    assert (labels[nearest] == labels[:, None]).mean() > 0.8
    assert image_map(rows, table(["a", "b"], *answers[:12])) is None, "too few images"


def test_images_that_hardly_differ_have_no_map():
    rows = rows_of(np.ones((40, 24)), np.zeros(40, np.int64))
    assert image_map(rows, table(["a"], *[answer(i, 0, 0) for i in range(40)])) is None
