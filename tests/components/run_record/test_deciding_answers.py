"""The answers that decide are counted by class, and the surest of each cell are shown."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.components.common.prediction import StoredPrediction
from imgpipe.components.common.shares import wilson
from imgpipe.components.run_record.deciding_answers import (
    ShownAnswers,
    fold_predictions,
    most_confused,
    summarise,
)
from imgpipe.components.run_record.metrics import Table
from imgpipe.models.errors import ResourceError
from imgpipe.models.head.out_of_fold import OutOfFold
from imgpipe.models.names.model_names import OUT_OF_FOLD_FILE

CLASSES = ("cat", "dog", "owl")


def answer(
    number: int, label: int, predicted: int, sure: float = 0.9, **values
) -> StoredPrediction:
    """Return the prediction for one image."""
    return StoredPrediction(
        f"{number}.jpg", f"{number:064x}", label, predicted, sure, sure, **values
    )


def summary(rows):
    """Return the summary of these answers."""
    shown = ShownAnswers()
    table = Table(CLASSES, shown.counted(rows))
    return summarise("folds", 0.9, CLASSES, table, shown)


def test_every_answer_is_counted_and_the_surest_of_each_cell_are_shown():
    wrong = [answer(number, 0, 1, 0.5 + number / 100) for number in range(9)]
    right = [answer(100 + number, 2, 2) for number in range(3)]
    found = summary([*wrong, *right])
    assert found["every"]["count"] == 12 and found["every"]["correct"] == 3
    assert [row["correct"] for row in found["classes"]] == [0, 0, 3]
    assert found["confusion"] == [(0, 1, 9), (2, 2, 3)]
    cell = [image["path"] for image in found["images"] if image["predicted"] == 1]
    assert cell == ["8.jpg", "7.jpg", "6.jpg", "5.jpg"]
    assert len(found["mistakes"]) == 9


def test_the_images_of_a_family_count_once_in_the_interval():
    alone = [answer(number, 0, 0) for number in range(20)]
    family = [answer(number, 0, 0, group="film") for number in range(20)]
    found = summary([*alone, *family])
    assert found["classes"][0]["ci95"] == list(wilson(21, 21))
    wide = summary(family)["classes"][0]["ci95"]
    assert wide[0] < 0.3 < summary(alone)["classes"][0]["ci95"][0]


def test_of_many_classes_the_matrix_has_those_of_the_most_frequent_mistakes():
    cells = [(7, 40, 9), (40, 7, 5), (3, 4, 8), *((label, label, 90) for label in range(50))]
    assert most_confused(cells, 50) == [3, 4, 7, 40]
    assert most_confused(cells, 12) == list(range(12))


def test_the_answers_of_the_folds_have_labels_and_paths(tmp_path):
    probabilities = np.float32([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    OutOfFold(
        np.array([b"a" * 64, b"b" * 64]),
        np.array([0, 1]),
        probabilities,
        np.array([b"cat", b"owl"]),
    ).write(str(tmp_path))
    stored = OutOfFold.read(str(tmp_path))
    assert stored is not None
    first, second = fold_predictions(stored, {b"a" * 64: ("train", "cat/1.jpg")})
    assert (first.path, first.correct) == ("cat/1.jpg", True)
    assert (second.label_index, second.predicted, second.correct) == (1, 2, False)
    assert second.confidence == pytest.approx(0.6) and second.of_label == pytest.approx(0.3)
    assert OutOfFold.read(str(tmp_path / "none")) is None
    path = tmp_path / OUT_OF_FOLD_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResourceError, match=r"out_of_fold.npz is damaged .* --from Baseline$"):
        OutOfFold.read(str(tmp_path))
