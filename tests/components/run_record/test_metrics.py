"""Metrics, the answers that decide and slices, compared with values computed by hand."""

import math
import tracemalloc

import numpy as np
import pytest

from imgpipe.components.common.answer_table import AnswerTable
from imgpipe.components.report.sections import accuracy
from imgpipe.components.run_record.metrics import judged_answers, metrics, most_confused, slices
from imgpipe.models.errors import ResourceError
from imgpipe.models.head.answers import OutOfFold
from imgpipe.models.head.certainty import wilson
from imgpipe.models.names import OUT_OF_FOLD_FILE
from tests import image_tables
from tests.answer_tables import answer, table
from tests.run_results import result

CLASSES = ("cat", "dog", "owl")


def said(i, label, probabilities):
    """Return the answer to image i with these probabilities of the classes."""
    best = int(np.argmax(probabilities))
    return answer(i, label, best, probabilities[best], probabilities[label])


@pytest.fixture
def three():
    """Return answers for five images, of which one b is taken for a and one for c."""
    return table(
        ["a", "b", "c"],
        said(0, 0, (0.8, 0.1, 0.1)),
        said(1, 0, (0.6, 0.3, 0.1)),
        said(2, 1, (0.7, 0.2, 0.1)),
        said(3, 1, (0.1, 0.4, 0.5)),
        said(4, 2, (0.1, 0.1, 0.8)),
    )


def test_recall_precision_and_f1_per_class_agree_with_hand_computation(three):
    per_class = metrics(three)["per_class"]
    expected = {
        "a": {"count": 2, "recall": 1.0, "precision": 2 / 3, "f1": 0.8},
        "b": {"count": 2, "recall": 0.0, "precision": None, "f1": 0.0},
        "c": {"count": 1, "recall": 1.0, "precision": 1 / 2, "f1": 2 / 3},
    }
    for name, figures in expected.items():
        found = {key: per_class[name][key] for key in figures}
        assert found == pytest.approx(figures, nan_ok=True), name
    assert per_class["a"]["ci95"] == list(wilson(2, 2))


def test_accuracy_and_log_loss_by_hand(three):
    summary = metrics(three)
    assert (summary["count"], summary["correct"], summary["accuracy"]) == (5, 3, 0.6)
    expected = -sum(map(math.log, (0.8, 0.6, 0.2, 0.4, 0.8))) / 5
    assert summary["loss"] == pytest.approx(expected)


def test_ece_by_hand(three):
    # Confidences 0.8, 0.6, 0.7, 0.5, 0.8 lie in bins 12, 9, 10, 7, 12 of 15.
    gaps = {12: (0.8, 1.0, 2), 9: (0.6, 1.0, 1), 10: (0.7, 0.0, 1), 7: (0.5, 0.0, 1)}
    expected = sum(abs(conf - right) * n / 5 for conf, right, n in gaps.values())
    assert metrics(three)["ece"] == pytest.approx(expected)


def test_mistakes_come_most_confident_first(three):
    found = judged_answers("folds", 0.9, three)["mistakes"]
    assert [(row["path"], row["label"], row["predicted"]) for row in found] == [
        ("2.jpg", "b", "a"),
        ("3.jpg", "b", "c"),
    ]
    assert found[0]["probability"] == pytest.approx(0.7)
    assert found[0]["image_hash"] == f"{2:064x}"


