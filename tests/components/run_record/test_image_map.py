"""On the map, similar images lie side by side."""

import numpy as np

from imgpipe.components.run_record.shown_images import image_map
from imgpipe.models.features.bank import BankRows
from tests.answer_tables import answer, table


def test_on_the_map_images_of_one_class_lie_together_and_each_has_its_own_field():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    features = random.normal(0, 1, (90, 24)) + random.normal(0, 3, (3, 24))[labels]
    hashes = np.sort(np.array([f"{number:064x}".encode() for number in range(90)]))
    rows = BankRows(features.astype(np.float16), labels, np.zeros(90, np.int64), hashes)
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
    hashes = np.array([f"{number:064x}".encode() for number in range(40)])
    features = np.ones((40, 24), np.float16)
    rows = BankRows(features, np.zeros(40, np.int64), np.zeros(40, np.int64), hashes)
    assert image_map(rows, table(["a"], *[answer(i, 0, 0) for i in range(40)])) is None
