"""The answers that decide are counted by class, and the surest of each cell are shown."""

import numpy as np
import pytest

from imgpipe.components.common import row_files
from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.common.image_columns import ImageColumns
from imgpipe.components.common.image_row import ImageRow
from imgpipe.components.run_record.metrics import judged_answers, metrics, most_confused
from imgpipe.models.errors import ResourceError
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.certainty import wilson
from imgpipe.models.names import OUT_OF_FOLD_FILE
from tests.answer_tables import answer, table

CLASSES = ("cat", "dog", "owl")


def measured(rows):
    """Return the metrics of these answers."""
    return metrics(table(CLASSES, *rows))


def test_every_answer_is_counted_and_the_surest_of_each_cell_are_shown():
    wrong = [answer(number, 0, 1, 0.5 + number / 100) for number in range(9)]
    right = [answer(100 + number, 2, 2) for number in range(3)]
    figures = measured([*wrong, *right])
    assert figures["count"] == 12 and figures["correct"] == 3
    assert [row["correct"] for row in figures["per_class"].values()] == [0, 0, 3]
    found = judged_answers("folds", 0.9, table(CLASSES, *wrong, *right))
    assert found["confusion"] == [[0, 1, 9], [2, 2, 3]]
    cell = [image["path"] for image in found["images"] if image["predicted"] == "dog"]
    assert cell == ["8.jpg", "7.jpg", "6.jpg"]
    assert len(found["mistakes"]) == 9


def test_the_images_of_a_family_are_not_independent_in_the_interval():
    alone = [answer(number, 0, 0) for number in range(20)]
    family = [row._replace(group=b"film") for row in alone]
    assert measured(alone)["per_class"]["cat"]["ci95"] == list(wilson(20, 20))
    assert measured(family)["per_class"]["cat"]["ci95"] == [0.0, 1.0]
    pairs = [row._replace(group=b"pair %d" % (number // 2)) for number, row in enumerate(alone)]
    low = measured(pairs)["per_class"]["cat"]["ci95"][0]
    assert 0.6 < low < measured(alone)["per_class"]["cat"]["ci95"][0]


def test_of_many_classes_the_matrix_has_those_of_the_most_frequent_mistakes():
    cells = [(7, 40, 9), (40, 7, 5), (3, 4, 8), *((label, label, 90) for label in range(50))]
    assert most_confused(cells, 50) == [3, 4, 7, 40]
    assert most_confused(cells, 12) == list(range(12))


def test_the_folds_answer_for_the_images_that_are_not_predicted(tmp_path):
    probabilities = np.float32([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    OutOfFold(
        np.array([b"a" * 64, b"b" * 64]),
        np.array([0, 1]),
        probabilities,
        np.array([b"a" * 64, b"a" * 64]),
    ).write(str(tmp_path))
    stored = OutOfFold.read(str(tmp_path))
    assert stored is not None
    rows = [
        ImageRow(f"{name}.jpg", split="train", label_index=number, image_hash=name * 64)
        for number, name in enumerate("abc")
    ]
    images = ImageColumns.of(row_files.as_table(rows))
    answers = AnswerTable.read(None, CLASSES, images, stored)
    assert answers.right.tolist() == [True, False]
    assert (answers.splits.tolist(), answers.paths.tolist()) == (["train"] * 2, ["a.jpg", "b.jpg"])
    assert answers.predicted.tolist() == [0, 2]
    assert answers.confidence[1] == pytest.approx(0.6)
    assert answers.of_label[1] == pytest.approx(0.3)
    assert answers.independent() == 1, "the families are those of the folds"
    assert OutOfFold.read(str(tmp_path / "none")) is None
    path = tmp_path / OUT_OF_FOLD_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResourceError, match=r"out_of_fold.npz is damaged .* --from Baseline$"):
        OutOfFold.read(str(tmp_path))