def test_a_table_of_many_answers_needs_little_memory():
    rows = (answer(i, i % 2, 1, 0.9, 0.1) for i in range(50_000))
    tracemalloc.start()
    try:
        found = table(["a", "b"], *rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000 * 1_200
    assert metrics(found)["accuracy"] == 0.5
    assert len(judged_answers("folds", 0.9, found)["mistakes"]) == 48


def measured(rows):
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
    family = [row._replace(family=b"film") for row in alone]
    assert measured(alone)["per_class"]["cat"]["ci95"] == list(wilson(20, 20))
    assert measured(family)["per_class"]["cat"]["ci95"] == [0.0, 1.0]
    pairs = [row._replace(family=b"pair %d" % (number // 2)) for number, row in enumerate(alone)]
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
        image_tables.row(
            f"{name}.jpg", split="train", label_index=number, image_hash=name * 64, family=family
        )
        for number, (name, family) in enumerate({"a": "film", "b": "film", "c": ""}.items())
    ]
    images = image_tables.kept(rows)
    answers = AnswerTable.read(None, CLASSES, images, stored)
    assert answers.right.tolist() == [True, False]
    assert (answers.splits.tolist(), answers.paths.tolist()) == (["train"] * 2, ["a.jpg", "b.jpg"])
    assert answers.predicted.tolist() == [0, 2]
    assert answers.confidence[1] == pytest.approx(0.6)
    assert answers.of_label[1] == pytest.approx(0.3)
    assert answers.independent() == 1, "both are of one film, as the table of images says"
    assert OutOfFold.read(str(tmp_path / "none")) is None
    path = tmp_path / OUT_OF_FOLD_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResourceError, match=r"out_of_fold.npz is damaged .* --from ImageTrainer$"):
        OutOfFold.read(str(tmp_path))


def row(path, label=0, correct=True, **described):
    predicted = label if correct else label + 1
    values = {"format": b"JPEG", "path": path, "image_hash": path.encode()} | described
    return answer(0, label, predicted, **values)


def sliced(rows):
    return slices(table(["a", "b", "c"], *rows))


def summary(rows):
    return {group["name"]: group["rows"] for group in sliced(rows)}


def test_formats_are_counted_and_the_most_frequent_comes_first():
    rows = [row("a/1", format=b"PNG", correct=False)]
    rows += [row(f"a/{i}", format=b"JPEG") for i in range(3)]
    [(name, found)] = summary(rows).items()
    assert name == "format"
    assert [(one["value"], one["count"], one["correct"]) for one in found] == [
        ("JPEG", 3, 3),
        ("PNG", 1, 0),
    ]
    assert found[0]["ci95"] == list(wilson(3, 3, 0.05 / 2)), "the chance is divided among them"


def test_frames_of_one_film_make_the_interval_of_a_slice_wider():
    rows = [row(f"a/{i}", format=b"PNG") for i in range(20)]
    rows += [row(f"b/{i}", format=b"JPEG", correct=i > 1) for i in range(20)]
    films = [one._replace(family=b"film %d" % (i // 5)) for i, one in enumerate(rows)]
    alone = summary(rows)["format"][0]["ci95"]
    assert summary(films)["format"][0]["ci95"][0] < alone[0] - 0.1


def test_slices_of_numbers_are_thirds_of_the_images():
    rows = [row(f"a/{i}", brightness=0.1 + i / 1000, correct=i >= 200) for i in range(600)]
    thirds = summary(rows)["brightness"]
    assert [one["count"] for one in thirds] == [200, 200, 200]
    assert [one["value"] for one in thirds] == ["up to 0.299", "0.299 to 0.499", "above 0.499"]
    assert [one["correct"] for one in thirds] == [0, 200, 200]


def test_images_of_mostly_one_size_give_no_slice_of_a_single_image():
    rows = [row(f"a/{i}", brightness=0.2) for i in range(90)]
    rows += [row("b/0", brightness=0.4, correct=False)]
    rows += [row(f"c/{i}", brightness=0.8) for i in range(9)]
    assert [one["count"] for one in summary(rows)["brightness"]] == [90, 10]


def test_folders_are_slices_only_if_they_are_not_the_classes():
    assert summary([row("cat/1"), row("dog/1", label=1)]) == {}
    assert summary([row("a/1"), row("a/2", brightness=0.0, width=0)]) == {}, "not measured"
    mixed = [row("phone/1"), row("phone/2", label=1), row("camera/1", correct=False)]
    assert [one["value"] for one in summary(mixed)["folder"]] == ["phone", "camera"]


def test_slices_are_compared_with_all_images_not_with_those_shown():
    rows = [row(f"a{i}/{n}", n % 2, correct=n < 70) for i in range(12) for n in range(100)]
    rows += [row(f"b{i}/{n}", n % 2) for i in range(100) for n in range(50)]
    [_, shown] = accuracy.slices.build(result() | {"slices": sliced(rows)})
    assert [cells[3].words for cells in shown.rows] == ["0.700 weaker"] * 12


def test_large_numbers_are_written_in_full():
    rows = [row(f"a/{i}", width=1000 + 10 * i, height=4000) for i in range(300)]
    assert [one["value"] for one in summary(rows)["shorter side"]] == [
        "up to 1,990",
        "1,990 to 2,990",
        "above 2,990",
    ]
